/* SPDX-License-Identifier: BSD-3-Clause */
/* space.c - where new clusters go.
 *
 * Owns      the refcounts of an image that is written to, what is reserved
 *           for streams, and handing it out.
 * Method    a stream is somebody who fills the disk cluster after cluster,
 *           with several requests at once, so nearly in order.  When it
 *           comes back for more, a larger window of the file is reserved
 *           for it, so that several streams do not interleave, and each
 *           cluster has its place there, so that it does not matter who
 *           comes first.  A reservation is only a note here: its refcounts
 *           are still 0.
 * Locks     see space_impl.h.
 */
#include "config.h"

#include "alloc/space_impl.h"

#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- Life ----------------------------------------------------------- */

/* As for L2 tables: in the file, all of it, and used once. */
static int
add_block (struct q2_space *s, const struct q2_io *io, uint64_t host_off,
           struct qcow2_error *err)
{
  const uint64_t size = s->geo->cluster_size;

  if (host_off >= q2_io_size (io) ||
      q2_overlap_class (s->overlap, host_off) == Q2_META_REFCOUNT_BLOCK)
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                    "the refcount block at offset 0x%" PRIx64 " is not in "
                    "the file, or used twice; repair the image with "
                    "'qemu-img check -r all'", host_off);
  if (q2_overlap_add (s->overlap, host_off, size, Q2_META_REFCOUNT_BLOCK,
                      err) == -1)
    return -1;
  return q2_io_grow (io, host_off + size, err);
}

static int
add_blocks (struct q2_space *s, const struct q2_io *io,
            struct qcow2_error *err)
{
  const struct q2_refcounts *const rc = &s->rc;

  for (uint64_t i = 0; i < rc->table_entries; ++i)
    if (rc->table[i] != 0 && add_block (s, io, rc->table[i], err) == -1)
      return -1;
  return 0;
}

struct q2_space *
q2_space_new (const struct q2_geometry *geo, const struct q2_header *h,
              struct q2_overlap *overlap, struct q2_flight *flight,
              const struct q2_io *io, struct qcow2_error *err)
{
  struct q2_space *s = calloc (1, sizeof *s);

  if (s == NULL) {
    q2_fail_nomem (err, "the refcounts");
    return NULL;
  }
  s->geo = geo;
  s->overlap = overlap;
  s->flight = flight;
  s->lowest_freed = s->lowest_skipped = Q2_SPACE_NONE;
  s->never_used = q2_ceil_shift (q2_io_size (io), geo->cluster_bits);
  pthread_mutex_init (&s->claim_lock, NULL);
  pthread_mutex_init (&s->solid_lock, NULL);
  pthread_mutex_init (&s->lock, NULL);
  if (q2_known_init (&s->known, err) == -1 ||
      q2_refcounts_init (&s->rc, geo, h, io, err) == -1 ||
      add_blocks (s, io, err) == -1) {
    q2_space_free (s);
    return NULL;
  }
  return s;
}

void
q2_space_free (struct q2_space *s)
{
  if (s == NULL)
    return;
  q2_refcounts_destroy (&s->rc);
  q2_known_destroy (&s->known);
  pthread_mutex_destroy (&s->lock);
  pthread_mutex_destroy (&s->solid_lock);
  pthread_mutex_destroy (&s->claim_lock);
  free (s);
}

/* ---- Refcounts ------------------------------------------------------ */

static int
make_solid (struct q2_space *s, const struct q2_io *io,
            const struct q2_need *need, struct qcow2_error *err)
{
  int r;

  pthread_mutex_lock (&s->solid_lock);
  r = q2_refcounts_make_solid (&s->rc, io, need, &s->lock, err);
  pthread_mutex_unlock (&s->solid_lock);
  return r;
}

int
q2_space_load (struct q2_space *s, const struct q2_io *io,
               const struct q2_need *need, struct qcow2_error *err)
{
  enum q2_put put = Q2_PUT_DONE;

  if (need->solid)
    return make_solid (s, io, need, err);
  /* What is out of date once was read with too much around it: a slice that
   * is written and missing has been all of that while it was read.
   */
  do {
    const bool wide = put == Q2_PUT_DONE;
    struct q2_need_bytes bytes;

    if (q2_refcounts_read (&s->rc, io, need, wide, &bytes, err) == -1)
      return -1;
    pthread_mutex_lock (&s->lock);
    put = q2_refcounts_put_locked (&s->rc, &bytes);
    pthread_mutex_unlock (&s->lock);
  } while (put == Q2_PUT_OUT_OF_DATE);
  return put == Q2_PUT_NO_ROOM ? Q2_SPACE_COMMIT_FIRST : 0;
}

