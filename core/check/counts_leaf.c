/* SPDX-License-Identifier: BSD-3-Clause */
/* counts_leaf.c - the counts of 4096 clusters that lie next to each other.
 *
 * Owns      how the elements of a leaf are kept.
 * Method    a sorted array while few of its clusters are in use; then a byte
 *           for each of them: two bits of use, two flags and a count up to 15;
 *           when that is too small, 32 bits for each instead.
 * Locks     none; see counts.c.
 */
#include "config.h"

#include "check/counts_impl.h"

#include "base/assume.h"

#include <string.h>

#define NARROW_MAX 15u
#define MAX_FEW 256u

/* The first of the few that is not below 'i'. */
uint32_t
q2_counts_find_few (const struct q2_counts_leaf *leaf, uint32_t i)
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

uint32_t
q2_counts_element (const struct q2_counts_leaf *leaf, uint64_t cluster)
{
  const uint32_t i = cluster & (Q2_LEAF_SIZE - 1);

  if (leaf->max_few > 0) {
    const uint32_t at = q2_counts_find_few (leaf, i);

    return at < leaf->nr_few && leaf->few[at].i == i ? leaf->few[at].element
      : 0;
  }
  return leaf->wide ? leaf->wide[i] : leaf->narrow[i];
}

/* From few elements to one for each cluster. */
static enum q2_counts_result
make_dense (struct q2_counts *c, struct q2_counts_leaf *leaf)
{
  enum q2_counts_result r;
  bool fits = true;
  void *memory;

  for (uint32_t n = 0; n < leaf->nr_few; ++n)
    fits &= leaf->few[n].element >> Q2_ELEMENT_SHIFT <= NARROW_MAX;
  r = q2_counts_take_memory (c, Q2_LEAF_SIZE * (fits ? sizeof *leaf->narrow
                                   : sizeof *leaf->wide), &memory);
  if (r != Q2_COUNTS_OK)
    return r;
  *(fits ? (void **) &leaf->narrow : (void **) &leaf->wide) = memory;
  for (uint32_t n = 0; n < leaf->nr_few; ++n)
    if (fits)
      leaf->narrow[leaf->few[n].i] = (uint8_t) leaf->few[n].element;
    else
      leaf->wide[leaf->few[n].i] = leaf->few[n].element;
  q2_counts_give_memory (c, leaf->few, leaf->max_few * sizeof *leaf->few);
  leaf->few = NULL;
  leaf->nr_few = leaf->max_few = 0;
  return r;
}

static enum q2_counts_result
make_wide (struct q2_counts *c, struct q2_counts_leaf *leaf)
{
  void *memory;
  const enum q2_counts_result r =
    q2_counts_take_memory (c, Q2_LEAF_SIZE * sizeof *leaf->wide, &memory);

  if (r != Q2_COUNTS_OK)
    return r;
  q2_check (leaf->narrow != NULL && leaf->wide == NULL);
  leaf->wide = memory;
  for (size_t j = 0; j < Q2_LEAF_SIZE; ++j)
    leaf->wide[j] = leaf->narrow[j];
  q2_counts_give_memory (c, leaf->narrow, Q2_LEAF_SIZE * sizeof *leaf->narrow);
  leaf->narrow = NULL;
  return r;
}

static enum q2_counts_result
more_few (struct q2_counts *c, struct q2_counts_leaf *leaf)
{
  const size_t old = leaf->max_few * sizeof *leaf->few;
  enum q2_counts_result r;
  void *memory;

  q2_check (leaf->nr_few == leaf->max_few && leaf->max_few <= MAX_FEW);
  if (leaf->max_few == MAX_FEW)
    return make_dense (c, leaf);
  r = q2_counts_take_memory (c, 2 * old, &memory);
  if (r != Q2_COUNTS_OK)
    return r;
  memcpy (memory, leaf->few, old);
  q2_counts_give_memory (c, leaf->few, old);
  leaf->few = memory;
  leaf->max_few *= 2;
  return r;
}

/* False if there is no room. */
static bool
set_few (struct q2_counts_leaf *leaf, uint32_t i, uint32_t v)
{
  const uint32_t at = q2_counts_find_few (leaf, i);

  if (at < leaf->nr_few && leaf->few[at].i == i) {
    leaf->few[at].element = v;
    return true;
  }
  if (leaf->nr_few == leaf->max_few)
    return false;
  memmove (leaf->few + at + 1, leaf->few + at,
           (leaf->nr_few++ - at) * sizeof *leaf->few);
  leaf->few[at] = (struct q2_counts_one) { i, v };
  return true;
}

enum q2_counts_result
q2_counts_set_element (struct q2_counts *c, struct q2_counts_leaf *leaf,
                       uint64_t cluster, uint32_t v)
{
  const uint32_t i = cluster & (Q2_LEAF_SIZE - 1);
  enum q2_counts_result r = Q2_COUNTS_OK;

  while (leaf->max_few > 0) {
    if (set_few (leaf, i, v))
      return r;
    r = more_few (c, leaf);
    if (r != Q2_COUNTS_OK)
      return r;
  }
  if (leaf->wide == NULL && v >> Q2_ELEMENT_SHIFT > NARROW_MAX)
    r = make_wide (c, leaf);
  if (r != Q2_COUNTS_OK)
    return r;
  if (leaf->wide)
    leaf->wide[i] = v;
  else
    leaf->narrow[i] = (uint8_t) v;
  return r;
}
