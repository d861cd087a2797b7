/* SPDX-License-Identifier: BSD-3-Clause */
/* members.c - the connections of an image that each write their own way.
 *
 * Owns      a list of them, from which background work that belongs to no
 *           connection borrows one.
 * Method    only where the server runs requests of a connection in parallel
 *           can its context be lent (nbdkit_io.c); otherwise, and when they
 *           are all about to go, there is none to be had.
 * Locks     members.lock guards the list; below.lock is taken under it.
 */
#include "config.h"

#include "filter.h"

#include <errno.h>

void
members_init (struct members *m)
{
  pthread_mutex_init (&m->lock, NULL);
  m->first = NULL;
}

void
members_destroy (struct members *m)
{
  pthread_mutex_destroy (&m->lock);
}

void
members_add (struct members *m, struct below *below)
{
  pthread_mutex_lock (&m->lock);
  below->next_member = m->first;
  m->first = below;
  pthread_mutex_unlock (&m->lock);
}

void
members_remove (struct members *m, struct below *below)
{
  struct below **link;

  pthread_mutex_lock (&m->lock);
  for (link = &m->first; *link && *link != below;
       link = &(*link)->next_member)
    ;
  if (*link)
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
