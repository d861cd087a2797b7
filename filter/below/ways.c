/* SPDX-License-Identifier: BSD-3-Clause */
/* ways.c - the shared contexts through which a file is written.
 *
 * Owns      which of them is the current one, and when others are closed.
 * Method    a context never learns that the file has become larger, from here
 *           or because somebody else has extended it.  So then a new
 *           one is opened and becomes the current one; requests that began
 *           before go on in the old one, which is retired.  A flush includes
 *           the retired ones, because what was written through them is
 *           acknowledged, and closes those that nobody uses any more.
 *
 *           Requests take and leave the current context without a lock.
 *           Who takes it counts himself in, then looks whether it still is
 *           the current one; who closes a retired one, which was retired
 *           before it was looked at, so finds either the count, or nobody
 *           who is going to use it.  The memory stays until the end.
 *
 *           Below the parallel thread model requests are made one at a time,
 *           since the server does not see to that for shared contexts.
 * Locks     ways.lock guards the lists of retired and closed contexts.  It
 *           is held while they are flushed and closed, where nobody but the
 *           file that grows again waits for it; durable.lock is taken
 *           before it.
 *           ways.serial is held over each request, below the parallel model.
 */
#include "config.h"

#include "below/ways.h"

#include "lines.h"
#include "report.h"
#include "settings.h"
#include "below/shared.h"

#include <stdatomic.h>
#include <stdlib.h>

/* ---- Taking and leaving one -------------------------------------------- */

struct way *
way_enter (struct ways *ways)
{
  struct way *way;

  for (;;) {
    way = atomic_load (&ways->current);
    atomic_fetch_add (&way->users, 1);
    if (atomic_load (&ways->current) == way)
      break;
    (void) holds (atomic_fetch_sub (&way->users, 1) > 0);
  }
  if (ways->one_at_a_time)
    pthread_mutex_lock (&ways->serial);
  return way;
}

void
way_leave (struct ways *ways, struct way *way)
{
  if (ways->one_at_a_time)
    pthread_mutex_unlock (&ways->serial);
  (void) holds (atomic_fetch_sub (&way->users, 1) > 0);
}

/* ---- Flushing ----------------------------------------------------------- */

static int
flush_way (struct ways *ways, struct way *way)
{
  int r;

  if (ways->one_at_a_time)
    pthread_mutex_lock (&ways->serial);
  r = next_flush (way->next);
  if (ways->one_at_a_time)
    pthread_mutex_unlock (&ways->serial);
  return r;
}

/* One that cannot be flushed stays where it is. */
static int
flush_retired (struct ways *ways)
{
  struct way **link = &ways->retired, *way;
  int r = 0;

  pthread_mutex_lock (&ways->lock);
  while (r == 0 && (way = *link) != NULL) {
    const bool unused = atomic_load (&way->users) == 0;

    r = flush_way (ways, way);
    if (r == 0 && unused) {
      /* Nobody takes it any more. */
      (void) holds (way != atomic_load (&ways->current));
      shared_close (way->next);
      (void) holds (atomic_fetch_sub (&ways->nr_retired, 1) > 0);
      *link = way->link;
      way->link = ways->closed;
      ways->closed = way;
    }
    else
      link = &way->link;
  }
  (void) holds (ways->retired == NULL || atomic_load (&ways->nr_retired) > 0);
  pthread_mutex_unlock (&ways->lock);
  return r;
}

int
ways_flush (struct ways *ways)
{
  struct way *const way = way_enter (ways);
  int r = next_flush (way->next);

  way_leave (ways, way);
  if (r == 0 && atomic_load (&ways->nr_retired) > 0)
    r = flush_retired (ways);
  return r;
}

/* ---- Opening and closing ------------------------------------------------ */

/* NULL and logs on error. */
static struct way *
way_open (const struct ways *ways, struct abilities *can)
{
  struct way *way = calloc (1, sizeof *way);

  if (way == NULL) {
    warning (ways->name, "out of memory");
    return NULL;
  }
  way->next = shared_open (ways->exportname, false);
  if (way->next != NULL && next_ask (way->next, true, can) == 0) {
    way->size = can->size;
    return way;
  }
  if (way->next != NULL)
    shared_close (way->next);
  free (way);
  return NULL;
}

static bool
serves_as_well (const struct abilities *new, const struct abilities *old)
{
  return new->write && new->flush && new->zero >= old->zero &&
    new->trim >= old->trim && new->extents >= old->extents &&
    new->min_block == old->min_block && new->max_block == old->max_block;
}

/* In this order: a flush that finds the new one to be the current one must
 * find the old one retired.
 */
static void
replace_current (struct ways *ways, struct way *way)
{
  struct way *const old = ways->current;

  (void) holds (old != way && way->link == NULL &&
                atomic_load (&way->users) == 0);
  pthread_mutex_lock (&ways->lock);
  old->link = ways->retired;
  ways->retired = old;
  atomic_fetch_add (&ways->nr_retired, 1);
  atomic_store (&ways->current, way);
  pthread_mutex_unlock (&ways->lock);
}

/* Nobody else changes what is current. */
uint64_t
ways_size (const struct ways *ways)
{
  return atomic_load (&ways->current)->size;
}

uint64_t
ways_renew (struct ways *ways, uint64_t min, uint64_t max)
{
  struct abilities can;
  struct way *const way = way_open (ways, &can);

  if (way == NULL)
    return 0;
  if (can.size < min || can.size > max || !serves_as_well (&can, &ways->can)) {
    shared_close (way->next);
    free (way);
    return 0;
  }
  replace_current (ways, way);
  return can.size;
}

int
ways_init (struct ways *ways, const char *exportname, const char *name)
{
  struct way *way;

  *ways = (struct ways) {
    .exportname = exportname, .name = name,
    .one_at_a_time = config.thread_model != NBDKIT_THREAD_MODEL_PARALLEL,
  };
  way = way_open (ways, &ways->can);
  if (way == NULL)
    return -1;
  atomic_init (&ways->current, way);
  pthread_mutex_init (&ways->serial, NULL);
  pthread_mutex_init (&ways->lock, NULL);
  return 0;
}

static void
free_list (struct way *way)
{
  struct way *next;

  for (; way; way = next) {
    next = way->link;
    free (way);
  }
}

void
ways_destroy (struct ways *ways)
{
  unsigned nr_retired = 0;

  (void) holds (atomic_load (&ways->current->users) == 0);
  shared_close (ways->current->next);
  for (struct way *way = ways->retired; way; way = way->link) {
    (void) holds (atomic_load (&way->users) == 0);
    shared_close (way->next);
    nr_retired++;
  }
  (void) holds (nr_retired == atomic_load (&ways->nr_retired));
  free (ways->current);
  free_list (ways->retired);
  free_list (ways->closed);
  pthread_mutex_destroy (&ways->serial);
  pthread_mutex_destroy (&ways->lock);
}
