/* SPDX-License-Identifier: BSD-3-Clause */
/* lending.c - things that threads borrow, of which there are only so many.
 *
 * Owns      those that are idle, in a list.
 * Method    one is made when none is idle, up to a number of them, and kept
 *           until the end.
 * Locks     lending.lock guards the list and the count; it is not held
 *           while a thing is made, or used.
 */
#include "config.h"

#include "base/lending.h"

#include <stddef.h>

void
q2_lending_init (struct q2_lending *l, unsigned max)
{
  q2_mutex_init (&l->lock, 3, "lending.lock");
  pthread_cond_init (&l->returned, NULL);
  l->idle = NULL;
  l->made = 0;
  l->max = max;
}

void
q2_lending_destroy (struct q2_lending *l, void (*free_fn) (void *))
{
  while (l->idle != NULL) {
    struct q2_lent *const lent = l->idle;

    l->idle = lent->next;
    free_fn (lent);
  }
  pthread_cond_destroy (&l->returned);
  q2_mutex_destroy (&l->lock);
}

void *
q2_lending_borrow (struct q2_lending *l, q2_lending_make_fn make,
                   const void *owner)
{
  struct q2_lent *lent;

  q2_mutex_lock (&l->lock);
  while (l->idle == NULL && l->made == l->max)
    q2_cond_wait (&l->returned, &l->lock);
  lent = l->idle;
  if (lent != NULL)
    l->idle = lent->next;
  else
    l->made++;
  q2_mutex_unlock (&l->lock);
  if (lent != NULL)
    return lent;

  lent = make (owner);
  if (lent == NULL) {
    q2_mutex_lock (&l->lock);
    l->made--;
    pthread_cond_signal (&l->returned);
    q2_mutex_unlock (&l->lock);
  }
  return lent;
}

void
q2_lending_return (struct q2_lending *l, struct q2_lent *lent)
{
  q2_mutex_lock (&l->lock);
  lent->next = l->idle;
  l->idle = lent;
  pthread_cond_signal (&l->returned);
  q2_mutex_unlock (&l->lock);
}
