/* SPDX-License-Identifier: BSD-3-Clause */
/* suspects.c - a few clusters, and which of them somebody has touched.
 *
 * Owns      the set and the marks.
 * Method    a sorted array, with a limit that the caller sets.
 * Locks     see suspects.h.
 */
#include "config.h"

#include "base/suspects.h"

#include <stdlib.h>

bool
q2_suspects_init (struct q2_suspects *s, size_t max)
{
  *s = (struct q2_suspects) {
    .clusters = malloc (max * sizeof *s->clusters),
    .touched = malloc (max * sizeof *s->touched),
    .max = max,
  };
  if (s->clusters != NULL && s->touched != NULL)
    return true;
  q2_suspects_destroy (s);
  return false;
}

void
q2_suspects_destroy (struct q2_suspects *s)
{
  free (s->clusters);
  free (s->touched);
  *s = (struct q2_suspects) { .nr = 0 };
}

/* ---- The set ------------------------------------------------------------ */

bool
q2_suspects_add (struct q2_suspects *s, uint64_t cluster)
{
  if (s->nr > 0 && s->clusters[s->nr - 1] == cluster)
    return true;
  if (s->nr == s->max)
    return false;
  s->clusters[s->nr++] = cluster;
  return true;
}

static int
by_cluster (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return (x > y) - (x < y);
}

static void
forget_touches (struct q2_suspects *s)
{
  for (size_t i = 0; i < s->nr; ++i)
    atomic_init (&s->touched[i], false);
}

void
q2_suspects_sort (struct q2_suspects *s)
{
  size_t nr = 0;

  qsort (s->clusters, s->nr, sizeof *s->clusters, by_cluster);
  for (size_t i = 0; i < s->nr; ++i)
    if (nr == 0 || s->clusters[nr - 1] != s->clusters[i])
      s->clusters[nr++] = s->clusters[i];
  s->nr = nr;
  forget_touches (s);
}

void
q2_suspects_keep_touched (struct q2_suspects *s)
{
  size_t nr = 0;

  for (size_t i = 0; i < s->nr; ++i)
    if (q2_suspects_is_touched (s, i))
      s->clusters[nr++] = s->clusters[i];
  s->nr = nr;
  forget_touches (s);
}

/* ---- Looking, touching -------------------------------------------------- */

/* The first that is not below 'cluster'. */
static size_t
lower_bound (const struct q2_suspects *s, uint64_t cluster)
{
  size_t low = 0, high = s->nr;

  while (low < high) {
    const size_t middle = low + (high - low) / 2;

    if (s->clusters[middle] < cluster)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

size_t
q2_suspects_find (const struct q2_suspects *s, uint64_t cluster)
{
  const size_t i = lower_bound (s, cluster);

  return i < s->nr && s->clusters[i] == cluster ? i : SIZE_MAX;
}

void
q2_suspects_touch (struct q2_suspects *s, uint64_t cluster, uint64_t nr)
{
  for (size_t i = lower_bound (s, cluster);
       i < s->nr && s->clusters[i] - cluster < nr; ++i)
    atomic_store_explicit (&s->touched[i], true, memory_order_relaxed);
}
