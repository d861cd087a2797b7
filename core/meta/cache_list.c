/* SPDX-License-Identifier: BSD-3-Clause */
/* cache_list.c - all the caches of tables that threads share.
 *
 * Owns      the list of them, one in the process.
 * Method    who visits them takes them one by one, in a circle, so that nobody
 *           who opens or closes an image has to wait for all of them.
 * Locks     caches.lock guards the list and who has visited each last; a cache
 *           stays as long as it is held.
 */
#include "config.h"

#include "meta/cache_impl.h"

#include "base/assume.h"

static struct {
  struct q2_mutex lock;
  struct q2_cache *first, *last;
  uint64_t visits;              /* of all, that have begun */
} caches = { .lock = Q2_MUTEX_INITIALIZER (7, "caches.lock") };

static void
append_locked (struct q2_cache *c)
{
  q2_mutex_check_held (&caches.lock);
  c->all.prev = caches.last;
  c->all.next = NULL;
  *(caches.last ? &caches.last->all.next : &caches.first) = c;
  caches.last = c;
}

static void
unlink_locked (struct q2_cache *c)
{
  q2_mutex_check_held (&caches.lock);
  *(c->all.prev ? &c->all.prev->all.next : &caches.first) = c->all.next;
  *(c->all.next ? &c->all.next->all.prev : &caches.last) = c->all.prev;
}

void
q2_cache_enlist (struct q2_cache *c)
{
  q2_mutex_lock (&caches.lock);
  (void) q2_check (!c->all.enlisted);
  c->all.enlisted = true;
  c->all.visit = caches.visits;
  append_locked (c);
  q2_mutex_unlock (&caches.lock);
}

void
q2_cache_delist (struct q2_cache *c)
{
  q2_mutex_lock (&caches.lock);
  if (c->all.enlisted)
    unlink_locked (c);
  c->all.enlisted = false;
  q2_mutex_unlock (&caches.lock);
}

/* False: this visit has seen them all. */
static bool
visit_next (uint64_t visit, void (*fn) (struct q2_cache *cache))
{
  struct q2_cache *c;
  bool found;

  q2_mutex_lock (&caches.lock);
  c = caches.first;
  found = c != NULL && c->all.visit < visit;
  if (found) {
    c->all.visit = visit;
    unlink_locked (c);
    append_locked (c);
    fn (c);
  }
  q2_mutex_unlock (&caches.lock);
  return found;
}

void
q2_cache_visit_all (void (*fn) (struct q2_cache *cache))
{
  uint64_t visit;

  q2_mutex_lock (&caches.lock);
  visit = ++caches.visits;
  q2_mutex_unlock (&caches.lock);
  while (visit_next (visit, fn))
    ;
}
