/* SPDX-License-Identifier: BSD-3-Clause */
/* counts.c - how often each host cluster is used, and what for.
 *
 * Owns      the counts.
 * Method    a tree of fixed depth: four levels of 512 pointers above leaves
 *           of 4096 clusters.  A leaf keeps a byte for each cluster: two bits
 *           of use, two flags and a count up to 15; when that is too small,
 *           it gets 32 bits for each instead.  The leaf of the last call is
 *           remembered, because callers go from cluster to cluster.
 * Locks     none; one thread at a time.
 */
#include "config.h"

#include "alloc/counts.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <stdlib.h>

#define LEAF_BITS 12
#define LEAF_SIZE (UINT64_C (1) << LEAF_BITS)
#define NODE_BITS 9
#define NODE_SIZE (UINT64_C (1) << NODE_BITS)
#define LEVELS 4

/* Of an element: use, flags and count. */
#define USE_MASK 3u
#define FLAGS_MASK (Q2_COUNT_COPIED | Q2_COUNT_PLAIN)
#define COUNT_SHIFT 4
#define NARROW_MAX 15u

struct leaf {
  uint32_t *wide;               /* if not NULL, instead of 'narrow' */
  uint8_t narrow[LEAF_SIZE];
};

struct node {
  void *child[NODE_SIZE];       /* nodes, of the last level leaves */
};

/* All memory of a tree, so that freeing it need not climb around in it. */
struct block {
  struct block *next;
  uint64_t bytes[];
};

struct q2_counts {
  struct node root;
  struct block *blocks;
  uint64_t bytes, max_bytes;
  uint64_t end;
  uint64_t total[Q2_USE_META + 1];
  uint64_t last_nr;             /* the leaf that was used last */
  struct leaf *last;            /* may be NULL */
};

struct q2_counts *
q2_counts_new (uint64_t max_bytes, struct qcow2_error *err)
{
  struct q2_counts *const c = calloc (1, sizeof *c);

  if (c == NULL)
    q2_fail_nomem (err, "counting references to clusters");
  else
    c->max_bytes = max_bytes;
  return c;
}

void
q2_counts_free (struct q2_counts *c)
{
  if (c == NULL)
    return;
  while (c->blocks != NULL) {
    struct block *const block = c->blocks;

    c->blocks = block->next;
    free (block);
  }
  free (c);
}

/* ---- The tree ---------------------------------------------------------- */

/* Bits of a cluster's number below those that choose among a node's
 * children.
 */
static unsigned
level_shift (unsigned level)
{
  return LEAF_BITS + (LEVELS - 1 - level) * NODE_BITS;
}

/* Memory of the tree, zeroed. */
static enum q2_counts_result
take_memory (struct q2_counts *c, size_t size, void **ret)
{
  struct block *block;

  if (size > c->max_bytes - c->bytes)
    return Q2_COUNTS_FULL;
  block = calloc (1, sizeof *block + size);
  if (block == NULL)
    return Q2_COUNTS_NOMEM;
  block->next = c->blocks;
  c->blocks = block;
  c->bytes += size;
  *ret = block->bytes;
  return Q2_COUNTS_OK;
}

/* The leaf of a cluster; NULL if there is none. */
static struct leaf *
find_leaf (struct q2_counts *c, uint64_t cluster)
{
  struct node *node = &c->root;

  if (c->last != NULL && c->last_nr == cluster >> LEAF_BITS)
    return c->last;
  for (unsigned level = 0; level < LEVELS && node != NULL; ++level)
    node = node->child[(cluster >> level_shift (level)) & (NODE_SIZE - 1)];
  c->last_nr = cluster >> LEAF_BITS;
  c->last = (struct leaf *) node;
  return c->last;
}

static enum q2_counts_result
make_leaf (struct q2_counts *c, uint64_t cluster, struct leaf **ret_leaf)
{
  struct node *node = &c->root;

  for (unsigned level = 0; level < LEVELS; ++level) {
    void **const child =
      &node->child[(cluster >> level_shift (level)) & (NODE_SIZE - 1)];

    if (*child == NULL) {
      const enum q2_counts_result r =
        take_memory (c, level + 1 < LEVELS ? sizeof (struct node)
                     : sizeof (struct leaf), child);

      if (r != Q2_COUNTS_OK)
        return r;
    }
    node = *child;
  }
  c->last_nr = cluster >> LEAF_BITS;
  c->last = *ret_leaf = (struct leaf *) node;
  return Q2_COUNTS_OK;
}

