/* SPDX-License-Identifier: BSD-3-Clause */
/* release.c - what becomes free, and where the used part of the file ends.
 *
 * Owns      taking references away; see docs/ORDERING.md for when.
 * Method    runs of clusters with the same refcount are treated together, so
 *           that what is given back to the host goes there in large pieces.
 * Locks     space.lock while refcounts change; not while the host is asked.
 */
#include "config.h"

#include "alloc/space_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>

/* How many clusters from the start of the run have the same refcount as the
 * first, which goes to *ret_value.
 */
static uint64_t
count_alike_locked (struct q2_space *s, const struct q2_free_run *run,
                    uint64_t *ret_value, struct q2_need *need)
{
  struct q2_refcount_run counts;
  uint64_t done = 0, i;

  q2_mutex_check_held (&s->lock);
  do {
    struct q2_need ignored;

    if (!q2_refcounts_copy_locked (&s->rc, run->cluster + done, run->nr - done,
                                   &counts, done == 0 ? need : &ignored))
      break;
    if (done == 0)
      *ret_value = q2_refcount_run_get (&counts, 0);
    for (i = 0; i < counts.nr &&
           q2_refcount_run_get (&counts, i) == *ret_value; ++i)
      ;
    done += i;
  } while (i == counts.nr && done < run->nr);
  return done;
}

/* Set them, all or none of what is returned; see set_run_locked. */
uint64_t
q2_space_lower_locked (struct q2_space *s, uint64_t cluster, uint64_t nr,
                       uint64_t value, struct q2_need *need)
{
  const uint64_t n = q2_space_set_run_locked (s, cluster, nr, value, need);

  q2_mutex_check_held (&s->lock);
  q2_check (n <= nr && value < q2_space_max_refcount (s));
  if (n > 0 && value == 0) {
    /* A shared table that only the disk had: it is none any more. */
    q2_overlap_unshare (s->overlap, cluster << s->geo->cluster_bits,
                        n << s->geo->cluster_bits);
    q2_space_note_freed_locked (s, cluster, n);
    /* It may have been in use although it was behind the end of the file. */
    s->never_used = q2_max (s->never_used, cluster + n);
  }
  return n;
}

/* Two entries that point to one cluster whose refcount is 1: when the second
 * lets it go it is free already, or somebody else's, perhaps a table's.
 */
static int
check_run (struct q2_space *s, uint64_t cluster, uint64_t nr, uint64_t value,
           struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;

  if (value == 0)
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                           cluster << bits,
                           "the cluster at offset 0x%" PRIx64 " was in use, "
                           "but its refcount is 0", cluster << bits);
  return value > 1 ? 0
    : q2_overlap_check_any (s->overlap, cluster << bits, nr << bits,
                            1u << Q2_META_SHARED_L2, Q2_META_NONE, err);
}

/* If they are as they were: until now a stream may have been added. */
static uint64_t
lower_if_locked (struct q2_space *s, const struct q2_free_run *run,
                 uint64_t n, uint64_t value, bool *ret_changed,
                 struct q2_need *need)
{
  uint64_t now, same;

  q2_mutex_check_held (&s->lock);
  same = count_alike_locked (s, run, &now, need);
  *ret_changed = same > 0 && now != value;
  if (same == 0 || *ret_changed)
    return 0;
  return q2_space_lower_locked (s, run->cluster, q2_min (n, same), value - 1,
                                need);
}

/* Release the start of a run and take it off. */
static int
release_some (struct q2_space *s, const struct q2_io *io,
              struct q2_free_run *run, bool trim, struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;
  struct q2_need need;
  uint64_t n, value;
  bool changed;

  if (!q2_assume (run->nr > 0, err))
    return -1;
  q2_mutex_lock (&s->lock);
  n = count_alike_locked (s, run, &value, &need);
  /* From now on nobody adds a stream to what is going to be free. */
  if (n > 0 && value == 1)
    q2_space_end_packing_locked (s, run->cluster, n);
  q2_mutex_unlock (&s->lock);
  if (n == 0)
    return q2_space_load (s, io, &need, err);
  if (check_run (s, run->cluster, n, value, err) == -1)
    return -1;
  /* Nobody can have use for the bytes: nothing points to the clusters, and
   * as their refcounts are not 0 they are not handed out.
   */
  if (value == 1 && trim)
    q2_io_trim (io, n << bits, run->cluster << bits);
  q2_mutex_lock (&s->lock);
  n = lower_if_locked (s, run, n, value, &changed, &need);
  q2_mutex_unlock (&s->lock);
  if (changed)
    return 0;
  if (n == 0)
    return q2_space_load (s, io, &need, err);
  if (!q2_assume (n <= run->nr, err))
    return -1;
  run->cluster += n;
  run->nr -= n;
  return 0;
}

