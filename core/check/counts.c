/* SPDX-License-Identifier: BSD-3-Clause */
/* counts.c - how often each host cluster is used, and what for.
 *
 * Owns      the counts: which uses exclude each other, the totals, and
 *           searching.
 * Method    leaves of 4096 clusters each (counts_leaf.c), found by a B+ tree
 *           (counts_tree.c).  The leaf of the last call is remembered, because
 *           callers go from cluster to cluster.
 * Locks     none; one thread at a time.
 */
#include "config.h"

#include "check/counts_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <stdlib.h>

struct q2_counts *
q2_counts_new (uint64_t max_bytes, struct qcow2_budget *budget,
               struct qcow2_error *err)
{
  struct q2_counts *const c = calloc (1, sizeof *c);

  if (c == NULL) {
    q2_fail_nomem (err, "counting references to clusters");
    return NULL;
  }
  c->max_bytes = max_bytes;
  c->stop = UINT64_MAX;
  c->budget = budget;
  return c;
}

void
q2_counts_free (struct q2_counts *c)
{
  if (c == NULL)
    return;
  q2_check (c->bytes <= c->max_bytes);
  q2_counts_free_tree (c);
  q2_budget_give (c->budget, c->bytes);
  free (c);
}
/* ---- One cluster ------------------------------------------------------- */

static bool
exclude_each_other (enum q2_use old, enum q2_use new)
{
  return old != Q2_USE_NONE && (old != new || old == Q2_USE_META);
}

enum q2_counts_result
q2_counts_add (struct q2_counts *c, uint64_t cluster, uint32_t n,
               enum q2_use use, unsigned flags, enum q2_use *ret_old)
{
  enum q2_counts_result r = Q2_COUNTS_OK;
  struct q2_counts_leaf *leaf;
  enum q2_use old_use;
  uint32_t old;

  if (!q2_check (n > 0 && use != Q2_USE_NONE &&
                 cluster >> Q2_COUNTS_BITS == 0 &&
                 (flags & ~Q2_ELEMENT_FLAGS) == 0))
    return Q2_COUNTS_FULL;
  if (use == Q2_USE_DATA && (cluster < c->begin || cluster >= c->stop)) {
    q2_counts_note_outside (c, cluster);
    return Q2_COUNTS_OK;
  }
  leaf = q2_counts_find_leaf (c, cluster);
  if (leaf == NULL &&
      (r = q2_counts_make_leaf (c, cluster, &leaf)) != Q2_COUNTS_OK)
    return r;
  old = q2_counts_element (leaf, cluster);
  old_use = (enum q2_use) (old & Q2_ELEMENT_USE);
  if (ret_old)
    *ret_old = old_use;
  if (exclude_each_other (old_use, use))
    return Q2_COUNTS_CONFLICT;
  if (n > Q2_COUNTS_MAX - (old >> Q2_ELEMENT_SHIFT))
    return Q2_COUNTS_OVERFLOW;
  r = q2_counts_set_element (c, leaf, cluster, (uint32_t) use | flags |
                             (old & Q2_ELEMENT_FLAGS) |
                             ((old >> Q2_ELEMENT_SHIFT) + n) <<
                             Q2_ELEMENT_SHIFT);
  if (r != Q2_COUNTS_OK)
    return r;
  if (old_use == Q2_USE_NONE)
    c->total[use]++;
  c->end = q2_max (c->end, cluster + 1);
  return Q2_COUNTS_OK;
}

uint64_t
q2_counts_add_run (struct q2_counts *c, uint64_t cluster, uint64_t nr,
                   uint32_t n, unsigned flags)
{
  const uint32_t i = cluster & (Q2_LEAF_SIZE - 1);
  struct q2_counts_leaf *leaf;
  uint32_t old, same;

  if (!q2_check (n > 0 && nr > 0 && (flags & ~Q2_ELEMENT_FLAGS) == 0) ||
      cluster < c->begin || cluster >= c->stop ||
      (leaf = q2_counts_find_leaf (c, cluster)) == NULL)
    return 0;
  old = q2_counts_element (leaf, cluster);
  if (exclude_each_other ((enum q2_use) (old & Q2_ELEMENT_USE), Q2_USE_DATA)
      || n > Q2_COUNTS_MAX - (old >> Q2_ELEMENT_SHIFT))
    return 0;
  same = q2_counts_same_elements
    (leaf, i, (uint32_t) q2_min (q2_min (nr, c->stop - cluster),
                                 Q2_LEAF_SIZE - i));
  if (!q2_counts_set_elements (leaf, i, same, Q2_USE_DATA | flags |
                               (old & Q2_ELEMENT_FLAGS) |
                               ((old >> Q2_ELEMENT_SHIFT) + n) <<
                               Q2_ELEMENT_SHIFT))
    return 0;
  if (old == 0)
    c->total[Q2_USE_DATA] += same;
  c->end = q2_max (c->end, cluster + same);
  return same;
}

