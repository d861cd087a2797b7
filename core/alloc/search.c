/* SPDX-License-Identifier: BSD-3-Clause */
/* search.c - the search for free clusters.
 *
 * Owns      the cursor that passes over the file.
 * Method    the cursor moves on from claim to claim, so full parts of the
 *           file are looked at once; when it has come to what was never used
 *           it goes back to the lowest cluster that became free behind it,
 *           and only if there is none the file grows:
 *
 *             | used . used | used used | used . . | never used ...
 *                    ^                         ^     ^
 *                    lowest_freed         cursor     never_used, at or before
 *                    or lowest_skipped               the end of the file
 *
 *           What is skipped to keep streams aligned (lowest_skipped) is only
 *           gone back to when there is nothing else.
 * Locks     claim_lock is the caller's; space.lock for each look.
 */
#include "config.h"

#include "alloc/space_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>

#define MAX_WINDOW_BYTES (UINT64_C (4) << 20)

/* How much that counts as in use may lie behind the end of the file and is
 * passed over: what a crash can have cut off.  The file does not grow to
 * wherever refcounts say.
 */
#define MAX_SKIP (UINT64_C (1) << 30)

/* Windows of at least this are aligned to it. */
#define ALIGN_BYTES (UINT64_C (1) << 20)

uint64_t
q2_space_limit (const struct q2_space *s, const struct q2_io *io)
{
  const uint64_t bytes = io->host->ops->grow
    ? UINT64_C (1) << 56 : q2_min (q2_io_end (io), UINT64_C (1) << 56);

  return bytes >> s->geo->cluster_bits;
}

enum look { FOUND, GO_ON, UNCOVERED, NEED, NOTHING };

struct search {
  uint64_t pos;                 /* where to look next */
  uint64_t want;
  uint64_t stream;              /* what the first is for */
  uint64_t align;               /* see align_locked */
  uint64_t limit;
  uint64_t file_end;            /* clusters of the file as it is */
  bool fresh;                   /* nothing that was ever in use */
  uint64_t first, nr;           /* what was found */
  struct q2_need need;
};

/* Begin where the file is aligned in the same way as the disk, if the run
 * reaches that far.  Clients write large pieces at multiples of their size,
 * and filesystems whose page cache has large pages take several times as much
 * CPU if they are not such multiples in the file.
 */
static void
align_locked (struct q2_space *s, struct search *f)
{
  const uint64_t skip = (f->stream - f->first) & (f->align - 1);

  q2_mutex_check_held (&s->lock);
  if (skip > 0 && skip < f->nr) {
    /* Not before there is need: it would be found again at once. */
    s->lowest_skipped = q2_min (s->lowest_skipped, f->first);
    f->first += skip;
    f->nr -= skip;
  }
  f->nr = q2_min (f->nr, f->want);
  q2_check (f->nr > 0 && f->first + f->nr <= f->limit);
}

static enum look
look_locked (struct q2_space *s, struct search *f)
{
  uint64_t one = 1, next;

  q2_mutex_check_held (&s->lock);
  /* Before what was never used, and before the file grows, what became free
   * behind us.
   */
  if (!f->fresh && s->lowest_freed != Q2_SPACE_NONE &&
      f->pos >= q2_min (q2_min (f->file_end, f->limit), s->never_used)) {
    f->pos = s->lowest_freed;
    s->lowest_freed = Q2_SPACE_NONE;
    return GO_ON;
  }
  if (f->pos >= f->limit)
    return NOTHING;
  next = q2_space_avoid_windows_locked (s, f->pos, &one);
  if (next != 0) {
    f->pos = next;
    return GO_ON;
  }
  if (q2_refcounts_is_uncovered_locked (&s->rc, f->pos))
    return UNCOVERED;
  if (!q2_refcounts_find_locked (&s->rc, f->pos, f->want + f->align - 1,
                                 &f->first, &f->nr, &f->need))
    return NEED;
  f->pos = f->first;
  if (f->nr == 0 || f->first >= f->limit)
    return GO_ON;
  f->nr = q2_min (f->nr, f->limit - f->first);
  next = q2_space_avoid_windows_locked (s, f->first, &f->nr);
  if (next != 0) {
    f->pos = next;
    return GO_ON;
  }
  align_locked (s, f);
  return FOUND;
}