static uint32_t
get_element (const struct leaf *leaf, uint64_t cluster)
{
  const size_t i = cluster & (LEAF_SIZE - 1);

  return leaf->wide ? leaf->wide[i] : leaf->narrow[i];
}

static enum q2_counts_result
set_element (struct q2_counts *c, struct leaf *leaf, uint64_t cluster,
             uint32_t v)
{
  const size_t i = cluster & (LEAF_SIZE - 1);

  if (leaf->wide == NULL && v >> COUNT_SHIFT > NARROW_MAX) {
    void *wide;
    const enum q2_counts_result r =
      take_memory (c, LEAF_SIZE * sizeof *leaf->wide, &wide);

    if (r != Q2_COUNTS_OK)
      return r;
    leaf->wide = wide;
    for (size_t j = 0; j < LEAF_SIZE; ++j)
      leaf->wide[j] = leaf->narrow[j];
  }
  if (leaf->wide)
    leaf->wide[i] = v;
  else
    leaf->narrow[i] = (uint8_t) v;
  return Q2_COUNTS_OK;
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
  struct leaf *leaf = find_leaf (c, cluster);
  enum q2_counts_result r = Q2_COUNTS_OK;
  enum q2_use old_use;
  uint32_t old;

  if (!q2_check (n > 0 && use != Q2_USE_NONE &&
                 cluster >> Q2_COUNTS_BITS == 0 && (flags & ~FLAGS_MASK) == 0))
    return Q2_COUNTS_FULL;
  if (leaf == NULL && (r = make_leaf (c, cluster, &leaf)) != Q2_COUNTS_OK)
    return r;
  old = get_element (leaf, cluster);
  old_use = (enum q2_use) (old & USE_MASK);
  if (ret_old)
    *ret_old = old_use;
  if (exclude_each_other (old_use, use))
    return Q2_COUNTS_CONFLICT;
  if (n > Q2_COUNTS_MAX - (old >> COUNT_SHIFT))
    return Q2_COUNTS_OVERFLOW;
  r = set_element (c, leaf, cluster, (uint32_t) use | flags |
                   (old & FLAGS_MASK) |
                   ((old >> COUNT_SHIFT) + n) << COUNT_SHIFT);
  if (r != Q2_COUNTS_OK)
    return r;
  if (old_use == Q2_USE_NONE)
    c->total[use]++;
  c->end = q2_max (c->end, cluster + 1);
  return Q2_COUNTS_OK;
}

void
q2_counts_clear (struct q2_counts *c, uint64_t cluster)
{
  struct leaf *const leaf = find_leaf (c, cluster);

  if (leaf == NULL)
    return;
  c->total[get_element (leaf, cluster) & USE_MASK]--;
  if (leaf->wide)
    leaf->wide[cluster & (LEAF_SIZE - 1)] = 0;
  else
    leaf->narrow[cluster & (LEAF_SIZE - 1)] = 0;
}

struct q2_count
q2_counts_get (struct q2_counts *c, uint64_t cluster)
{
  const struct leaf *const leaf = find_leaf (c, cluster);
  const uint32_t v = leaf ? get_element (leaf, cluster) : 0;

  return (struct q2_count) {
    .use = (enum q2_use) (v & USE_MASK), .flags = v & FLAGS_MASK,
    .count = v >> COUNT_SHIFT,
  };
}

/* ---- Searching --------------------------------------------------------- */

/* Which uses a search is for: bit n for use n. */
static bool
matches (uint32_t element, unsigned uses)
{
  return uses >> (element & USE_MASK) & 1;
}

static uint64_t
search (const struct q2_counts *c, uint64_t cluster, unsigned uses)
{
  while (cluster >> Q2_COUNTS_BITS == 0) {
    const struct node *node = &c->root;
    unsigned shift = level_shift (0);

    for (unsigned level = 0; level < LEVELS && node != NULL; ++level) {
      shift = level_shift (level);
      node = node->child[(cluster >> shift) & (NODE_SIZE - 1)];
    }
    if (node == NULL) {         /* no cluster of this subtree is used */
      if (matches (Q2_USE_NONE, uses))
        return cluster;
      cluster = ((cluster >> shift) + 1) << shift;
      continue;
    }
    do
      if (matches (get_element ((const struct leaf *) node, cluster), uses))
        return cluster;
    while (++cluster & (LEAF_SIZE - 1));
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
