/* SPDX-License-Identifier: BSD-3-Clause */
/* cache_list.c - all the caches of tables that threads share.
 *
 * Owns      the list of them, one in the process.
 * Method    who visits them takes them one by one, in a circle.  One that is
 *           being visited stays in the list: who wants to free it waits.
 * Locks     caches.lock guards the list, and which of them are being visited;
 *           it is not held over a visit.
 */
#include "config.h"

#include "meta/cache_impl.h"

#include "base/assume.h"

static struct {
  struct q2_mutex lock;
  pthread_cond_t left;          /* a visit has ended */
  struct q2_cache *first, *last;
  uint64_t visits;              /* of all, that have begun */
} caches = {
  .lock = Q2_MUTEX_INITIALIZER (7, "caches.lock"),
  .left = PTHREAD_COND_INITIALIZER,
};

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
  while (c->all.visited)
    q2_cond_wait (&caches.left, &caches.lock);
  if (c->all.enlisted)
    unlink_locked (c);
  c->all.enlisted = false;
  q2_mutex_unlock (&caches.lock);
}

/* NULL: this visit has seen them all. */
static struct q2_cache *
begin_visit (uint64_t visit)
{
  struct q2_cache *c;

  q2_mutex_lock (&caches.lock);
  c = caches.first;
  while (c != NULL && c->all.visited)   /* by somebody else */
    c = c->all.next;
  if (c != NULL && c->all.visit < visit) {
    c->all.visit = visit;
    c->all.visited = true;
    unlink_locked (c);
    append_locked (c);
  }
  else
    c = NULL;
  q2_mutex_unlock (&caches.lock);
  return c;
}

static void
end_visit (struct q2_cache *c)
{
  q2_mutex_lock (&caches.lock);
  c->all.visited = false;
  pthread_cond_broadcast (&caches.left);
  q2_mutex_unlock (&caches.lock);
}

void
q2_cache_visit_all (void (*fn) (struct q2_cache *cache))
{
  struct q2_cache *c;
  uint64_t visit;

  q2_mutex_lock (&caches.lock);
  visit = ++caches.visits;
  q2_mutex_unlock (&caches.lock);
  while ((c = begin_visit (visit)) != NULL) {
    fn (c);
    end_visit (c);
  }
}
