/* SPDX-License-Identifier: BSD-3-Clause */
/* counts.c - how often each host cluster is used, and what for.
 *
 * Owns      the counts.
 * Method    leaves of 4096 clusters each, found by a B+ tree of which nothing
 *           is ever deleted, so memory goes with the clusters that are in
 *           use, however far they lie from each other: a file with holes can
 *           be larger than all memory.  A leaf is a sorted array while few of
 *           its clusters are in use.  Then it keeps a byte for each of them:
 *           two bits of use, two flags and a count up to 15; when that is
 *           too small, it gets 32 bits for each instead.  The leaf of the last
 *           call is remembered, because callers go from cluster to cluster.
 * Locks     none; one thread at a time.
 */
#include "config.h"

#include "check/counts.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

#define LEAF_BITS 12
#define LEAF_SIZE (UINT64_C (1) << LEAF_BITS)

/* Of an element: use, flags and count. */
#define USE_MASK 3u
#define FLAGS_MASK (Q2_COUNT_COPIED | Q2_COUNT_PLAIN)
#define COUNT_SHIFT 4
#define NARROW_MAX 15u

#define FIRST_FEW 4u
#define MAX_FEW 256u

/* One of 'few': which cluster of the leaf, and its element. */
struct one {
  uint32_t i, element;
};

struct leaf {
  uint64_t nr;                  /* of its first cluster / LEAF_SIZE */
  uint32_t nr_few, max_few;     /* max_few is 0 if it has one of the others */
  struct one *few;              /* ascending */
  uint8_t *narrow;              /* LEAF_SIZE of them, or NULL */
  uint32_t *wide;               /* instead, if not NULL */
};

/* children[i] has what is at least keys[i], and less than keys[i + 1];
 * keys[0] stands for 0 in all but the lowest nodes, whose children are leaves.
 */
#define FANOUT 32
struct node {
  unsigned nr;
  struct node *next;            /* of the lowest ones: the one to the right */
  uint64_t keys[FANOUT];
  void *children[FANOUT];
};

struct q2_counts {
  struct node *root;            /* NULL: there is nothing */
  unsigned height;              /* levels above the lowest nodes */
  struct qcow2_budget *budget;
  uint64_t bytes, max_bytes;
  uint64_t end;
  uint64_t total[Q2_USE_META + 1];
  struct leaf *last;            /* that was used last; may be NULL */
};

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
  c->budget = budget;
  return c;
}

static void
leaf_free (struct leaf *leaf)
{
  free (leaf->few);
  free (leaf->narrow);
  free (leaf->wide);
  free (leaf);
}

/* As deep as the tree is high: ten levels at the very most. */
static void
node_free (struct node *node, unsigned height)
{
  for (unsigned i = 0; i < node->nr; ++i)
    if (height > 0)
      node_free (node->children[i], height - 1);
    else
      leaf_free (node->children[i]);
  free (node);
}

void
q2_counts_free (struct q2_counts *c)
{
  if (c == NULL)
    return;
  if (c->root)
    node_free (c->root, c->height);
  q2_budget_give (c->budget, c->bytes);
  free (c);
}

/* Zeroed memory. */
static enum q2_counts_result
take_memory (struct q2_counts *c, size_t size, void **ret)
{
  if (size > c->max_bytes - c->bytes || !q2_budget_try (c->budget, size))
    return Q2_COUNTS_FULL;
  *ret = calloc (1, size);
  if (*ret == NULL) {
    q2_budget_give (c->budget, size);
    return Q2_COUNTS_NOMEM;
  }
  c->bytes += size;
  return Q2_COUNTS_OK;
}

static void
give_memory (struct q2_counts *c, void *p, size_t size)
{
  free (p);
  c->bytes -= size;
  q2_budget_give (c->budget, size);
}

/* ---- The tree ---------------------------------------------------------- */

/* The child that has 'key', if there is such a thing. */
static unsigned
child_of (const struct node *node, uint64_t key)
{
  unsigned low = 0, high = node->nr;

  while (high - low > 1) {
    const unsigned middle = (low + high) / 2;

    if (node->keys[middle] <= key)
      low = middle;
    else
      high = middle;
  }
  return low;
}

/* The first leaf at 'nr' or behind it, or NULL. */
static struct leaf *
next_leaf (const struct q2_counts *c, uint64_t nr)
{
  const struct node *node = c->root;
  unsigned i;

  if (c->last != NULL && c->last->nr == nr)
    return c->last;
  if (node == NULL)
    return NULL;
  for (unsigned h = c->height; h > 0; --h)
    node = node->children[child_of (node, nr)];
  i = child_of (node, nr);
  if (node->keys[i] < nr)
    ++i;
  if (i == node->nr) {
    node = node->next;
    i = 0;
  }
  return node ? node->children[i] : NULL;
}

/* The leaf of a cluster; NULL if there is none. */
static struct leaf *
find_leaf (struct q2_counts *c, uint64_t cluster)
{
  struct leaf *const leaf = next_leaf (c, cluster >> LEAF_BITS);

  if (leaf == NULL || leaf->nr != cluster >> LEAF_BITS)
    return NULL;
  c->last = leaf;
  return leaf;
}

