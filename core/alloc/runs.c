/* SPDX-License-Identifier: BSD-3-Clause */
/* runs.c - runs of an exact length, and more references to clusters.
 *
 * Owns      what changes to the image itself need of space: a snapshot's L1
 *           table, a directory of bitmaps or a larger L1 table are one piece,
 *           and a snapshot adds a reference to all that the disk uses.
 * Method    the search begins where the cursor is, or where something became
 *           free, and from the start of the file if that finds nothing in a
 *           file that cannot grow.  Blocks of refcounts that are missing go
 *           where the search is (cover.c), and the run begins behind them.
 * Locks     claim_lock from finding a run until it is taken; space.lock for
 *           each look.
 */
#include "config.h"

#include "alloc/space_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>

/* ---- Exact runs ------------------------------------------------------- */

struct exact {
  uint64_t pos;                 /* where to look next */
  uint64_t first, nr;           /* free so far, ending at pos */
  uint64_t want, limit;
};

enum look { FOUND, GO_ON, UNCOVERED, NEED, NOTHING };

/* Add what is free at pos, or begin anew behind what is not. */
static enum look
look_locked (struct q2_space *s, struct exact *e, struct q2_need *need)
{
  uint64_t first, nr, one = 1, next;

  q2_mutex_check_held (&s->lock);
  if (e->nr == e->want)
    return FOUND;
  if (e->pos >= e->limit)
    return NOTHING;
  next = q2_space_avoid_windows_locked (s, e->pos, &one);
  if (next != 0) {
    e->pos = next;
    e->nr = 0;
    return GO_ON;
  }
  if (q2_refcounts_is_uncovered_locked (&s->rc, e->pos))
    return UNCOVERED;
  if (!q2_refcounts_find_locked (&s->rc, e->pos, e->want - e->nr, &first, &nr,
                                 need))
    return NEED;
  if (nr > 0 && q2_space_avoid_windows_locked (s, first, &nr) != 0)
    nr = 0;                     /* 'pos' meets the window next time */
  nr = q2_min (nr, e->limit > first ? e->limit - first : 0);
  if (first != e->pos || e->nr == 0) {
    e->first = first;
    e->nr = 0;
  }
  e->nr += nr;
  e->pos = first + nr;
  return GO_ON;
}

static int
find_exact (struct q2_space *s, const struct q2_io *io, struct exact *e,
            struct qcow2_error *err)
{
  for (;;) {
    struct q2_need need;
    enum look look;
    int r = 0;

    q2_mutex_lock (&s->lock);
    look = look_locked (s, e, &need);
    q2_mutex_unlock (&s->lock);
    switch (look) {
    case FOUND:
      return q2_assume (e->first + e->nr == e->pos && e->pos <= e->limit,
                        err) ? 0 : -1;
    case GO_ON:
      break;
    case UNCOVERED:
      r = q2_space_cover_run (s, io, e->pos, e->want, err);
      break;
    case NEED:
      r = q2_space_load (s, io, &need, err);
      break;
    case NOTHING:
      return q2_fail (err, QCOW2_ERR_NO_SPACE, QCOW2_NO_OFFSET,
                      "no space left: there are no %" PRIu64 " free clusters "
                      "next to each other in the image file", e->want);
    }
    if (r != 0)
      return r;
  }
}

/* The run is to be used: it is no metadata and lies in the file. */
static int
check_run (struct q2_space *s, const struct q2_io *io, uint64_t cluster,
           uint64_t nr, struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;

  if (q2_overlap_check (s->overlap, cluster << bits, nr << bits,
                        Q2_META_NONE, err) == -1)
    return -1;
  return q2_io_grow (io, (cluster + nr) << bits, err);
}

int
q2_space_is_run_free (struct q2_space *s, const struct q2_io *io,
                      uint64_t cluster, uint64_t nr, bool *ret_free,
                      struct qcow2_error *err)
{
  struct exact e = {
    .pos = cluster, .want = nr,
    .limit = q2_min (cluster + nr, q2_space_limit (s, io)),
  };
  int r = find_exact (s, io, &e, err);

  *ret_free = r == 0;
  if (r == 0)
    return check_run (s, io, cluster, nr, err);
  return r == -1 && err->kind == QCOW2_ERR_NO_SPACE ? 0 : r;
}

uint64_t
q2_space_first_to_look (struct q2_space *s)
{
  uint64_t start;

  q2_mutex_lock (&s->lock);
  start = q2_min (s->cursor, s->lowest_freed);
  q2_mutex_unlock (&s->lock);
  return start;
}

int
q2_space_find_run (struct q2_space *s, const struct q2_io *io, uint64_t nr,
                   uint64_t *ret_cluster, struct qcow2_error *err)
{
  struct exact e = { .want = nr, .limit = q2_space_limit (s, io) };
  int r;

  e.pos = q2_space_first_to_look (s);
  r = find_exact (s, io, &e, err);
  if (r == -1 && err->kind == QCOW2_ERR_NO_SPACE) {
    q2_space_drop_windows (s);
    e.pos = e.nr = 0;
    r = find_exact (s, io, &e, err);
  }
  if (r != 0)
    return r;
  *ret_cluster = e.first;
  return check_run (s, io, e.first, nr, err);
}

