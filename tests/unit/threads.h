/* SPDX-License-Identifier: BSD-3-Clause */
/* threads.h - threads for the unit tests.
 *
 * A test that hangs is ended by the alarm that threads_watchdog sets, so
 * waiting needs no time limit.
 */
#ifndef UNIT_THREADS_H
#define UNIT_THREADS_H

#include "unit.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#define MAX_THREADS 32
#define WATCHDOG_SECONDS 1200

struct threads {
  unsigned count;
  struct thread {
    pthread_t id;
    void (*fn) (void *arg, unsigned nr);
    void *arg;
    unsigned nr;
  } all[MAX_THREADS];
};

static inline void
threads_watchdog (void)
{
  alarm (WATCHDOG_SECONDS);
}

static inline void
sleep_ms (unsigned ms)
{
  nanosleep (&(struct timespec) { ms / 1000, (long) (ms % 1000) * 1000000 },
             NULL);
}

#define WAIT_UNTIL(cond)                                                      \
  do {                                                                        \
    while (!(cond))                                                           \
      sleep_ms (1);                                                           \
  } while (0)

static inline void *
threads_main (void *arg)
{
  const struct thread *const thread = arg;

  thread->fn (thread->arg, thread->nr);
  return NULL;
}

/* Call fn (arg, nr) on threads nr = 0 .. count-1. */
static inline void
threads_start (struct threads *threads, unsigned count,
               void (*fn) (void *arg, unsigned nr), void *arg)
{
  REQUIRE (count <= MAX_THREADS);
  threads->count = count;
  for (unsigned i = 0; i < count; ++i) {
    struct thread *const thread = &threads->all[i];

    thread->fn = fn;
    thread->arg = arg;
    thread->nr = i;
    REQUIRE (pthread_create (&thread->id, NULL, threads_main, thread) == 0);
  }
}

static inline void
threads_join (struct threads *threads)
{
  for (unsigned i = 0; i < threads->count; ++i)
    REQUIRE (pthread_join (threads->all[i].id, NULL) == 0);
}

#endif /* UNIT_THREADS_H */
