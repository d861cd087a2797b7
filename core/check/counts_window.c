/* SPDX-License-Identifier: BSD-3-Clause */
/* counts_window.c - counts for a part of a file, when memory is short.
 *
 * Owns      what is given up so that the rest has room.
 * Method    data outside of the window is not counted; all else is, since it
 *           is little, and decides what else is looked at.  Half of what is
 *           counted leaves, from the end of the file on.
 * Locks     none; see counts.c.
 */
#include "config.h"

#include "check/counts_impl.h"

#include "base/assume.h"
#include "base/bits.h"

#include <stdlib.h>
#include <string.h>

#define MAX_KEPT 256u           /* of a leaf; more of them stay as they are */

void
q2_counts_set_window (struct q2_counts *c, uint64_t begin, uint64_t stop,
                      const struct q2_watch *watch)
{
  q2_check (begin <= stop || stop == 0);
  c->begin = begin;
  c->stop = stop;
  c->watch = watch;
}

/* ---- What is watched --------------------------------------------------- */

/* The first one that is not below 'cluster'. */
static size_t
find_watched (const struct q2_watch *w, uint64_t cluster)
{
  size_t low = 0, high = w->nr;

  while (low < high) {
    const size_t middle = (low + high) / 2;

    if (w->clusters[middle] < cluster)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

void
q2_counts_note_outside (struct q2_counts *c, uint64_t cluster)
{
  const struct q2_watch *const w = c->watch;

  c->end = q2_max (c->end, cluster + 1);
  if (w == NULL)
    return;
  for (size_t i = find_watched (w, cluster);
       i < w->nr && w->clusters[i] == cluster; ++i)
    w->hit[i] = true;
}

static bool
is_data (struct q2_counts *c, uint64_t cluster)
{
  const struct q2_counts_leaf *const leaf = q2_counts_find_leaf (c, cluster);

  return leaf != NULL && (q2_counts_element (leaf, cluster) & Q2_ELEMENT_USE)
    == Q2_USE_DATA;
}

static void
note_leaving (struct q2_counts *c, uint64_t stop)
{
  const struct q2_watch *const w = c->watch;

  if (w == NULL)
    return;
  for (size_t i = find_watched (w, stop); i < w->nr; ++i)
    if (is_data (c, w->clusters[i]))
      w->hit[i] = true;
}

/* ---- Leaves ------------------------------------------------------------ */

static uint64_t
leaf_bytes (const struct q2_counts_leaf *leaf)
{
  return sizeof *leaf + leaf->max_runs * sizeof *leaf->runs +
    (leaf->narrow ? Q2_LEAF_SIZE * sizeof *leaf->narrow : 0) +
    (leaf->wide ? Q2_LEAF_SIZE * sizeof *leaf->wide : 0);
}

/* Those of [first, end), numbers of leaves; stops at the one with which they
 * are 'enough', and returns its number.
 */
static uint64_t
add_up (const struct q2_counts *c, uint64_t first, uint64_t end,
        uint64_t enough, uint64_t *ret_bytes)
{
  const struct q2_counts_leaf *leaf;

  *ret_bytes = 0;
  while ((leaf = q2_counts_next_leaf (c, first)) != NULL && leaf->nr < end) {
    *ret_bytes += leaf_bytes (leaf);
    if (*ret_bytes >= enough)
      return leaf->nr;
    first = leaf->nr + 1;
  }
  return end;
}

static bool
stays (uint32_t element)
{
  return (element & Q2_ELEMENT_USE) > Q2_USE_DATA;
}

/* Keep what its runs need, as little as a leaf begins with. */
static void
give_back_runs (struct q2_counts *c, struct q2_counts_leaf *leaf)
{
  const uint32_t old = leaf->max_runs;
  uint32_t max = Q2_COUNTS_FIRST_RUNS;
  void *less;

  while (max < leaf->nr_runs)
    max *= 2;
  if (max >= old)
    return;
  less = realloc (leaf->runs, max * sizeof *leaf->runs);
  if (less == NULL)
    return;
  leaf->runs = less;
  leaf->max_runs = max;
  q2_counts_give_memory (c, NULL, (old - max) * sizeof *leaf->runs);
}

static void
strip_runs (struct q2_counts *c, struct q2_counts_leaf *leaf)
{
  uint32_t kept = 0;

  for (uint32_t i = 0; i < leaf->nr_runs; ++i)
    if (stays (leaf->runs[i].element))
      leaf->runs[kept++] = leaf->runs[i];
    else
      c->total[leaf->runs[i].element & Q2_ELEMENT_USE] -= leaf->runs[i].nr;
  q2_check (kept <= leaf->nr_runs);
  leaf->nr_runs = kept;
  give_back_runs (c, leaf);
}

/* All others become 0.  Returns how many stay, and the first ones of them. */
static uint32_t
strip_elements (struct q2_counts *c, struct q2_counts_leaf *leaf,
                struct q2_counts_run *ret_kept)
{
  uint32_t kept = 0;

  for (uint32_t i = 0; i < Q2_LEAF_SIZE; ++i) {
    const uint32_t element = leaf->wide ? leaf->wide[i] : leaf->narrow[i];

    if (element == 0)
      continue;
    if (!stays (element)) {
      c->total[element & Q2_ELEMENT_USE]--;
      if (leaf->wide)
        leaf->wide[i] = 0;
      else
        leaf->narrow[i] = 0;
      continue;
    }
    if (kept < MAX_KEPT)
      ret_kept[kept] = (struct q2_counts_run) { (uint16_t) i, 1, element };
    ++kept;
  }
  return kept;
}

/* A leaf becomes one with few runs, in a part of the memory it has: no
 * other may be left.
 */
static void
strip_dense (struct q2_counts *c, struct q2_counts_leaf *leaf)
{
  const size_t old = Q2_LEAF_SIZE *
    (leaf->wide ? sizeof *leaf->wide : sizeof *leaf->narrow);
  void *memory = leaf->wide ? (void *) leaf->wide : (void *) leaf->narrow;
  struct q2_counts_run kept[MAX_KEPT];
  const uint32_t nr = strip_elements (c, leaf, kept);
  uint32_t max = Q2_COUNTS_FIRST_RUNS;
  void *less;

  if (nr > MAX_KEPT)
    return;
  while (max < nr)
    max *= 2;
  memcpy (memory, kept, nr * sizeof *kept);
  less = realloc (memory, max * sizeof *kept);
  leaf->runs = less ? less : memory;
  leaf->nr_runs = nr;
  leaf->max_runs = max;
  leaf->narrow = NULL;
  leaf->wide = NULL;
  q2_counts_give_memory (c, NULL, old - max * sizeof *kept);
}

static void
strip (struct q2_counts *c, uint64_t first)
{
  struct q2_counts_leaf *leaf;

  while ((leaf = q2_counts_next_leaf (c, first)) != NULL) {
    if (leaf->max_runs > 0)
      strip_runs (c, leaf);
    else
      strip_dense (c, leaf);
    first = leaf->nr + 1;
  }
  q2_counts_prune (c);
}

bool
q2_counts_shrink (struct q2_counts *c, uint64_t *ret_stop)
{
  const uint64_t first = c->begin >> Q2_LEAF_BITS;
  const uint64_t end =
    c->stop == UINT64_MAX ? UINT64_MAX : c->stop >> Q2_LEAF_BITS;
  uint64_t all, half, nr;

  add_up (c, first, end, UINT64_MAX, &all);
  nr = q2_max (add_up (c, first, end, all / 2, &half), first + 1);
  if (half >= all || nr >= end)
    return false;               /* there is only one, or none */
  /* It never becomes longer, or empty. */
  if (!q2_check (nr << Q2_LEAF_BITS > c->begin &&
                 nr << Q2_LEAF_BITS < c->stop))
    return false;
  note_leaving (c, nr << Q2_LEAF_BITS);
  strip (c, nr);
  *ret_stop = c->stop = nr << Q2_LEAF_BITS;
  return true;
}
