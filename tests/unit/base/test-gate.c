/* SPDX-License-Identifier: BSD-3-Clause */
/* test-gate.c - no thread is inside while the gate is closed, and none waits
 * for ever.
 *
 * The thread that has closed the gate reads without a lock the data that
 * changes have written inside: the thread sanitizer checks that the gate
 * orders this.
 */
#include "config.h"

#include "base/gate.h"

#include "unit.h"

#include <errno.h>
#include <sched.h>

#define NR_THREADS 4

struct fixture {
  struct q2_gate gate;
  atomic_bool stop;
  unsigned long first[NR_THREADS], second[NR_THREADS];
  atomic_uint next;
};

static void *
change (void *opaque)
{
  struct fixture *const f = opaque;
  const unsigned i = atomic_fetch_add (&f->next, 1);

  while (!atomic_load (&f->stop)) {
    q2_gate_enter (&f->gate);
    ++f->first[i];
    if (f->first[i] % 16 == 0)
      sched_yield ();
    ++f->second[i];
    q2_gate_leave (&f->gate);
  }
  return NULL;
}

static void
points_in_time (void)
{
  struct fixture f = { .next = 0 };
  pthread_t threads[NR_THREADS];
  unsigned long last = 0, moved = 0;

  q2_gate_init (&f.gate);
  for (size_t i = 0; i < NR_THREADS; ++i)
    REQUIRE (pthread_create (&threads[i], NULL, change, &f) == 0);
  for (unsigned n = 0; n < unit_scaled (2000) || moved < 10; ++n) {
    unsigned long sum = 0;

    REQUIRE (q2_gate_close (&f.gate, 0) == 0);
    for (size_t i = 0; i < NR_THREADS; ++i) {
      CHECK_EQ (f.first[i], f.second[i]);
      sum += f.first[i];
    }
    q2_gate_open (&f.gate);
    moved += sum > last;
    last = sum;
    if (n % 4 == 0)
      sched_yield ();
  }
  atomic_store (&f.stop, true);
  for (size_t i = 0; i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
  CHECK_EQ (atomic_load (&f.gate.begun), atomic_load (&f.gate.ended));
  q2_gate_destroy (&f.gate);
}

static void *
enter_and_leave (void *opaque)
{
  struct q2_gate *const gate = opaque;

  q2_gate_enter (gate);
  q2_gate_leave (gate);
  return NULL;
}

/* Somebody who stays inside makes closing fail, and the gate is open again. */
static void
closing_gives_up (void)
{
  struct q2_gate gate;
  pthread_t thread;

  q2_gate_init (&gate);
  q2_gate_enter (&gate);
  CHECK_EQ (q2_gate_close (&gate, 10), ETIMEDOUT);
  REQUIRE (pthread_create (&thread, NULL, enter_and_leave, &gate) == 0);
  pthread_join (thread, NULL);
  q2_gate_leave (&gate);
  CHECK_EQ (q2_gate_close (&gate, 10), 0);
  REQUIRE (pthread_create (&thread, NULL, enter_and_leave, &gate) == 0);
  sched_yield ();
  CHECK_EQ (atomic_load (&gate.begun) - atomic_load (&gate.ended) < 2, true);
  q2_gate_open (&gate);
  pthread_join (thread, NULL);
  CHECK_EQ (q2_gate_close (&gate, 0), 0);
  q2_gate_open (&gate);
  q2_gate_destroy (&gate);
}

static void *
enter_counted (void *opaque)
{
  struct q2_gate *const gate = opaque;

  q2_gate_enter_counted (gate);
  q2_gate_leave (gate);
  return NULL;
}

/* Each change that finds it closed counts once, and no other one. */
static void
waits_are_counted (void)
{
  struct q2_gate gate;
  pthread_t threads[NR_THREADS];

  q2_gate_init (&gate);
  enter_counted (&gate);
  CHECK_EQ (atomic_load (&gate.waited), 0);
  REQUIRE (q2_gate_close (&gate, 0) == 0);
  for (size_t i = 0; i < NR_THREADS; ++i)
    REQUIRE (pthread_create (&threads[i], NULL, enter_counted, &gate) == 0);
  while (atomic_load (&gate.waited) < NR_THREADS)
    sched_yield ();
  q2_gate_open (&gate);
  for (size_t i = 0; i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
  enter_counted (&gate);
  enter_and_leave (&gate);
  CHECK_EQ (atomic_load (&gate.waited), NR_THREADS);
  q2_gate_destroy (&gate);
}

static void *
close_and_open (void *opaque)
{
  struct fixture *const f = opaque;

  for (unsigned n = 0; n < 200; ++n) {
    CHECK_EQ (q2_gate_close (&f->gate, 0), 0);
    ++f->first[0];              /* guarded by being the one */
    q2_gate_open (&f->gate);
  }
  return NULL;
}

static void
one_closes_at_a_time (void)
{
  struct fixture f = { .next = 0 };
  pthread_t threads[NR_THREADS];

  q2_gate_init (&f.gate);
  for (size_t i = 0; i < NR_THREADS; ++i)
    REQUIRE (pthread_create (&threads[i], NULL, close_and_open, &f) == 0);
  for (size_t i = 0; i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
  CHECK_EQ (f.first[0], NR_THREADS * 200);
  q2_gate_destroy (&f.gate);
}

int
main (void)
{
  points_in_time ();
  closing_gives_up ();
  waits_are_counted ();
  one_closes_at_a_time ();
  return unit_finish ();
}