uint64_t
q2_space_set_run_locked (struct q2_space *s, uint64_t cluster, uint64_t nr,
                         uint64_t value, struct q2_need *need)
{
  uint64_t i;

  for (i = 0; i < nr; ++i) {
    if (!q2_refcounts_set_locked (&s->rc, cluster + i, value, need))
      break;
    if (value > 0)
      q2_known_note_locked (&s->known, cluster + i);
    else
      q2_known_forget_locked (&s->known, cluster + i);
  }
  /* Who knew it until now is inside. */
  if (i > 0 && value == 0)
    s->freed_stamp = q2_flight_stamp (s->flight) + 2;
  return i;
}

void
q2_space_note_freed_locked (struct q2_space *s, uint64_t cluster,
                            uint64_t nr)
{
  const uint64_t packed = s->packed_off >> s->geo->cluster_bits;

  if (cluster < s->cursor)
    s->lowest_freed = q2_min (s->lowest_freed, cluster);
  if (packed >= cluster && packed - cluster < nr)
    s->packed_off = 0;
}

/* ---- Windows -------------------------------------------------------- */

static bool
is_taken (const struct q2_space_window *w, uint64_t i)
{
  return w->taken[i / 64] >> i % 64 & 1;
}

/* The first from number i on that is taken, or is not. */
static uint64_t
next_taken (const struct q2_space_window *w, uint64_t i, bool taken)
{
  while (i < w->size && is_taken (w, i) != taken)
    ++i;
  return i;
}

struct q2_space_window *
q2_space_find_window_locked (struct q2_space *s, uint64_t stream,
                             uint64_t *ret_i)
{
  for (size_t n = 0; n < Q2_SPACE_WINDOWS; ++n) {
    struct q2_space_window *const w = &s->windows[n];

    if (w->left == 0 || stream < w->stream || stream - w->stream >= w->size)
      continue;
    /* Tables all have the number of the first. */
    *ret_i = stream == Q2_SPACE_TABLES ? next_taken (w, 0, false)
      : stream - w->stream;
    if (!is_taken (w, *ret_i))
      return w;
  }
  return NULL;
}

void
q2_space_drop_window_locked (struct q2_space *s, struct q2_space_window *w)
{
  if (w->left > 0)
    q2_space_note_freed_locked (s, w->start + next_taken (w, 0, false), 1);
  *w = (struct q2_space_window) { .size = 0 };
}

struct q2_space_window *
q2_space_oldest_window_locked (struct q2_space *s)
{
  struct q2_space_window *oldest = &s->windows[0];

  for (size_t i = 1; i < Q2_SPACE_WINDOWS; ++i)
    if (s->windows[i].last_use < oldest->last_use)
      oldest = &s->windows[i];
  return oldest;
}

uint64_t
q2_space_avoid_windows_locked (const struct q2_space *s, uint64_t first,
                               uint64_t *nr)
{
  for (size_t n = 0; n < Q2_SPACE_WINDOWS; ++n) {
    const struct q2_space_window *const w = &s->windows[n];
    uint64_t i;

    if (w->left == 0 || w->start >= first + *nr ||
        w->start + w->size <= first)
      continue;
    i = next_taken (w, first > w->start ? first - w->start : 0, false);
    if (w->start + i == first)
      return w->start + next_taken (w, i, true);
    if (i < w->size)
      *nr = q2_min (*nr, w->start + i - first);
  }
  return 0;
}

bool
q2_space_drop_windows (struct q2_space *s)
{
  bool any;

  pthread_mutex_lock (&s->lock);
  any = s->lowest_skipped != Q2_SPACE_NONE;
  s->lowest_freed = q2_min (s->lowest_freed, s->lowest_skipped);
  s->lowest_skipped = Q2_SPACE_NONE;
  for (size_t i = 0; i < Q2_SPACE_WINDOWS; ++i) {
    any |= s->windows[i].left > 0;
    q2_space_drop_window_locked (s, &s->windows[i]);
  }
  pthread_mutex_unlock (&s->lock);
  return any;
}

/* ---- Allocating ----------------------------------------------------- */

/* The first cluster of the window that is taken for a table: it must be known
 * as one before it counts.  Returns 0, Q2_SPACE_SETTLE_FIRST or -1.
 */
