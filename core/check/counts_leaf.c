/* SPDX-License-Identifier: BSD-3-Clause */
/* counts_leaf.c - the counts of 4096 clusters that lie next to each other.
 *
 * Owns      how the elements of a leaf are kept.
 * Method    a sorted array of runs of equal ones, while there are few; then a
 *           byte for each cluster: two bits of use, two flags and a count up
 *           to 15; when that is too small, 32 bits for each instead.
 * Locks     none; see counts.c.
 */
#include "config.h"

#include "check/counts_impl.h"

#include "base/assume.h"
#include "base/bits.h"

#include <string.h>

#define NARROW_MAX 15u
#define MAX_RUNS 256u
/* What is in a run can change its use without more memory, once at least. */
#define SPARE_RUNS 2u

/* ---- Looking ----------------------------------------------------------- */

static uint32_t
end_of (const struct q2_counts_run *run)
{
  return (uint32_t) run->i + run->nr;
}

uint32_t
q2_counts_find_run (const struct q2_counts_leaf *leaf, uint32_t i)
{
  uint32_t low = 0, high = leaf->nr_runs;

  while (low < high) {
    const uint32_t middle = (low + high) / 2;

    if (end_of (&leaf->runs[middle]) <= i)
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

  if (leaf->max_runs > 0) {
    const uint32_t at = q2_counts_find_run (leaf, i);

    return at < leaf->nr_runs && leaf->runs[at].i <= i
      ? leaf->runs[at].element : 0;
  }
  return leaf->wide ? leaf->wide[i] : leaf->narrow[i];
}

static uint32_t
same_in_runs (const struct q2_counts_leaf *leaf, uint32_t i)
{
  const uint32_t at = q2_counts_find_run (leaf, i);

  if (at == leaf->nr_runs)
    return Q2_LEAF_SIZE - i;
  return (leaf->runs[at].i <= i ? end_of (&leaf->runs[at])
          : leaf->runs[at].i) - i;
}

uint32_t
q2_counts_same_elements (const struct q2_counts_leaf *leaf, uint32_t i,
                         uint32_t max)
{
  uint32_t n = 1;

  q2_check (max > 0 && i + max <= Q2_LEAF_SIZE);
  if (leaf->max_runs > 0)
    n = (uint32_t) q2_min (same_in_runs (leaf, i), max);
  else if (leaf->wide)
    while (n < max && leaf->wide[i + n] == leaf->wide[i])
      ++n;
  else
    while (n < max && leaf->narrow[i + n] == leaf->narrow[i])
      ++n;
  return n;
}

/* ---- More room --------------------------------------------------------- */

static void
fill (struct q2_counts_leaf *leaf, uint32_t i, uint32_t nr, uint32_t v)
{
  if (leaf->narrow)
    memset (leaf->narrow + i, (int) v, nr);
  else if (q2_check (leaf->wide != NULL))
    for (uint32_t k = 0; k < nr; ++k)
      leaf->wide[i + k] = v;
}

/* From runs to an element for each cluster. */
static enum q2_counts_result
make_dense (struct q2_counts *c, struct q2_counts_leaf *leaf)
{
  enum q2_counts_result r;
  bool fits = true;
  void *memory;

  for (uint32_t n = 0; n < leaf->nr_runs; ++n)
    fits &= leaf->runs[n].element >> Q2_ELEMENT_SHIFT <= NARROW_MAX;
  r = q2_counts_take_memory (c, Q2_LEAF_SIZE * (fits ? sizeof *leaf->narrow
                                   : sizeof *leaf->wide), &memory);
  if (r != Q2_COUNTS_OK)
    return r;
  *(fits ? (void **) &leaf->narrow : (void **) &leaf->wide) = memory;
  for (uint32_t n = 0; n < leaf->nr_runs; ++n)
    fill (leaf, leaf->runs[n].i, leaf->runs[n].nr, leaf->runs[n].element);
  q2_counts_give_memory (c, leaf->runs, leaf->max_runs * sizeof *leaf->runs);
  leaf->runs = NULL;
  leaf->nr_runs = leaf->max_runs = 0;
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
more_runs (struct q2_counts *c, struct q2_counts_leaf *leaf)
{
  const size_t old = leaf->max_runs * sizeof *leaf->runs;
  enum q2_counts_result r;
  void *memory;

  q2_check (leaf->nr_runs <= leaf->max_runs && leaf->max_runs <= MAX_RUNS);
  if (leaf->max_runs == MAX_RUNS)
    return make_dense (c, leaf);
  r = q2_counts_take_memory (c, 2 * old, &memory);
  if (r != Q2_COUNTS_OK)
    return r;
  memcpy (memory, leaf->runs, old);
  q2_counts_give_memory (c, leaf->runs, old);
  leaf->runs = memory;
  leaf->max_runs *= 2;
  return r;
}

/* ---- Changing ---------------------------------------------------------- */

/* What takes the place of the runs [at, at + old): at most three. */
struct change {
  uint32_t at, old;
  uint32_t nr;
  struct q2_counts_run run[3];
};

static void
add_piece (struct change *c, uint32_t i, uint32_t nr, uint32_t element)
{
  if (nr == 0 || element == 0)
    return;
  if (!q2_check (c->nr < 3))
    return;
  c->run[c->nr++] =
    (struct q2_counts_run) { (uint16_t) i, (uint16_t) nr, element };
}

/* Tables stay apart: so one that is cleared leaves a place, and takes none. */
static bool
may_join (const struct q2_counts_run *run, uint32_t v)
{
  return run->element == v && (v & Q2_ELEMENT_USE) == Q2_USE_DATA;
}

/* [i, i + nr), which is in one run or in none, becomes 'v', together with
 * neighbours that are so already.
 */
static struct change
plan (const struct q2_counts_leaf *leaf, uint32_t i, uint32_t nr, uint32_t v)
{
  struct change c = { .at = q2_counts_find_run (leaf, i) };
  const struct q2_counts_run *const run = leaf->runs + c.at;
  const bool inside = c.at < leaf->nr_runs && run->i <= i;
  const uint32_t first = inside ? run->i : i;
  const uint32_t last = inside ? end_of (run) : i + nr;
  uint32_t from = i, to = i + nr;

  c.old = inside;
  if (from == first && c.at > 0 && end_of (run - 1) == from &&
      may_join (run - 1, v)) {
    from = run[-1].i;
    c.at--;
    c.old++;
  }
  else if (inside)
    add_piece (&c, first, from - first, run->element);
  if (to == last && c.at + c.old < leaf->nr_runs &&
      leaf->runs[c.at + c.old].i == to &&
      may_join (&leaf->runs[c.at + c.old], v)) {
    to = end_of (&leaf->runs[c.at + c.old]);
    c.old++;
  }
  add_piece (&c, from, to - from, v);
  if (inside && last > to)
    add_piece (&c, to, last - to, run->element);
  return c;
}

/* False if there is no room, and 'spare' runs are to be left. */
static bool
set_in_runs (struct q2_counts_leaf *leaf, uint32_t i, uint32_t nr, uint32_t v,
             uint32_t spare)
{
  const struct change c = plan (leaf, i, nr, v);
  struct q2_counts_run *const place = leaf->runs + c.at;

  if (c.nr > c.old &&
      leaf->nr_runs - c.old + c.nr + spare > leaf->max_runs)
    return false;
  if (!q2_check (c.at + c.old <= leaf->nr_runs))
    return true;
  memmove (place + c.nr, place + c.old,
           (leaf->nr_runs - c.at - c.old) * sizeof *place);
  memcpy (place, c.run, c.nr * sizeof *place);
  leaf->nr_runs += c.nr - c.old;
  return true;
}

static bool
set (struct q2_counts_leaf *leaf, uint32_t i, uint32_t nr, uint32_t v,
     uint32_t spare)
{
  q2_check (nr > 0 && i + nr <= Q2_LEAF_SIZE);
  if (leaf->max_runs > 0)
    return set_in_runs (leaf, i, nr, v, spare);
  if (leaf->wide == NULL && v >> Q2_ELEMENT_SHIFT > NARROW_MAX)
    return false;
  fill (leaf, i, nr, v);
  return true;
}

bool
q2_counts_set_elements (struct q2_counts_leaf *leaf, uint32_t i, uint32_t nr,
                        uint32_t v)
{
  return set (leaf, i, nr, v, SPARE_RUNS);
}

static enum q2_counts_result
set_one (struct q2_counts *c, struct q2_counts_leaf *leaf, uint64_t cluster,
         uint32_t v, uint32_t spare)
{
  while (!set (leaf, cluster & (Q2_LEAF_SIZE - 1), 1, v, spare)) {
    const enum q2_counts_result r =
      leaf->max_runs > 0 ? more_runs (c, leaf) : make_wide (c, leaf);

    if (r != Q2_COUNTS_OK)
      return r;
  }
  return Q2_COUNTS_OK;
}

enum q2_counts_result
q2_counts_set_element (struct q2_counts *c, struct q2_counts_leaf *leaf,
                       uint64_t cluster, uint32_t v)
{
  return set_one (c, leaf, cluster, v, SPARE_RUNS);
}

enum q2_counts_result
q2_counts_turn_element (struct q2_counts *c, struct q2_counts_leaf *leaf,
                        uint64_t cluster, uint32_t v)
{
  return set_one (c, leaf, cluster, v, 0);
}
