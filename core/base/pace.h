/* SPDX-License-Identifier: BSD-3-Clause */
/* pace.h - long work that nobody waits for leaves the processor to others.
 *
 * Who does it rests now and then, for some times as long as it has computed,
 * if changes have passed the gate meanwhile.  A low priority is not enough:
 * what it reads takes room in caches, and processors may be halves of one.
 *
 * Locks: none; one thread has a pace.
 */
#ifndef QCOW2_BASE_PACE_H
#define QCOW2_BASE_PACE_H

#include "base/gate.h"

struct q2_pace {
  uint64_t begun, cpu_ns;       /* when the last rest ended */
};

extern void q2_pace_begin (struct q2_pace *pace, struct q2_gate *gate)
  __attribute__ ((__nonnull__));

/* What this thread has computed since the last rest, nanoseconds. */
extern uint64_t q2_pace_used (const struct q2_pace *pace)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Rest for 'times' as long as this thread has computed since the last rest,
 * one second at most; not if nothing has passed the gate.  Holds no
 * lock.
 */
extern void q2_pace_rest (struct q2_pace *pace, struct q2_gate *gate,
                          unsigned times) __attribute__ ((__nonnull__));

#endif /* QCOW2_BASE_PACE_H */