static int
protect_locked (struct q2_space *s, const struct q2_space_window *w,
                uint64_t cluster, struct qcow2_error *err)
{
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

  pthread_mutex_lock (&s->lock);
  w = q2_space_find_window_locked (s, Q2_SPACE_TABLES, &i);
  if (w != NULL && is_written_first (s, w, i)) {
    start = w->start;
    nr = q2_min (w->size - i, WRITE_AT_ONCE >> bits);
  }
  pthread_mutex_unlock (&s->lock);
  if (nr == 0)
    return;
  if (q2_io_write_zeros (io, nr << bits, (start + i) << bits, QCOW2_IO_L2,
                         &ignored) == -1)
    nr = 0;
  pthread_mutex_lock (&s->lock);
  if (w->start == start && w->stream == Q2_SPACE_TABLES) {
    w->written = i + nr;
    w->alone = nr == 0;
  }
  pthread_mutex_unlock (&s->lock);
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

  ret->nr = 0;
  need->slice_off = Q2_SPACE_NONE;
  if (w == NULL || (table && is_written_first (s, w, i)))
    return 0;
  /* Also if it is only waited for: the window stays. */
  w->last_use = ++s->clock;
  ret->cluster = w->start + i;
  ret->zero = table ? i < w->written : w->zero;
  max = table ? 1 : q2_min (want, next_taken (w, i, true) - i);
  if (table)
    r = protect_locked (s, w, ret->cluster, err);
  if (r != 0)
    return r;
  ret->nr = q2_space_set_run_locked (s, ret->cluster, max, 1, need);
  if (table && ret->nr == 0)
    q2_overlap_remove (s->overlap, ret->cluster << s->geo->cluster_bits, 1);
  for (uint64_t n = 0; n < ret->nr; ++n)
    w->taken[(i + n) / 64] |= UINT64_C (1) << (i + n) % 64;
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

    pthread_mutex_lock (&s->lock);
    r = take_locked (s, id, want, ret, &need, err);
    pthread_mutex_unlock (&s->lock);
    if (r != 0 || ret->nr > 0)
      break;
    if (need.slice_off != Q2_SPACE_NONE) {
      r = q2_space_load (s, io, &need, err);
      continue;
    }
    pthread_mutex_lock (&s->claim_lock);
    r = q2_space_claim (s, io, id, want, err);
    if (r == 0 && id == Q2_SPACE_TABLES)
      write_tables (s, io);
    pthread_mutex_unlock (&s->claim_lock);
  }
  return r;
}

void
q2_space_undo (struct q2_space *s, const struct q2_io *io, uint64_t cluster,
               uint64_t nr)
{
  struct qcow2_error ignored;

  while (nr > 0) {
    struct q2_need need;
    uint64_t n;

    pthread_mutex_lock (&s->lock);
    n = q2_space_set_run_locked (s, cluster, nr, 0, &need);
    if (n > 0)
      q2_space_note_freed_locked (s, cluster, n);
    pthread_mutex_unlock (&s->lock);
    if (n == 0 && q2_space_load (s, io, &need, &ignored) != 0)
      return;
    cluster += n;
    nr -= n;
  }
}

/* ---- Commit --------------------------------------------------------- */

bool
q2_space_is_pressed (struct q2_space *s)
{
  return q2_cache_nr_dirty (s->rc.cache) >
    q2_cache_capacity (s->rc.cache) / 4;
}

bool
q2_space_is_dirty (struct q2_space *s)
{
  bool dirty;

  pthread_mutex_lock (&s->lock);
  dirty = q2_refcounts_is_dirty_locked (&s->rc);
  pthread_mutex_unlock (&s->lock);
  return dirty;
}

bool
q2_space_has_old_table (struct q2_space *s)
{
  bool has;

  pthread_mutex_lock (&s->lock);
  has = s->rc.nr_old > 0;
  pthread_mutex_unlock (&s->lock);
  return has;
}

int
q2_space_gather (struct q2_space *s, struct q2_refcounts_dirty *d,
                 struct qcow2_error *err)
{
  int r;

  pthread_mutex_lock (&s->lock);
  r = q2_refcounts_gather_locked (&s->rc, d, err);
  pthread_mutex_unlock (&s->lock);
  return r;
}

int
q2_space_write (struct q2_space *s, const struct q2_refcounts_dirty *d,
                const struct q2_io *io, struct qcow2_error *err)
{
  return q2_refcounts_write (&s->rc, d, io, err);
}

void
q2_space_end_gather (struct q2_space *s, struct q2_refcounts_dirty *d,
                     enum q2_progress progress, struct q2_frees *frees)
{
  struct q2_refcounts *const rc = &s->rc;
  const bool linked = progress >= Q2_PROGRESS_2B;

  pthread_mutex_lock (&s->lock);
  for (unsigned i = 0; linked && i < d->nr_old; ++i) {
    const uint64_t off = rc->old[i].host_off;
    const uint32_t nr = rc->old[i].clusters;

    q2_overlap_remove (s->overlap, off, (uint64_t) nr << s->geo->cluster_bits);
    if (q2_frees_reserve (frees, 1))
      q2_frees_add (frees, off >> s->geo->cluster_bits, nr);
  }
  if (linked) {
    for (unsigned i = d->nr_old; i < rc->nr_old; ++i)
      rc->old[i - d->nr_old] = rc->old[i];
    rc->nr_old -= d->nr_old;
  }
  q2_refcounts_end_gather_locked (rc, d, progress);
  pthread_mutex_unlock (&s->lock);
}