static int
check_near (const struct q2_space *s, const struct search *f,
            uint64_t cluster, struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;

  if (cluster <= f->file_end + (MAX_SKIP >> bits))
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_TRUNCATED, QCOW2_ADVICE_COMPLETE,
                         cluster << bits,
                         "no space left: the image counts all clusters up to "
                         "offset 0x%" PRIx64 " as in use, far past the end of "
                         "the file at 0x%" PRIx64, cluster << bits,
                         f->file_end << bits);
}

/* Find a free run; the cursor moves behind it. */
static int
search (struct q2_space *s, const struct q2_io *io, struct search *f,
        struct qcow2_error *err)
{
  for (;;) {
    enum look look;
    int r = 0;

    f->file_end = q2_io_size (io) >> s->geo->cluster_bits;
    q2_mutex_lock (&s->lock);
    look = look_locked (s, f);
    s->cursor = look == FOUND ? f->first + f->nr : f->pos;
    q2_mutex_unlock (&s->lock);
    switch (look) {
    case FOUND:
      return check_near (s, f, f->first, err);
    case GO_ON:
      break;
    case UNCOVERED:
      r = check_near (s, f, f->pos, err);
      if (r == 0)
        r = q2_space_cover (s, io, f->pos, err);
      break;
    case NEED:
      r = q2_space_load (s, io, &f->need, err);
      break;
    case NOTHING:
      return q2_fail (err, QCOW2_ERR_NO_SPACE, QCOW2_NO_OFFSET,
                      "no space left: all %" PRIu64 " clusters that the "
                      "image file has room for are in use", f->limit);
    }
    if (r != 0)
      return r;
  }
}

/* The run is to be used: it is no metadata and lies in the file. */
static int
check_run (struct q2_space *s, const struct q2_io *io,
           const struct search *f, struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;

  if (q2_overlap_check (s->overlap, f->first << bits, f->nr << bits,
                        Q2_META_NONE, err) == -1)
    return -1;
  return q2_io_grow (io, (f->first + f->nr) << bits, err);
}

static int
find_run (struct q2_space *s, const struct q2_io *io, struct search *f,
          struct qcow2_error *err)
{
  int r;

  q2_mutex_lock (&s->lock);
  f->pos = s->cursor;
  q2_mutex_unlock (&s->lock);
  f->limit = q2_space_limit (s, io);
  r = search (s, io, f, err);
  if (r == 0)
    r = check_run (s, io, f, err);
  return r;
}

/* The same, and if there is no space: with less, and in what is reserved. */
static int
find_run_somehow (struct q2_space *s, const struct q2_io *io,
                  struct search *f, uint64_t least, struct qcow2_error *err)
{
  int r = find_run (s, io, f, err);

  if (r == -1 && err->kind == QCOW2_ERR_NO_SPACE &&
      (q2_space_drop_windows (s) || f->want > least)) {
    /* Perhaps the file could not grow that far, or not at all. */
    q2_mutex_lock (&s->lock);
    if (f->nr > 0)
      q2_space_note_freed_locked (s, f->first, f->nr);
    q2_mutex_unlock (&s->lock);
    f->want = least;
    f->align = 1;
    r = find_run (s, io, f, err);
  }
  return r;
}

/* How far ahead of its window a stream may be: requests that run at once do
 * not come in order.
 */
#define MAX_AHEAD 16

/* The window that this cluster is behind, or nearly so. */
static struct q2_space_window *
find_previous_locked (struct q2_space *s, uint64_t stream)
{
  q2_mutex_check_held (&s->lock);
  for (size_t i = 0; i < Q2_SPACE_WINDOWS; ++i) {
    struct q2_space_window *const w = &s->windows[i];
    const uint64_t end = w->stream + w->size;

    if (w->size > 0 && (stream == Q2_SPACE_TABLES ? w->stream == stream
                        : stream >= end && stream - end <= MAX_AHEAD))
      return w;
  }
  return NULL;
}

/* What to reserve: what is asked for, and more and more for streams, without
 * a gap.  Returns the cluster of the disk that the first is for.
 */
static uint64_t
choose_size_locked (struct q2_space *s, uint64_t stream, uint64_t *want)
{
  const struct q2_space_window *const w = find_previous_locked (s, stream);
  const uint64_t max =
    q2_min (MAX_WINDOW_BYTES >> s->geo->cluster_bits, Q2_SPACE_MAX_WINDOW);
  uint64_t first = stream;

  q2_mutex_check_held (&s->lock);
  /* Neighbours of clusters that do not become smaller mostly do: what was
   * reserved for them would be left over, as holes.
   */
  if (w == NULL || (s->packs && stream != Q2_SPACE_TABLES))
    return stream;
  if (stream != Q2_SPACE_TABLES)
    first = w->stream + w->size;
  *want = q2_min (q2_max (stream - first + *want, q2_min (2 * w->size, max)),
                  Q2_SPACE_MAX_WINDOW);
  return first;
}

