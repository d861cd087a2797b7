/* SPDX-License-Identifier: BSD-3-Clause */
/* turns.h - how many pieces of long work go on at the same time.
 *
 * Images decide how much work opening them is, and any number of them may be
 * opened at once.  Work that turns out to take long goes on only while it has
 * one of a few turns.  Turns are given in the order in which they were asked
 * for, and who asks again lets those go first who wait: so all get on, and
 * none waits for the end of another one's work.
 *
 * A turn is lost by who has not asked again for a while: he does not compute,
 * but waits for a host that does not answer, and nobody else shall.
 */
#ifndef QCOW2_BASE_TURNS_H
#define QCOW2_BASE_TURNS_H

#include "qcow2.h"

struct q2_turns;

/* 1 <= 'max' <= 64 at once; each lost after 'lease_ms'.  NULL: no memory. */
extern struct q2_turns *q2_turns_new (unsigned max, unsigned lease_ms)
  __attribute__ ((__warn_unused_result__));
/* Nobody has one, or waits.  NULL is allowed. */
extern void q2_turns_free (struct q2_turns *turns);

/* Waits for a turn.  *turn is 0, or what it was made the last time, which this
 * goes on with, or gives back and takes another one.  Returns false, without a
 * turn, if 'abandoned' (or NULL), which is asked many times while this waits
 * and without any lock held, says that it is in vain.
 */
extern bool q2_turns_take (struct q2_turns *turns, uint64_t *turn,
                           qcow2_abandoned_fn abandoned, void *opaque)
  __attribute__ ((__nonnull__ (1, 2), __warn_unused_result__));

/* Gives it back, if it is one, and has not been lost; *turn is 0 then. */
extern void q2_turns_give (struct q2_turns *turns, uint64_t *turn)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_BASE_TURNS_H */
