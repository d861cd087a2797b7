/* SPDX-License-Identifier: BSD-3-Clause */
/* hand_out.c - clusters for those who ask for them.
 *
 * Owns      taking clusters out of windows, and taking them back.
 * Method    from the window of the stream; if there is none, or it is used
 *           up, one is reserved first (search.c).
 * Locks     space.lock while clusters are taken; claim_lock over reserving.
 */
#include "config.h"

#include "alloc/space_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/plant.h"

/* The first cluster of the window that is taken for a table: it must be known
 * as one before it counts.  Returns 0, Q2_SPACE_SETTLE_FIRST or -1.
 */
static int
protect_locked (struct q2_space *s, const struct q2_space_window *w,
                uint64_t cluster, struct qcow2_error *err)
{
  q2_mutex_check_held (&s->lock);
  /* All clusters of the window were free when it was reserved, and nobody
   * else has got them since.
   */
  if (!q2_flight_is_past (s->flight, w->stamp))
    return Q2_SPACE_SETTLE_FIRST;
  return q2_overlap_add (s->overlap, cluster << s->geo->cluster_bits,
                         s->geo->cluster_size, Q2_META_L2, err);
}

/* Small tables are written many at once, before they are taken. */
#define WRITE_AT_ONCE (UINT64_C (64) << 10)
#define MAX_SMALL (WRITE_AT_ONCE / 8)

/* Whether table number i of the window has to be written with others, before
 * it is taken: only where nothing has ever been in use, so that what an entry
 * of a damaged image may still name is not written to without need.
 */
static bool
is_written_first (const struct q2_space *s, const struct q2_space_window *w,
                  uint64_t i)
{
  return s->geo->cluster_size <= MAX_SMALL && w->zero && !w->alone &&
    i >= w->written;
}

/* Write the next tables of their window.  If that fails each is written on
 * its own, and only that is an error.  Called with claim_lock: nobody gets
 * these clusters meanwhile, neither as tables nor, if the window is dropped,
 * as anything else.
 */
static void
write_tables (struct q2_space *s, const struct q2_io *io)
{
  const unsigned bits = s->geo->cluster_bits;
  struct q2_space_window *w;
  struct qcow2_error ignored;
  uint64_t i, start = 0, nr = 0;

  q2_mutex_lock (&s->lock);
  w = q2_space_find_window_locked (s, Q2_SPACE_TABLES, &i);
  if (w != NULL && is_written_first (s, w, i)) {
    start = w->start;
    nr = q2_min (w->size - i, WRITE_AT_ONCE >> bits);
  }
  q2_mutex_unlock (&s->lock);
  if (nr == 0)
    return;
  if (q2_io_write_zeros (io, nr << bits, (start + i) << bits, QCOW2_IO_L2,
                         &ignored) == -1)
    nr = 0;
  q2_mutex_lock (&s->lock);
  q2_check (i + nr <= Q2_SPACE_MAX_WINDOW);
  if (w->start == start && w->stream == Q2_SPACE_TABLES) {
    w->written = i + nr;
    w->alone = nr == 0;
  }
  q2_mutex_unlock (&s->lock);
}

/* What is reserved counts as 0 until it is handed out; true if that is not in
 * memory.
 */
static bool
is_free_locked (struct q2_space *s, uint64_t cluster)
{
  struct q2_need ignored;
  uint64_t value;

  q2_mutex_check_held (&s->lock);
  return !q2_refcounts_get_locked (&s->rc, cluster, &value, &ignored) ||
    value == 0;
}

/* Take from the stream's window; ret->nr is 0 if it has nothing.  Returns 0,
 * or why nothing can be taken.
 */
static int
take_locked (struct q2_space *s, uint64_t stream, uint64_t want,
             struct q2_space_run *ret, struct q2_need *need,
             struct qcow2_error *err)
{
  const bool table = stream == Q2_SPACE_TABLES;
  uint64_t i, max;
  struct q2_space_window *const w =
    q2_space_find_window_locked (s, stream, &i);
  int r = 0;

  q2_mutex_check_held (&s->lock);
  ret->nr = 0;
  need->slice_off = Q2_SPACE_NONE;
  if (w == NULL || (table && is_written_first (s, w, i)))
    return 0;
  if (!q2_assume (i < w->size && w->start > 0, err) ||
      !q2_assume (is_free_locked (s, w->start + i), err))
    return -1;
  /* Also if it is only waited for: the window stays. */
  w->last_use = ++s->clock;
  ret->cluster = w->start + i;
  ret->zero = table ? i < w->written : w->zero;
  ret->unused = w->zero || Q2_PLANTED (Q2_PLANT_FRESH_REUSED);
  max = table ? 1 : q2_min (want, q2_space_next_taken (w, i, true) - i);
  if (table)
    r = protect_locked (s, w, ret->cluster, err);
  if (r != 0)
    return r;
  ret->nr = q2_space_set_run_locked (s, ret->cluster, max, 1, need);
  if (table && ret->nr == 0)
    q2_overlap_remove (s->overlap, ret->cluster << s->geo->cluster_bits, 1);
  for (uint64_t n = 0; n < ret->nr; ++n)
    w->taken[(i + n) / 64] |= UINT64_C (1) << (i + n) % 64;
  if (!q2_check (ret->nr <= w->left))
    ret->nr = w->left;
  w->left -= ret->nr;
  return 0;
}

int
q2_space_alloc (struct q2_space *s, const struct q2_io *io, uint64_t stream,
                uint64_t want, struct q2_space_run *ret,
                struct qcow2_error *err)
{
  const uint64_t id = stream == Q2_SPACE_NO_STREAM ? Q2_SPACE_TABLES : stream;
  int r = 0;

  while (r == 0) {
    struct q2_need need;

    q2_mutex_lock (&s->lock);
    r = take_locked (s, id, want, ret, &need, err);
    q2_mutex_unlock (&s->lock);
    if (r != 0 || ret->nr > 0)
      break;
    if (need.slice_off != Q2_SPACE_NONE) {
      r = q2_space_load (s, io, &need, err);
      continue;
    }
    q2_mutex_lock (&s->claim_lock);
    r = q2_space_claim (s, io, id, want, err);
    if (r == 0 && id == Q2_SPACE_TABLES)
      write_tables (s, io);
    q2_mutex_unlock (&s->claim_lock);
  }
  return r;
}

void
q2_space_undo (struct q2_space *s, const struct q2_io *io, uint64_t cluster,
               uint64_t nr)
{
  struct qcow2_error ignored;

  if (!q2_check (cluster > 0))  /* the header's is never handed out */
    return;
  while (nr > 0) {
    struct q2_need need;
    uint64_t n;

    q2_mutex_lock (&s->lock);
    n = q2_space_set_run_locked (s, cluster, nr, 0, &need);
    if (n > 0)
      q2_space_note_freed_locked (s, cluster, n);
    q2_mutex_unlock (&s->lock);
    if (n == 0 && q2_space_load (s, io, &need, &ignored) != 0)
      return;
    cluster += n;
    nr -= n;
  }
}