static void
put_child (struct node *node, unsigned i, uint64_t key, void *child)
{
  for (unsigned j = node->nr++; j > i; --j) {
    node->keys[j] = node->keys[j - 1];
    node->children[j] = node->children[j - 1];
  }
  node->keys[i] = key;
  node->children[i] = child;
}

/* Make two of child i of 'parent', which has room, and is full. */
static enum q2_counts_result
split (struct q2_counts *c, struct node *parent, unsigned i)
{
  struct node *const left = parent->children[i];
  const unsigned half = FANOUT / 2;
  struct node *right;
  void *memory;
  const enum q2_counts_result r = take_memory (c, sizeof *right, &memory);

  if (r != Q2_COUNTS_OK)
    return r;
  right = memory;
  for (unsigned j = half; j < FANOUT; ++j)
    put_child (right, j - half, left->keys[j], left->children[j]);
  left->nr = half;
  right->next = left->next;
  left->next = right;
  put_child (parent, i + 1, right->keys[0], right);
  return Q2_COUNTS_OK;
}

/* See to it that the root exists and is not full. */
static enum q2_counts_result
prepare_root (struct q2_counts *c)
{
  enum q2_counts_result r;
  struct node *root;
  void *memory;

  if (c->root != NULL && c->root->nr < FANOUT)
    return Q2_COUNTS_OK;
  r = take_memory (c, sizeof *root, &memory);
  if (r != Q2_COUNTS_OK)
    return r;
  root = memory;
  if (c->root == NULL) {
    c->root = root;
    return Q2_COUNTS_OK;
  }
  put_child (root, 0, 0, c->root);
  r = split (c, root, 0);
  if (r != Q2_COUNTS_OK) {
    give_memory (c, root, sizeof *root);
    return r;
  }
  c->root = root;
  c->height++;
  return r;
}

/* The lowest node that a new leaf goes to, which has room for it. */
static enum q2_counts_result
make_room (struct q2_counts *c, uint64_t nr, struct node **ret)
{
  enum q2_counts_result r = prepare_root (c);
  struct node *node = c->root;

  for (unsigned h = c->height; h > 0 && r == Q2_COUNTS_OK; --h) {
    unsigned i = child_of (node, nr);

    if (((struct node *) node->children[i])->nr == FANOUT) {
      r = split (c, node, i);
      i = child_of (node, nr);
    }
    node = node->children[i];
  }
  *ret = node;
  return r;
}

static enum q2_counts_result
make_leaf (struct q2_counts *c, uint64_t cluster, struct leaf **ret_leaf)
{
  const uint64_t nr = cluster >> LEAF_BITS;
  struct node *node;
  enum q2_counts_result r = make_room (c, nr, &node);
  struct leaf *leaf;
  void *memory, *few;
  unsigned i = 0;

  if (r != Q2_COUNTS_OK ||
      (r = take_memory (c, sizeof *leaf, &memory)) != Q2_COUNTS_OK)
    return r;
  leaf = memory;
  r = take_memory (c, FIRST_FEW * sizeof *leaf->few, &few);
  if (r != Q2_COUNTS_OK) {
    give_memory (c, leaf, sizeof *leaf);
    return r;
  }
  *leaf = (struct leaf) { .nr = nr, .max_few = FIRST_FEW, .few = few };
  while (i < node->nr && node->keys[i] < nr)
    ++i;
  put_child (node, i, nr, leaf);
  c->last = *ret_leaf = leaf;
  return r;
}

/* ---- Leaves ------------------------------------------------------------ */

