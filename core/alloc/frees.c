/* SPDX-License-Identifier: BSD-3-Clause */
/* frees.c - runs of clusters that lost a reference.
 *
 * Owns      the memory of the list.
 * Method    room is made before tables are changed, so that adding a run
 *           afterwards cannot fail.
 * Locks     none of its own.
 */
#include "config.h"

#include "alloc/frees.h"

#include "base/assume.h"
#include "base/bits.h"

#include <stdlib.h>
#include <string.h>

bool
q2_frees_reserve (struct q2_frees *f, size_t more)
{
  struct q2_free_run *runs;
  size_t max = f->max;

  if (f->max - f->nr >= more)
    return true;
  while (max - f->nr < more)
    max = max < 64 ? 64 : 2 * max;
  runs = realloc (f->runs, max * sizeof *runs);
  if (runs == NULL)
    return false;
  f->runs = runs;
  f->max = max;
  return true;
}

void
q2_frees_add (struct q2_frees *f, uint64_t cluster, uint64_t nr)
{
  struct q2_free_run *const last = f->nr > 0 ? &f->runs[f->nr - 1] : NULL;

  if (!q2_check (nr > 0 && f->runs != NULL))
    return;
  if (last && last->cluster + last->nr == cluster) {
    last->nr += nr;
    return;
  }
  if (!q2_check (f->nr < f->max))
    return;                     /* leaked, which does no harm */
  f->runs[f->nr++] = (struct q2_free_run) { cluster, nr };
}

void
q2_frees_cut (struct q2_frees *f, uint64_t *nr)
{
  size_t kept = 0;

  while (kept < f->nr && *nr > 0) {
    struct q2_free_run *const run = &f->runs[kept++];

    run->nr = run->nr < *nr ? run->nr : *nr;
    *nr -= run->nr;
  }
  f->nr = kept;
}

bool
q2_frees_remove (struct q2_frees *f, uint64_t cluster, uint64_t nr)
{
  size_t i = f->nr;

  if (!q2_check (nr > 0 && f->nr < f->max))
    return false;
  while (i > 0) {
    const struct q2_free_run run = f->runs[--i];
    const uint64_t before = cluster - run.cluster;

    if (cluster < run.cluster || before >= run.nr || run.nr - before < nr)
      continue;
    f->runs[i] = f->runs[--f->nr];
    if (before > 0)
      q2_frees_add (f, run.cluster, before);
    if (run.nr - before > nr)
      q2_frees_add (f, cluster + nr, run.nr - before - nr);
    return true;
  }
  return false;
}

bool
q2_frees_split (struct q2_frees *f, size_t nr, struct q2_frees *ret)
{
  *ret = (struct q2_frees) { .nr = 0 };
  if (!q2_check (nr <= f->nr) || !q2_frees_reserve (ret, nr))
    return false;
  f->nr -= nr;
  memcpy (ret->runs, f->runs + f->nr, nr * sizeof *ret->runs);
  ret->nr = nr;
  return true;
}

void
q2_frees_move (struct q2_frees *to, struct q2_frees *from)
{
  if (to->nr == 0) {
    q2_frees_destroy (to);
    *to = *from;
    *from = (struct q2_frees) { .nr = 0 };
    return;
  }
  if (from->nr > 0 && q2_frees_reserve (to, from->nr) && to->runs) {
    memcpy (to->runs + to->nr, from->runs, from->nr * sizeof *from->runs);
    to->nr += from->nr;
  }
  q2_frees_destroy (from);
}

static int
compare_runs (const void *a, const void *b)
{
  const struct q2_free_run *const x = a, *const y = b;

  return x->cluster < y->cluster ? -1 : x->cluster > y->cluster;
}

void
q2_frees_sort (struct q2_frees *f)
{
  const size_t nr = f->nr;

  if (nr < 2)
    return;
  qsort (f->runs, nr, sizeof *f->runs, compare_runs);
  f->nr = 0;
  for (size_t i = 0; i < nr; ++i)
    q2_frees_add (f, f->runs[i].cluster, f->runs[i].nr);
}

bool
q2_frees_union (const struct q2_frees *sorted, struct q2_frees *ret)
{
  uint64_t end = 0;

  *ret = (struct q2_frees) { .nr = 0 };
  if (!q2_frees_reserve (ret, sorted->nr))
    return false;
  for (size_t i = 0; i < sorted->nr; ++i) {
    const struct q2_free_run *const run = &sorted->runs[i];
    const uint64_t first = q2_max (run->cluster, end);

    q2_check (i == 0 || run->cluster >= sorted->runs[i - 1].cluster);
    if (run->cluster + run->nr <= first)
      continue;
    end = run->cluster + run->nr;
    q2_frees_add (ret, first, end - first);
  }
  return true;
}

void
q2_frees_destroy (struct q2_frees *f)
{
  free (f->runs);
  *f = (struct q2_frees) { .nr = 0 };
}
