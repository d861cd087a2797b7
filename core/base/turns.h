/* SPDX-License-Identifier: BSD-3-Clause */
/* turns.h - limits how many pieces of long work go on at the same time.
 *
 * An image decides how much work opening it is, and any number of images may
 * be opened at once.  Work that takes long goes on only while it has one of a
 * few turns.  Turns are given in the order of requests, and a thread that asks
 * again goes behind the threads that wait: so all advance, and none waits for
 * the end of another one's work.
 *
 * A thread that has not asked again for a while loses its turn: it waits for a
 * host that does not answer, and must not make the others wait, too.
 */
#ifndef QCOW2_BASE_TURNS_H
#define QCOW2_BASE_TURNS_H

#include "qcow2.h"

struct q2_turns;

/* 1 <= 'max' <= 64 turns; a turn is lost after 'lease_ms' without a call.
 * Returns NULL if there is no memory.
 */
extern struct q2_turns *q2_turns_new (unsigned max, unsigned lease_ms)
  __attribute__ ((__warn_unused_result__));
/* No thread may have a turn, or wait.  NULL is allowed. */
extern void q2_turns_free (struct q2_turns *turns);

/* Wait for a turn.  *turn is 0 at first; after that pass it unchanged: the
 * thread keeps its turn if no other waits, or else gives it back and queues
 * for a new one.  While it waits it calls 'abandoned' (or NULL) now and then,
 * with no lock held; if that returns true it returns false, without a turn.
 */
extern bool q2_turns_take (struct q2_turns *turns, uint64_t *turn,
                           qcow2_abandoned_fn abandoned, void *opaque)
  __attribute__ ((__nonnull__ (1, 2), __warn_unused_result__));

/* Give the turn back, if there is one and it was not lost; sets *turn to 0. */
extern void q2_turns_give (struct q2_turns *turns, uint64_t *turn)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_BASE_TURNS_H */
