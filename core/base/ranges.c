/* SPDX-License-Identifier: BSD-3-Clause */
/* ranges.c - exclusive locks on ranges of numbers.
 *
 * Owns      the list of locked ranges.
 * Method    a list, since there are only as many ranges as requests that run.
 *           A thread that waits looks again after each release.
 * Locks     ranges.lock guards the list, for a few instructions.
 */
#include "config.h"

#include "base/ranges.h"

#include "base/assume.h"

#include <stddef.h>

void
q2_ranges_init (struct q2_ranges *r)
{
  q2_mutex_init (&r->lock, 6, "ranges.lock");
  pthread_cond_init (&r->released, NULL);
  r->first = NULL;
  r->waiting = 0;
}

void
q2_ranges_destroy (struct q2_ranges *r)
{
  if (!q2_check (r->first == NULL))
    return;
  pthread_cond_destroy (&r->released);
  q2_mutex_destroy (&r->lock);
}

static bool
is_held_locked (const struct q2_ranges *r, uint64_t start, uint64_t end)
{
  q2_mutex_check_held (&r->lock);
  for (const struct q2_range *n = r->first; n != NULL; n = n->next)
    if (n->start < end && start < n->end)
      return true;
  return false;
}

static void
wait_locked (struct q2_ranges *r, uint64_t start, uint64_t end)
{
  q2_mutex_check_held (&r->lock);
  r->waiting++;
  while (is_held_locked (r, start, end))
    q2_cond_wait (&r->released, &r->lock);
  r->waiting--;
}

static void
take_locked (struct q2_ranges *r, struct q2_range *node, uint64_t start,
             uint64_t end)
{
  q2_mutex_check_held (&r->lock);
  /* An empty range would exclude no other. */
  (void) q2_check (start < end);
  *node = (struct q2_range) { r->first, start, end };
  r->first = node;
}

void
q2_ranges_lock (struct q2_ranges *r, struct q2_range *node, uint64_t start,
                uint64_t end)
{
  q2_mutex_lock (&r->lock);
  wait_locked (r, start, end);
  take_locked (r, node, start, end);
  q2_mutex_unlock (&r->lock);
}

bool
q2_ranges_trylock (struct q2_ranges *r, struct q2_range *node,
                   uint64_t start, uint64_t end)
{
  bool free;

  q2_mutex_lock (&r->lock);
  free = !is_held_locked (r, start, end);
  if (free)
    take_locked (r, node, start, end);
  q2_mutex_unlock (&r->lock);
  return free;
}

void
q2_ranges_wait (struct q2_ranges *r, uint64_t start, uint64_t end)
{
  q2_mutex_lock (&r->lock);
  wait_locked (r, start, end);
  q2_mutex_unlock (&r->lock);
}

void
q2_ranges_unlock (struct q2_ranges *r, struct q2_range *node)
{
  q2_mutex_lock (&r->lock);
  for (struct q2_range **link = &r->first;; link = &(*link)->next)
    if (*link == node) {
      *link = node->next;
      break;
    }
  if (r->waiting > 0)
    pthread_cond_broadcast (&r->released);
  q2_mutex_unlock (&r->lock);
}
