/* SPDX-License-Identifier: BSD-3-Clause */
/* scope.c - a part of the host file that a check looks at.
 *
 * Owns      where the window ends, and what was told by those before it.
 * Method    see scope.h.  How a window became shorter is a list of steps, and
 *           of all windows before the longest at each event is kept: what it
 *           had, one of them has told, since each begins where the one before
 *           has ended.
 * Locks     none; one thread at a time.
 */
#include "config.h"

#include "check/scope.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <stdlib.h>

void
q2_scope_init (struct q2_scope *w, const struct q2_watch *watch)
{
  *w = (struct q2_scope) { .stop = UINT64_MAX };
  if (watch != NULL)
    w->watch = *watch;
}

void
q2_scope_free (struct q2_scope *w)
{
  free (w->now.step);
  free (w->before.step);
  *w = (struct q2_scope) { 0 };
}

/* False: no memory. */
static bool
add_step (struct q2_scope_steps *s, uint64_t event, uint64_t stop)
{
  /* In the order of events. */
  q2_check (s->nr <= s->max &&
            (s->nr == 0 || s->step[s->nr - 1].event <= event));
  if (s->nr == s->max) {
    const size_t max = s->max ? 2 * s->max : 8;
    struct q2_scope_step *const step = realloc (s->step, max * sizeof *step);

    if (step == NULL)
      return false;
    s->step = step;
    s->max = max;
  }
  s->step[s->nr++] = (struct q2_scope_step) { event, stop };
  return true;
}

static uint64_t
next_event (const struct q2_scope_steps *s, size_t i)
{
  return i < s->nr ? s->step[i].event : UINT64_MAX;
}

/* Both lists are in ascending order of events; no window becomes longer. */
static bool
merge (const struct q2_scope *w, uint64_t told, struct q2_scope_steps *ret)
{
  uint64_t now = UINT64_MAX;
  size_t i = 0, j = 0;

  while (i < w->before.nr || j < w->now.nr) {
    const uint64_t event = q2_min (next_event (&w->before, i),
                                   next_event (&w->now, j));

    if (event == next_event (&w->before, i))
      told = w->before.step[i++].stop;
    if (event == next_event (&w->now, j))
      now = w->now.step[j++].stop;
    if (!add_step (ret, event, q2_max (told, now)))
      return false;
  }
  return true;
}

int
q2_scope_next (struct q2_scope *w, struct qcow2_error *err)
{
  struct q2_scope_steps all = { 0 };
  const bool first = w->begin == 0;

  if (!q2_assume (w->begin < w->stop && w->stop != UINT64_MAX, err))
    return -1;
  if (!merge (w, first ? 0 : UINT64_MAX, &all)) {
    free (all.step);
    return q2_fail_nomem (err, "checking the image");
  }
  free (w->before.step);
  w->before = all;
  w->now.nr = w->at = 0;
  w->event = 0;
  w->told = UINT64_MAX;
  w->begin = w->stop;
  w->stop = UINT64_MAX;
  w->watch = (struct q2_watch) { 0 };
  return 0;
}

bool
q2_scope_tells (struct q2_scope *w, uint64_t cluster)
{
  const uint64_t event = w->event++;

  while (w->at < w->before.nr && w->before.step[w->at].event <= event)
    w->told = w->before.step[w->at++].stop;
  return !w->silent && cluster >= w->told && cluster < w->stop;
}

uint64_t
q2_scope_quiet (const struct q2_scope *w, uint64_t max)
{
  const uint64_t event = next_event (&w->before, w->at);

  return event > w->event ? q2_min (max, event - w->event) : 0;
}

void
q2_scope_pass (struct q2_scope *w, uint64_t n)
{
  q2_check (n <= q2_scope_quiet (w, n));
  w->event += n;
}

enum q2_counts_result
q2_scope_add (struct q2_scope *w, struct q2_counts *counts,
               uint64_t cluster, uint32_t n, enum q2_use use, unsigned flags,
               enum q2_use *ret_old)
{
  enum q2_counts_result r;

  while ((r = q2_counts_add (counts, cluster, n, use, flags, ret_old)) ==
         Q2_COUNTS_FULL && q2_counts_shrink (counts, &w->stop)) {
    if (!add_step (&w->now, w->event, w->stop))
      return Q2_COUNTS_NOMEM;
  }
  return r;
}