int
q2_space_set_run (struct q2_space *s, const struct q2_io *io,
                  uint64_t cluster, uint64_t nr, uint64_t value,
                  struct qcow2_error *err)
{
  uint64_t done = 0;
  int r = 0;

  while (r == 0 && done < nr) {
    struct q2_need need;
    uint64_t n;

    q2_mutex_lock (&s->lock);
    n = q2_space_set_run_locked (s, cluster + done, nr - done, value, &need);
    q2_mutex_unlock (&s->lock);
    if (!q2_assume (n <= nr - done, err))
      return -1;
    done += n;
    if (n == 0)
      r = q2_space_load (s, io, &need, err);
  }
  if (r != 0)
    q2_space_undo (s, io, cluster, done);
  return r;
}

void
q2_space_advance_locked (struct q2_space *s, uint64_t start, uint64_t end)
{
  q2_mutex_check_held (&s->lock);
  q2_check (start <= end);
  if (start == s->lowest_freed && start < s->cursor)
    s->lowest_freed = end < s->cursor ? end : Q2_SPACE_NONE;
  else if (start == s->cursor && start < s->lowest_freed)
    s->cursor = q2_max (start, end);
}

int
q2_space_alloc_run (struct q2_space *s, const struct q2_io *io, uint64_t nr,
                    uint64_t *ret_cluster, struct qcow2_error *err)
{
  uint64_t start;
  int r;

  q2_mutex_lock (&s->claim_lock);
  start = q2_space_first_to_look (s);
  r = q2_space_find_run (s, io, nr, ret_cluster, err);
  if (r == 0 && !q2_assume (*ret_cluster > 0, err))
    r = -1;
  if (r == 0)
    r = q2_space_set_run (s, io, *ret_cluster, nr, 1, err);
  if (r == 0) {
    q2_mutex_lock (&s->lock);
    s->never_used = q2_max (s->never_used, *ret_cluster + nr);
    if (nr == 1 && *ret_cluster >= start)
      q2_space_advance_locked (s, start, *ret_cluster + 1);
    q2_mutex_unlock (&s->lock);
  }
  q2_mutex_unlock (&s->claim_lock);
  return r;
}

/* ---- More references -------------------------------------------------- */

static int
fail_unused (uint64_t host_off, struct qcow2_error *err)
{
  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR, host_off,
                         "the cluster at offset 0x%" PRIx64 " is in use, but "
                         "its refcount is 0", host_off);
}

static int
fail_overflow (const struct q2_space *s, uint64_t host_off,
               struct qcow2_error *err)
{
  return q2_fail (err, QCOW2_ERR_UNSUPPORTED, host_off,
                  "the cluster at offset 0x%" PRIx64 " has as many references "
                  "as %u bits can count; delete snapshots, or convert the "
                  "image to wider refcounts", host_off,
                  1u << s->geo->refcount_order);
}

/* As many as one slice has: *ret_nr of them.  If that is none, *ret_value is
 * the refcount that cannot be raised.
 */
static bool
raise_some_locked (struct q2_space *s, const struct q2_free_run *run,
                   uint64_t *ret_nr, uint64_t *ret_value, struct q2_need *need)
{
  const uint64_t max = q2_space_max_refcount (s);
  struct q2_refcount_run counts;
  uint64_t i;

  q2_mutex_check_held (&s->lock);
  if (!q2_refcounts_copy_locked (&s->rc, run->cluster, run->nr, &counts, need))
    return false;
  for (i = 0; i < counts.nr; ++i) {
    *ret_value = q2_refcount_run_get (&counts, i);
    if (*ret_value == 0 || *ret_value == max)
      break;
    q2_refcount_run_set (&counts, i, *ret_value + 1);
  }
  *ret_nr = i;
  return i == 0 || q2_refcounts_store_locked (&s->rc, &counts, i, need);
}

int
q2_space_raise (struct q2_space *s, const struct q2_io *io,
                struct q2_free_run *run, struct qcow2_error *err)
{
  int r = 0;

  while (r == 0 && run->nr > 0) {
    const uint64_t host_off = run->cluster << s->geo->cluster_bits;
    struct q2_need need;
    uint64_t nr = 0, value = 0;
    bool done;

    q2_mutex_lock (&s->lock);
    done = raise_some_locked (s, run, &nr, &value, &need);
    q2_mutex_unlock (&s->lock);
    if (!done)
      r = q2_space_load (s, io, &need, err);
    else if (!q2_assume (nr <= run->nr, err))
      r = -1;
    else if (nr == 0)
      r = value == 0 ? fail_unused (host_off, err)
        : fail_overflow (s, host_off, err);
    else {
      run->cluster += nr;
      run->nr -= nr;
    }
  }
  return r;
}
