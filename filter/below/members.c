/* SPDX-License-Identifier: BSD-3-Clause */
/* members.c - the connections of an image that each write their own way.
 *
 * Owns      a list of them, from which background work that belongs to no
 *           connection borrows one.
 * Method    only where the server runs requests of a connection in parallel
 *           can its context be lent for long (nbdkit_io.c); otherwise, and
 *           when they are all about to go, there is none to be had.
 *
 *           That a flush through one connection includes what was written
 *           through the others, which the plugin promises (disk.c), is true
 *           as long as all of them lead to the same server: one that was
 *           started again meanwhile knows nothing of that.  So before a new
 *           connection takes part those that have written are flushed once
 *           more: if that succeeds, they lead to where the new one does.
 *           A connection that goes takes part until what it has written is
 *           durable, or known to be lost.
 * Locks     members.lock guards the list; below.lock is taken under it.
 *           members.flush_lock is held over the flushes of members_flush,
 *           and guards 'settled'; it is taken before members.lock.
 */
#include "config.h"

#include "below/members.h"

#include "qcow2.h"
#include "report.h"
#include "below/nbdkit_io.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

void
members_init (struct members *m)
{
  pthread_mutex_init (&m->lock, NULL);
  pthread_mutex_init (&m->flush_lock, NULL);
  m->first = NULL;
}

void
members_destroy (struct members *m)
{
  pthread_mutex_destroy (&m->lock);
  pthread_mutex_destroy (&m->flush_lock);
}

/* At the end: the one that has been there for longest is lent first.  A
 * command that waits for a reader to leave should not have borrowed that
 * one's way.
 */
void
members_add (struct members *m, struct below *below)
{
  struct below **link;

  (void) holds (!members_has (m, below));
  (void) holds (below->durable != NULL);        /* a member by now */
  pthread_mutex_lock (&m->lock);
  for (link = &m->first; *link; link = &(*link)->next_member)
    ;
  below->next_member = NULL;
  *link = below;
  pthread_mutex_unlock (&m->lock);
}

bool
members_has (struct members *m, const struct below *below)
{
  const struct below *b;

  pthread_mutex_lock (&m->lock);
  for (b = m->first; b && b != below; b = b->next_member)
    ;
  pthread_mutex_unlock (&m->lock);
  return b != NULL;
}

void
members_remove (struct members *m, struct below *below)
{
  struct below **link;

  pthread_mutex_lock (&m->lock);
  for (link = &m->first; *link && *link != below;
       link = &(*link)->next_member)
    ;
  if (holds (*link != NULL))
    *link = below->next_member;
  pthread_mutex_unlock (&m->lock);
}

int
members_borrow (void *opaque, struct qcow2_io *ret_io)
{
  struct members *const m = opaque;
  int r = EBUSY;

  pthread_mutex_lock (&m->lock);
  for (struct below *b = m->first; b && r != 0; b = b->next_member)
    if (b->ops.borrow)
      r = b->ops.borrow (b, ret_io);
  pthread_mutex_unlock (&m->lock);
  return r;
}

/* ---- Flushing all of them ---------------------------------------------- */

/* The next one that has something to flush, which is lent; or NULL. */
static struct below *
borrow_unsettled (struct members *m)
{
  struct below *found = NULL;

  pthread_mutex_lock (&m->lock);
  for (struct below *b = m->first; b && !found; b = b->next_member) {
    (void) holds (b->durable == m->first->durable);     /* of one image */
    if (b->settled)
      continue;
    b->settled = true;
    if (atomic_load (&b->unflushed) && below_lend (b))
      found = b;
  }
  pthread_mutex_unlock (&m->lock);
  return found;
}

/* An error is remembered where flushes are (durable.c). */
void
members_flush (struct members *m)
{
  struct below *b;

  pthread_mutex_lock (&m->flush_lock);
  pthread_mutex_lock (&m->lock);
  for (b = m->first; b; b = b->next_member)
    b->settled = false;
  pthread_mutex_unlock (&m->lock);
  while ((b = borrow_unsettled (m)) != NULL) {
    b->ops.flush (b);
    below_take_back (b);
  }
  pthread_mutex_unlock (&m->flush_lock);
}