int
q2_space_release (struct q2_space *s, const struct q2_io *io,
                  struct q2_frees *frees, bool trim, struct qcow2_error *err)
{
  int r = 0;

  while (r == 0 && frees->nr > 0) {
    struct q2_free_run *const run = &frees->runs[frees->nr - 1];

    r = release_some (s, io, run, trim, err);
    if (run->nr == 0)
      frees->nr--;
  }
  return r;
}

int
q2_space_get (struct q2_space *s, const struct q2_io *io, uint64_t cluster,
              uint64_t *ret_value, struct qcow2_error *err)
{
  int r = 0;

  while (r == 0) {
    struct q2_need need;
    bool known;

    q2_mutex_lock (&s->lock);
    known = q2_refcounts_get_locked (&s->rc, cluster, ret_value, &need);
    q2_mutex_unlock (&s->lock);
    if (known)
      return 0;
    r = q2_space_load (s, io, &need, err);
  }
  return r;
}

/* Note which clusters of a group are counted, as far as that is in memory;
 * returns false if *need is needed to know it of 'cluster'.
 */
static bool
note_group_locked (struct q2_space *s, uint64_t cluster, bool *ret_counted,
                   struct q2_need *need)
{
  const uint64_t first = q2_align_down (cluster, Q2_KNOWN_GROUP);
  uint64_t value;

  q2_mutex_check_held (&s->lock);
  if (!q2_refcounts_get_locked (&s->rc, cluster, &value, need))
    return false;
  *ret_counted = value > 0;
  for (uint64_t c = first; c < first + Q2_KNOWN_GROUP; ++c) {
    struct q2_need ignored;

    if (q2_refcounts_get_locked (&s->rc, c, &value, &ignored) && value > 0)
      q2_known_note_locked (&s->known, c);
  }
  return true;
}

/* Returns 0, Q2_SPACE_COMMIT_FIRST or -1. */
static int
is_counted (struct q2_space *s, const struct q2_io *io, uint64_t cluster,
            bool *ret_counted, struct qcow2_error *err)
{
  int r = 0;

  while (r == 0) {
    struct q2_need need;
    bool known;

    q2_mutex_lock (&s->lock);
    known = note_group_locked (s, cluster, ret_counted, &need);
    q2_mutex_unlock (&s->lock);
    if (known)
      return 0;
    r = q2_space_load (s, io, &need, err);
  }
  return r;
}

int
q2_space_find_uncounted (struct q2_space *s, const struct q2_io *io,
                         uint64_t cluster, uint64_t nr,
                         uint64_t *ret_cluster, struct qcow2_error *err)
{
  const uint64_t end = cluster + nr;

  for (; cluster < end; ++cluster) {
    bool counted = q2_known_has (&s->known, cluster);
    const int r =
      counted ? 0 : is_counted (s, io, cluster, &counted, err);

    if (r != 0)
      return r;
    if (!counted)
      break;
  }
  *ret_cluster = cluster;
  return 0;
}

int
q2_space_find_end (struct q2_space *s, const struct q2_io *io, uint64_t min,
                   uint64_t *ret_end, struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;
  uint64_t c = q2_ceil_shift (q2_io_size (io), bits);

  q2_space_drop_windows (s);
  while (c << bits > min) {
    uint64_t value;
    int r;

    if (q2_space_is_uncovered (s, c - 1)) {
      c = q2_align_down (c - 1, UINT64_C (1) << s->geo->refblock_bits);
      continue;
    }
    r = q2_space_get (s, io, c - 1, &value, err);

    if (r != 0)
      return r;
    if (value > 0)
      break;
    c--;
  }
  *ret_end = q2_max (min, c << bits);
  return 0;
}

bool
q2_space_is_uncovered (struct q2_space *s, uint64_t cluster)
{
  bool uncovered;

  q2_mutex_lock (&s->lock);
  uncovered = q2_refcounts_is_uncovered_locked (&s->rc, cluster);
  q2_mutex_unlock (&s->lock);
  return uncovered;
}
