/* SPDX-License-Identifier: BSD-3-Clause */
/* counts_tree.c - finds the leaf that counts a cluster.
 *
 * Owns      the B+ tree, and the memory of the counts.
 * Method    no node is ever deleted from the tree, and leaves only when the
 *           counts shrink, so memory goes with the
 *           clusters that are in use, however far they lie from each other: a
 *           file with holes can be larger than all memory.
 * Locks     none; see counts.c.
 */
#include "config.h"

#include "check/counts_impl.h"

#include "base/assume.h"

#include <stdlib.h>

/* ---- Memory ------------------------------------------------------------ */

/* Zeroed memory. */
enum q2_counts_result
q2_counts_take_memory (struct q2_counts *c, size_t size, void **ret)
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

void
q2_counts_give_memory (struct q2_counts *c, void *p, size_t size)
{
  free (p);
  if (!q2_check (size <= c->bytes))
    return;
  c->bytes -= size;
  q2_budget_give (c->budget, size);
}
/* ---- Freeing ----------------------------------------------------------- */

static void
leaf_free (struct q2_counts_leaf *leaf)
{
  free (leaf->runs);
  free (leaf->narrow);
  free (leaf->wide);
  free (leaf);
}

/* As deep as the tree is high: ten levels at the very most. */
static void
node_free (struct q2_counts_node *node, unsigned height)
{
  for (unsigned i = 0; i < node->nr; ++i)
    if (height > 0)
      node_free (node->children[i], height - 1);
    else
      leaf_free (node->children[i]);
  free (node);
}

void
q2_counts_free_tree (struct q2_counts *c)
{
  if (c->root)
    node_free (c->root, c->height);
}

/* ---- The tree ---------------------------------------------------------- */

/* The child that has 'key', if there is such a thing. */
static unsigned
child_of (const struct q2_counts_node *node, uint64_t key)
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
struct q2_counts_leaf *
q2_counts_next_leaf (const struct q2_counts *c, uint64_t nr)
{
  const struct q2_counts_node *node = c->root;
  unsigned i;

  if (c->last != NULL && c->last->nr == nr)
    return c->last;
  if (node == NULL)
    return NULL;
  for (unsigned h = c->height; h > 0; --h)
    node = node->children[child_of (node, nr)];
  i = child_of (node, nr);
  if (i < node->nr && node->keys[i] < nr)
    ++i;
  while (node != NULL && i >= node->nr) {       /* perhaps it is empty */
    node = node->next;
    i = 0;
  }
  return node ? node->children[i] : NULL;
}

/* The leaf of a cluster; NULL if there is none. */
struct q2_counts_leaf *
q2_counts_find_leaf (struct q2_counts *c, uint64_t cluster)
{
  struct q2_counts_leaf *const leaf =
    q2_counts_next_leaf (c, cluster >> Q2_LEAF_BITS);

  if (leaf == NULL || leaf->nr != cluster >> Q2_LEAF_BITS)
    return NULL;
  c->last = leaf;
  return leaf;
}

static void
put_child (struct q2_counts_node *node, unsigned i, uint64_t key, void *child)
{
  if (!q2_check (node->nr < Q2_COUNTS_FANOUT && i <= node->nr))
    return;
  q2_check ((i == 0 || node->keys[i - 1] < key) &&
            (i == node->nr || key < node->keys[i]));
  for (unsigned j = node->nr++; j > i; --j) {
    node->keys[j] = node->keys[j - 1];
    node->children[j] = node->children[j - 1];
  }
  node->keys[i] = key;
  node->children[i] = child;
}

static void
prune_node (struct q2_counts *c, struct q2_counts_node *node)
{
  unsigned kept = 0;

  for (unsigned i = 0; i < node->nr; ++i) {
    struct q2_counts_leaf *const leaf = node->children[i];

    if (leaf->max_runs > 0 && leaf->nr_runs == 0) {
      q2_counts_give_memory (c, leaf->runs,
                             leaf->max_runs * sizeof *leaf->runs);
      q2_counts_give_memory (c, leaf, sizeof *leaf);
      continue;
    }
    node->keys[kept] = node->keys[i];
    node->children[kept++] = leaf;
  }
  node->nr = kept;
}

void
q2_counts_prune (struct q2_counts *c)
{
  struct q2_counts_node *node = c->root;

  c->last = NULL;
  for (unsigned h = c->height; h > 0; --h)
    node = node->children[0];
  for (; node != NULL; node = node->next)
    prune_node (c, node);
}

/* Make two of child i of 'parent', which has room, and is full. */
static enum q2_counts_result
split (struct q2_counts *c, struct q2_counts_node *parent, unsigned i)
{
  struct q2_counts_node *const left = parent->children[i];
  const unsigned half = Q2_COUNTS_FANOUT / 2;
  struct q2_counts_node *right;
  void *memory;
  const enum q2_counts_result r =
    q2_counts_take_memory (c, sizeof *right, &memory);

  if (r != Q2_COUNTS_OK)
    return r;
  q2_check (left->nr == Q2_COUNTS_FANOUT && parent->nr < Q2_COUNTS_FANOUT);
  right = memory;
  for (unsigned j = half; j < Q2_COUNTS_FANOUT; ++j)
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
  struct q2_counts_node *root;
  void *memory;

  if (c->root != NULL && c->root->nr < Q2_COUNTS_FANOUT)
    return Q2_COUNTS_OK;
  r = q2_counts_take_memory (c, sizeof *root, &memory);
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
    q2_counts_give_memory (c, root, sizeof *root);
    return r;
  }
  c->root = root;
  c->height++;
  return r;
}

/* The lowest node that a new leaf goes to, which has room for it. */
static enum q2_counts_result
make_room (struct q2_counts *c, uint64_t nr, struct q2_counts_node **ret)
{
  enum q2_counts_result r = prepare_root (c);
  struct q2_counts_node *node = c->root;

  for (unsigned h = c->height; h > 0 && r == Q2_COUNTS_OK; --h) {
    unsigned i = child_of (node, nr);
    const struct q2_counts_node *const child = node->children[i];

    if (!q2_check (child != NULL))
      return Q2_COUNTS_NOMEM;
    if (child->nr == Q2_COUNTS_FANOUT) {
      r = split (c, node, i);
      i = child_of (node, nr);
    }
    node = node->children[i];
  }
  *ret = node;
  return r;
}

enum q2_counts_result
q2_counts_make_leaf (struct q2_counts *c, uint64_t cluster,
                     struct q2_counts_leaf **ret_leaf)
{
  const uint64_t nr = cluster >> Q2_LEAF_BITS;
  struct q2_counts_node *node;
  enum q2_counts_result r = make_room (c, nr, &node);
  struct q2_counts_leaf *leaf;
  void *memory, *runs;
  unsigned i = 0;

  if (r != Q2_COUNTS_OK ||
      (r = q2_counts_take_memory (c, sizeof *leaf, &memory)) != Q2_COUNTS_OK)
    return r;
  leaf = memory;
  r = q2_counts_take_memory (c, Q2_COUNTS_FIRST_RUNS * sizeof *leaf->runs,
                             &runs);
  if (r != Q2_COUNTS_OK) {
    q2_counts_give_memory (c, leaf, sizeof *leaf);
    return r;
  }
  *leaf = (struct q2_counts_leaf) {
    .nr = nr, .max_runs = Q2_COUNTS_FIRST_RUNS, .runs = runs,
  };
  while (i < node->nr && node->keys[i] < nr)
    ++i;
  put_child (node, i, nr, leaf);
  c->last = *ret_leaf = leaf;
  return r;
}
