/* SPDX-License-Identifier: BSD-3-Clause */
/* gate.h - holding changes back for a point in time.
 *
 * Changes pass the gate, at the price of one atomic add at each end.  A thread
 * that needs a point in time closes it: changes that are inside end, new ones
 * wait, and closing returns when none is inside.  No change runs until the
 * gate is opened again.
 *
 * A thread that is inside must neither enter again nor close the gate: it
 * would wait for itself.
 */
#ifndef QCOW2_BASE_GATE_H
#define QCOW2_BASE_GATE_H

#include "base/lock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct q2_gate {
  _Atomic uint64_t begun, ended;        /* changes that have entered, left */
  _Atomic bool closed;

  _Atomic uint64_t holds, held_us, longest_us;  /* how often it was closed,
                                                   and for how long */
  _Atomic uint64_t waited;              /* see q2_gate_enter_counted */

  struct q2_mutex closer_lock;          /* held from close to open; guards: */
  uint64_t closed_ns;                   /* when it was */
  struct q2_mutex lock;                 /* for the condition */
  pthread_cond_t changed;               /* opened, or one has left */
};

extern void q2_gate_init (struct q2_gate *gate) __attribute__ ((__nonnull__));
extern void q2_gate_destroy (struct q2_gate *gate)
  __attribute__ ((__nonnull__));

/* Used by q2_gate_enter and q2_gate_leave. */
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

/* Somebody has closed it, or waits until nobody is inside. */
static inline bool
q2_gate_is_closed (struct q2_gate *gate)
{
  return atomic_load (&gate->closed);
}

/* As q2_gate_enter, but false if it is closed. */
static inline bool
q2_gate_try_enter (struct q2_gate *gate)
{
  /* Count first, then look.  Closing sets the flag first, then reads the
   * counts; so at least one of the two threads sees the other.
   */
  atomic_fetch_add (&gate->begun, 1);
  if (!q2_gate_is_closed (gate))
    return true;
  q2_gate_leave (gate);
  return false;
}

/* Waits while the gate is closed. */
static inline void
q2_gate_enter (struct q2_gate *gate)
{
  while (!q2_gate_try_enter (gate))
    q2_gate_wait_open (gate);
}

/* The same, and if it has to wait that is counted, once. */
static inline void
q2_gate_enter_counted (struct q2_gate *gate)
{
  if (q2_gate_try_enter (gate))
    return;
  atomic_fetch_add_explicit (&gate->waited, 1, memory_order_relaxed);
  q2_gate_wait_open (gate);
  q2_gate_enter (gate);
}

/* Close the gate and wait until no change is inside.  Other threads that close
 * it wait until it is opened.  Returns 0, or ETIMEDOUT if a change is still
 * inside after 'timeout_ms' milliseconds (0: no limit); then the gate is open
 * again.
 */
extern int q2_gate_close (struct q2_gate *gate, unsigned timeout_ms)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same in two steps, for a thread that closes several gates.  From the
 * first on nobody else can close it; changes go on.  Returns 0, or ETIMEDOUT
 * if another thread still has it after 'timeout_ms' milliseconds or so.  It
 * tries again and again, so two threads that claim several gates in different
 * orders fail, at worst, and do not wait for ever.
 */
extern int q2_gate_claim (struct q2_gate *gate, unsigned timeout_ms)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* The first for a thread that has no other gate: it waits for as long as
 * another one takes.
 */
extern void q2_gate_claim_waiting (struct q2_gate *gate)
  __attribute__ ((__nonnull__));
/* The second, with the time that is left.  ETIMEDOUT: it is claimed as before,
 * and changes go on.
 */
extern int q2_gate_close_claimed (struct q2_gate *gate, unsigned timeout_ms)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Changes go on, and it is claimed as before it was closed. */
extern void q2_gate_let_on (struct q2_gate *gate)
  __attribute__ ((__nonnull__));

/* Only the thread that closed the gate, or claimed it, may open it. */
extern void q2_gate_open (struct q2_gate *gate) __attribute__ ((__nonnull__));

/* How many changes have entered so far; one that waited counts repeatedly. */
static inline uint64_t
q2_gate_begun (struct q2_gate *gate)
{
  return atomic_load_explicit (&gate->begun, memory_order_relaxed);
}

#endif /* QCOW2_BASE_GATE_H */