/* It takes the place of the one before it, if that is used up. */
static void
add_window_locked (struct q2_space *s, const struct search *f, bool zero)
{
  struct q2_space_window *w = find_previous_locked (s, f->stream);
  uint64_t alone = f->nr;

  q2_mutex_check_held (&s->lock);
  q2_check (f->nr > 0 && f->nr <= Q2_SPACE_MAX_WINDOW);
  if (w == NULL || w->left > 0)
    w = q2_space_oldest_window_locked (s);
  q2_space_drop_window_locked (s, w);
  /* No cluster is promised to two. */
  q2_check (q2_space_avoid_windows_locked (s, f->first, &alone) == 0 &&
            alone == f->nr);
  *w = (struct q2_space_window) {
    .stream = f->stream, .start = f->first, .size = f->nr, .left = f->nr,
    .zero = zero, .last_use = ++s->clock,
    /* Nobody writes to what never had a refcount. */
    .stamp = f->first < s->never_used ? s->freed_stamp : 0,
  };
  s->never_used = q2_max (s->never_used, f->first + f->nr);
}

/* Reserve a window for the stream.  Called with claim_lock. */
int
q2_space_claim (struct q2_space *s, const struct q2_io *io, uint64_t stream,
                uint64_t want, struct qcow2_error *err)
{
  const uint64_t align = ALIGN_BYTES >> s->geo->cluster_bits;
  struct search f = {
    .want = q2_min (want, Q2_SPACE_MAX_WINDOW), .align = 1,
  };
  uint64_t i;
  bool claimed, packs;
  int r;

  q2_mutex_lock (&s->lock);
  packs = s->packs;
  /* Somebody else may have claimed it meanwhile. */
  claimed = q2_space_find_window_locked (s, stream, &i) != NULL;
  f.stream = choose_size_locked (s, stream, &f.want);
  q2_mutex_unlock (&s->lock);
  if (claimed)
    return 0;
  if (align > 1 && f.want >= align && !packs && stream != Q2_SPACE_TABLES)
    f.align = align;
  r = find_run_somehow (s, io, &f, 1, err);
  if (r != 0)
    return r;
  /* It may be too short to reach the cluster it is for. */
  if (stream - f.stream >= f.nr)
    f.stream = stream;
  if (!q2_assume (f.nr <= f.want && f.first > 0, err))
    return -1;
  q2_mutex_lock (&s->lock);
  add_window_locked (s, &f, io->host->ops->grow != NULL &&
                     f.first >= s->never_used);
  q2_mutex_unlock (&s->lock);
  return 0;
}

/* Instead of what is reserved for tables. */
static void
add_fresh_locked (struct q2_space *s, const struct search *f)
{
  uint64_t i;
  struct q2_space_window *const w =
    q2_space_find_window_locked (s, Q2_SPACE_TABLES, &i);

  q2_mutex_check_held (&s->lock);
  if (w != NULL)
    q2_space_drop_window_locked (s, w);
  add_window_locked (s, f, f->first >= s->never_used);
}

int
q2_space_take_fresh (struct q2_space *s, const struct q2_io *io,
                     struct qcow2_error *err)
{
  struct search f = {
    .want = 1, .align = 1, .stream = Q2_SPACE_TABLES, .fresh = true,
    .limit = q2_space_limit (s, io),
  };
  int r;

  if (io->host->ops->grow == NULL)
    return q2_fail (err, QCOW2_ERR_NO_SPACE, QCOW2_NO_OFFSET,
                    "the image file cannot grow");
  q2_mutex_lock (&s->claim_lock);
  q2_mutex_lock (&s->lock);
  /* What is passed over is found when the search goes back. */
  if (s->cursor < s->never_used)
    s->lowest_freed = q2_min (s->lowest_freed, s->cursor);
  f.pos = q2_max (s->cursor, s->never_used);
  q2_mutex_unlock (&s->lock);
  r = search (s, io, &f, err);
  if (r == 0)
    r = check_run (s, io, &f, err);
  q2_mutex_lock (&s->lock);
  if (r == 0)
    add_fresh_locked (s, &f);
  else if (f.nr > 0)
    q2_space_note_freed_locked (s, f.first, f.nr);
  q2_mutex_unlock (&s->lock);
  q2_mutex_unlock (&s->claim_lock);
  return r;
}
