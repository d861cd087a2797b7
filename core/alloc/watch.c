/* SPDX-License-Identifier: BSD-3-Clause */
/* watch.c - what a check of an image that is being written to has to know of
 * its refcounts.
 *
 * Owns      looking at refcounts as they are in memory, and lowering one that
 *           is too high in the moment in which it is seen to be.
 * Method    every change of a refcount tells the suspects, under space.lock
 *           (refcounts.c); whoever judges one holds that lock, too.  A
 *           refcount that is lowered is part of the next commit, as any that
 *           goes down: nothing in the file refers to the cluster more often
 *           than was counted.
 * Locks     space.lock for each look, over no I/O.
 */
#include "config.h"

#include "alloc/space_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

void
q2_space_watch (struct q2_space *s, struct q2_suspects *suspects)
{
  q2_mutex_lock (&s->lock);
  q2_check (s->rc.suspects == NULL || suspects == NULL);
  s->rc.suspects = suspects;
  q2_mutex_unlock (&s->lock);
}

/* ---- Looking ------------------------------------------------------------ */

bool
q2_space_peek (struct q2_space *s, uint64_t cluster, uint64_t nr,
               uint64_t *ret_values, uint64_t *ret_nr, struct q2_need *need)
{
  struct q2_refcount_run counts;
  bool known;

  q2_mutex_lock (&s->lock);
  known = q2_refcounts_copy_locked (&s->rc, cluster, nr, &counts, need);
  q2_mutex_unlock (&s->lock);
  for (uint64_t i = 0; known && i < counts.nr; ++i)
    ret_values[i] = q2_refcount_run_get (&counts, i);
  *ret_nr = known ? counts.nr : 0;
  return known;
}

uint64_t
q2_space_blocks (struct q2_space *s, uint64_t first, uint64_t max,
                 uint64_t *ret_host_offs, uint64_t *ret_table_off,
                 uint64_t *ret_table_clusters)
{
  const struct q2_refcounts *const rc = &s->rc;
  uint64_t n;

  q2_mutex_lock (&s->lock);
  *ret_table_off = rc->table_host_off;
  *ret_table_clusters = rc->table_clusters;
  for (n = 0; n < max && first + n < rc->table_entries; ++n)
    ret_host_offs[n] = rc->table[first + n];
  q2_mutex_unlock (&s->lock);
  return n;
}

uint64_t
q2_space_next_covered (struct q2_space *s, uint64_t cluster)
{
  const struct q2_refcounts *const rc = &s->rc;
  const unsigned bits = s->geo->refblock_bits;
  uint64_t i = cluster >> bits, found = UINT64_MAX;

  q2_mutex_lock (&s->lock);
  while (i < rc->table_entries && rc->table[i] == 0)
    ++i;
  if (i < rc->table_entries)
    found = q2_max (cluster, i << bits);
  q2_mutex_unlock (&s->lock);
  return found;
}

/* ---- Judging ------------------------------------------------------------ */

/* What is too high becomes 'count', unless it is in use as something that
 * nobody counted.
 */
static bool
lower (struct q2_space *s, uint64_t cluster, uint64_t count,
       struct q2_need *need)
{
  const enum q2_meta_class class =
    q2_overlap_class (s->overlap, cluster << s->geo->cluster_bits);

  q2_mutex_check_held (&s->lock);
  if (count == 0 && class != Q2_META_NONE && class != Q2_META_SHARED_L2)
    return true;                /* it stays as it is */
  return q2_space_lower_locked (s, cluster, 1, count, need) == 1;
}

bool
q2_space_judge (struct q2_space *s, const struct q2_suspects *suspects,
                size_t i, uint64_t count, bool may_lower, uint64_t *ret_value,
                bool *ret_touched, struct q2_need *need)
{
  const uint64_t cluster = suspects->clusters[i];
  bool known;

  q2_check (i < suspects->nr);
  q2_mutex_lock (&s->lock);
  /* Else who changes them does not tell. */
  q2_check (s->rc.suspects == suspects);
  known = q2_refcounts_get_locked (&s->rc, cluster, ret_value, need);
  *ret_touched = q2_suspects_is_touched (suspects, i);
  if (known && may_lower && !*ret_touched && *ret_value > count)
    known = lower (s, cluster, count, need);
  if (known)
    known = q2_refcounts_get_locked (&s->rc, cluster, ret_value, need);
  q2_mutex_unlock (&s->lock);
  return known;
}