/* The first of the few that is not below 'i'. */
static uint32_t
find_few (const struct leaf *leaf, uint32_t i)
{
  uint32_t low = 0, high = leaf->nr_few;

  while (low < high) {
    const uint32_t middle = (low + high) / 2;

    if (leaf->few[middle].i < i)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

static uint32_t
get_element (const struct leaf *leaf, uint64_t cluster)
{
  const uint32_t i = cluster & (LEAF_SIZE - 1);

  if (leaf->max_few > 0) {
    const uint32_t at = find_few (leaf, i);

    return at < leaf->nr_few && leaf->few[at].i == i ? leaf->few[at].element
      : 0;
  }
  return leaf->wide ? leaf->wide[i] : leaf->narrow[i];
}

/* From few elements to one for each cluster. */
static enum q2_counts_result
make_dense (struct q2_counts *c, struct leaf *leaf)
{
  enum q2_counts_result r;
  bool fits = true;
  void *memory;

  for (uint32_t n = 0; n < leaf->nr_few; ++n)
    fits &= leaf->few[n].element >> COUNT_SHIFT <= NARROW_MAX;
  r = take_memory (c, LEAF_SIZE * (fits ? sizeof *leaf->narrow
                                   : sizeof *leaf->wide), &memory);
  if (r != Q2_COUNTS_OK)
    return r;
  *(fits ? (void **) &leaf->narrow : (void **) &leaf->wide) = memory;
  for (uint32_t n = 0; n < leaf->nr_few; ++n)
    if (fits)
      leaf->narrow[leaf->few[n].i] = (uint8_t) leaf->few[n].element;
    else
      leaf->wide[leaf->few[n].i] = leaf->few[n].element;
  give_memory (c, leaf->few, leaf->max_few * sizeof *leaf->few);
  leaf->few = NULL;
  leaf->nr_few = leaf->max_few = 0;
  return r;
}

static enum q2_counts_result
make_wide (struct q2_counts *c, struct leaf *leaf)
{
  void *memory;
  const enum q2_counts_result r =
    take_memory (c, LEAF_SIZE * sizeof *leaf->wide, &memory);

  if (r != Q2_COUNTS_OK)
    return r;
  leaf->wide = memory;
  for (size_t j = 0; j < LEAF_SIZE; ++j)
    leaf->wide[j] = leaf->narrow[j];
  give_memory (c, leaf->narrow, LEAF_SIZE * sizeof *leaf->narrow);
  leaf->narrow = NULL;
  return r;
}

static enum q2_counts_result
more_few (struct q2_counts *c, struct leaf *leaf)
{
  const size_t old = leaf->max_few * sizeof *leaf->few;
  enum q2_counts_result r;
  void *memory;

  if (leaf->max_few == MAX_FEW)
    return make_dense (c, leaf);
  r = take_memory (c, 2 * old, &memory);
  if (r != Q2_COUNTS_OK)
    return r;
  memcpy (memory, leaf->few, old);
  give_memory (c, leaf->few, old);
  leaf->few = memory;
  leaf->max_few *= 2;
  return r;
}

/* False if there is no room. */
static bool
set_few (struct leaf *leaf, uint32_t i, uint32_t v)
{
  const uint32_t at = find_few (leaf, i);

  if (at < leaf->nr_few && leaf->few[at].i == i) {
    leaf->few[at].element = v;
    return true;
  }
  if (leaf->nr_few == leaf->max_few)
    return false;
  memmove (leaf->few + at + 1, leaf->few + at,
           (leaf->nr_few++ - at) * sizeof *leaf->few);
  leaf->few[at] = (struct one) { i, v };
  return true;
}

static enum q2_counts_result
set_element (struct q2_counts *c, struct leaf *leaf, uint64_t cluster,
             uint32_t v)
{
  const uint32_t i = cluster & (LEAF_SIZE - 1);
  enum q2_counts_result r = Q2_COUNTS_OK;

  while (leaf->max_few > 0) {
    if (set_few (leaf, i, v))
      return r;
    r = more_few (c, leaf);
    if (r != Q2_COUNTS_OK)
      return r;
  }
  if (leaf->wide == NULL && v >> COUNT_SHIFT > NARROW_MAX)
    r = make_wide (c, leaf);
  if (r != Q2_COUNTS_OK)
    return r;
  if (leaf->wide)
    leaf->wide[i] = v;
  else
    leaf->narrow[i] = (uint8_t) v;
  return r;
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
  /* What is there becomes nothing, for which there is room. */
  if (get_element (leaf, cluster) != 0)
    q2_check (set_element (c, leaf, cluster, 0) == Q2_COUNTS_OK);
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

/* The first one from 'i' on, or LEAF_SIZE. */
static uint64_t
search_few (const struct leaf *leaf, uint32_t i, unsigned uses)
{
  uint32_t at = find_few (leaf, i);

  for (; at < leaf->nr_few; ++at) {
    if (matches (0, uses) && leaf->few[at].i > i)
      return i;
    if (matches (leaf->few[at].element, uses))
      return leaf->few[at].i;
    i = leaf->few[at].i + 1;
  }
  return matches (0, uses) ? i : LEAF_SIZE;
}

static uint64_t
search_leaf (const struct leaf *leaf, uint32_t i, unsigned uses)
{
  if (leaf->max_few > 0)
    return search_few (leaf, i, uses);
  while (i < LEAF_SIZE &&
         !matches (leaf->wide ? leaf->wide[i] : leaf->narrow[i], uses))
    ++i;
  return i;
}

static uint64_t
search (const struct q2_counts *c, uint64_t cluster, unsigned uses)
{
  while (cluster >> Q2_COUNTS_BITS == 0) {
    const struct leaf *const leaf = next_leaf (c, cluster >> LEAF_BITS);
    uint64_t i;

    if (leaf == NULL)
      return matches (Q2_USE_NONE, uses) ? cluster : UINT64_MAX;
    if (leaf->nr > cluster >> LEAF_BITS) {
      if (matches (Q2_USE_NONE, uses))
        return cluster;
      cluster = leaf->nr << LEAF_BITS;
    }
    i = search_leaf (leaf, cluster & (LEAF_SIZE - 1), uses);
    cluster = (leaf->nr << LEAF_BITS) + i;
    if (i < LEAF_SIZE)
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