enum q2_counts_result
q2_counts_turn (struct q2_counts *c, uint64_t cluster, enum q2_use use,
                unsigned flags)
{
  struct q2_counts_leaf *const leaf = q2_counts_find_leaf (c, cluster);
  enum q2_counts_result r;
  uint32_t old;

  if (!q2_check (leaf != NULL))
    return Q2_COUNTS_OK;
  old = q2_counts_element (leaf, cluster);
  q2_check (old != 0 && c->total[old & Q2_ELEMENT_USE] > 0);
  r = q2_counts_turn_element (c, leaf, cluster, (old & ~Q2_ELEMENT_USE) |
                              (uint32_t) use | flags);
  if (r == Q2_COUNTS_OK) {
    c->total[old & Q2_ELEMENT_USE]--;
    c->total[use]++;
  }
  return r;
}

void
q2_counts_clear (struct q2_counts *c, uint64_t cluster)
{
  struct q2_counts_leaf *const leaf = q2_counts_find_leaf (c, cluster);
  uint32_t old;

  if (leaf == NULL)
    return;
  old = q2_counts_element (leaf, cluster);
  /* What is no data is in a run of its own, so there is room. */
  if (old != 0 && q2_check (q2_counts_turn_element (c, leaf, cluster, 0) ==
                            Q2_COUNTS_OK))
    c->total[old & Q2_ELEMENT_USE]--;
}

static struct q2_count
decode (uint32_t v)
{
  return (struct q2_count) {
    .use = (enum q2_use) (v & Q2_ELEMENT_USE), .flags = v & Q2_ELEMENT_FLAGS,
    .count = v >> Q2_ELEMENT_SHIFT,
  };
}

struct q2_count
q2_counts_get (struct q2_counts *c, uint64_t cluster)
{
  const struct q2_counts_leaf *const leaf = q2_counts_find_leaf (c, cluster);

  return decode (leaf ? q2_counts_element (leaf, cluster) : 0);
}

uint64_t
q2_counts_get_run (struct q2_counts *c, uint64_t cluster, uint64_t max,
                   struct q2_count *ret)
{
  const struct q2_counts_leaf *const leaf =
    q2_counts_next_leaf (c, cluster >> Q2_LEAF_BITS);
  const uint32_t i = cluster & (Q2_LEAF_SIZE - 1);

  q2_check (max > 0);
  if (leaf == NULL || leaf->nr > cluster >> Q2_LEAF_BITS) {
    *ret = decode (0);
    return leaf == NULL ? max
      : q2_min (max, (leaf->nr << Q2_LEAF_BITS) - cluster);
  }
  *ret = decode (q2_counts_element (leaf, cluster));
  return q2_counts_same_elements (leaf, i, (uint32_t)
                                  q2_min (max, Q2_LEAF_SIZE - i));
}

/* ---- Searching --------------------------------------------------------- */

/* Which uses a search is for: bit n for use n. */
static bool
matches (uint32_t element, unsigned uses)
{
  return uses >> (element & Q2_ELEMENT_USE) & 1;
}

/* The first one from 'i' on, or Q2_LEAF_SIZE. */
static uint64_t
search_runs (const struct q2_counts_leaf *leaf, uint32_t i, unsigned uses)
{
  uint32_t at = q2_counts_find_run (leaf, i);

  for (; at < leaf->nr_runs; ++at) {
    const struct q2_counts_run *const run = &leaf->runs[at];

    if (matches (0, uses) && run->i > i)
      return i;
    if (matches (run->element, uses))
      return q2_max (run->i, i);
    i = (uint32_t) run->i + run->nr;
  }
  return matches (0, uses) ? i : Q2_LEAF_SIZE;
}

static uint64_t
search_leaf (const struct q2_counts_leaf *leaf, uint32_t i, unsigned uses)
{
  if (leaf->max_runs > 0)
    return search_runs (leaf, i, uses);
  while (i < Q2_LEAF_SIZE &&
         !matches (leaf->wide ? leaf->wide[i] : leaf->narrow[i], uses))
    ++i;
  return i;
}

static uint64_t
search (const struct q2_counts *c, uint64_t cluster, unsigned uses)
{
  while (cluster >> Q2_COUNTS_BITS == 0) {
    const struct q2_counts_leaf *const leaf =
      q2_counts_next_leaf (c, cluster >> Q2_LEAF_BITS);
    uint64_t i;

    if (leaf == NULL)
      return matches (Q2_USE_NONE, uses) ? cluster : UINT64_MAX;
    if (leaf->nr > cluster >> Q2_LEAF_BITS) {
      if (matches (Q2_USE_NONE, uses))
        return cluster;
      cluster = leaf->nr << Q2_LEAF_BITS;
    }
    i = search_leaf (leaf, cluster & (Q2_LEAF_SIZE - 1), uses);
    cluster = (leaf->nr << Q2_LEAF_BITS) + i;
    if (i < Q2_LEAF_SIZE)
      return cluster;
  }
  return UINT64_MAX;
}

uint64_t
q2_counts_next_used (const struct q2_counts *c, uint64_t cluster)
{
  return search (c, cluster, ~(1u << Q2_USE_NONE));
}

uint64_t
q2_counts_next_free (const struct q2_counts *c, uint64_t cluster)
{
  return search (c, cluster, 1u << Q2_USE_NONE);
}

uint64_t
q2_counts_next (const struct q2_counts *c, uint64_t cluster, enum q2_use use)
{
  return search (c, cluster, 1u << use);
}

uint64_t
q2_counts_end (const struct q2_counts *c)
{
  return c->end;
}

uint64_t
q2_counts_total (const struct q2_counts *c, enum q2_use use)
{
  return c->total[use];
}
