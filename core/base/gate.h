/* SPDX-License-Identifier: BSD-3-Clause */
/* gate.h - a moment at which no change is running.
 *
 * Changes go through the gate one by one, at the price of one atomic add at
 * each end.  Whoever needs a point in time closes it: those inside end, those
 * that come wait, and when nobody is inside that moment has come.  It lasts
 * until the gate is opened again.
 *
 * A thread that is inside must not enter again, nor close the gate: it would
 * wait for itself.
 */
#ifndef QCOW2_BASE_GATE_H
#define QCOW2_BASE_GATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct q2_gate {
  _Atomic uint64_t begun, ended;        /* each one that has entered, left */
  _Atomic bool closed;

  pthread_mutex_t closer_lock;          /* held from close to open */
  pthread_mutex_t lock;                 /* for the condition */
  pthread_cond_t changed;               /* opened, or one has left */
};

extern void q2_gate_init (struct q2_gate *gate) __attribute__ ((__nonnull__));
extern void q2_gate_destroy (struct q2_gate *gate)
  __attribute__ ((__nonnull__));

/* For q2_gate_enter and _leave. */
extern void q2_gate_wait_open (struct q2_gate *gate)
  __attribute__ ((__nonnull__));
extern void q2_gate_tell (struct q2_gate *gate) __attribute__ ((__nonnull__));

static inline void
q2_gate_leave (struct q2_gate *gate)
{
  atomic_fetch_add (&gate->ended, 1);
  if (atomic_load (&gate->closed))
    q2_gate_tell (gate);
}

/* Waits while the gate is closed. */
static inline void
q2_gate_enter (struct q2_gate *gate)
{
  for (;;) {
    /* First count, then look: whoever closes it first sets the flag, then
     * reads the counts, so one of the two sees the other.
     */
    atomic_fetch_add (&gate->begun, 1);
    if (!atomic_load (&gate->closed))
      return;
    q2_gate_leave (gate);
    q2_gate_wait_open (gate);
  }
}

/* Close the gate and wait until nobody is inside; one thread at a time, others
 * wait their turn.  0, or ETIMEDOUT if somebody still is after so many
 * milliseconds: then the gate is open again.  0 ms: no limit.
 */
extern int q2_gate_close (struct q2_gate *gate, unsigned timeout_ms)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* By the thread that closed it. */
extern void q2_gate_open (struct q2_gate *gate) __attribute__ ((__nonnull__));

/* How many have ever entered; those that had to wait count more than once. */
static inline uint64_t
q2_gate_begun (struct q2_gate *gate)
{
  return atomic_load_explicit (&gate->begun, memory_order_relaxed);
}

#endif /* QCOW2_BASE_GATE_H */
