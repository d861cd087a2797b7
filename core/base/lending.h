/* SPDX-License-Identifier: BSD-3-Clause */
/* lending.h - things that threads borrow, of which there are only so many.
 *
 * A thing belongs to one thread between borrowing and returning.  A thread
 * that has one must not borrow another of the same lending: it could wait for
 * itself.
 */
#ifndef QCOW2_BASE_LENDING_H
#define QCOW2_BASE_LENDING_H

#include "base/lock.h"

/* The first member of what is lent. */
struct q2_lent {
  struct q2_lent *next;
};

/* Makes one for 'owner', which begins with a struct q2_lent; NULL: out of
 * memory.
 */
typedef void *(*q2_lending_make_fn) (const void *owner);

struct q2_lending {
  struct q2_mutex lock;         /* rank 3; guards the rest */
  pthread_cond_t returned;      /* one is idle, or fewer are made */
  struct q2_lent *idle;
  unsigned made, max;
};

/* There are at most 'max', 1 or more. */
extern void q2_lending_init (struct q2_lending *lending, unsigned max)
  __attribute__ ((__nonnull__));
/* All have been returned; each is freed. */
extern void q2_lending_destroy (struct q2_lending *lending,
                                void (*free_fn) (void *lent))
  __attribute__ ((__nonnull__));

/* One that is idle, or a new one if there may be more, or else the next that
 * is returned.  NULL: none could be made.
 */
extern void *q2_lending_borrow (struct q2_lending *lending,
                                q2_lending_make_fn make, const void *owner)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_lending_return (struct q2_lending *lending,
                               struct q2_lent *lent)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_BASE_LENDING_H */
