/* SPDX-License-Identifier: BSD-3-Clause */
/* jitter.c - makes threads lose the processor at the worst moments.
 *
 * Owns      the wrappers of what locks and unlocks mutexes, and unlocks locks of
 *           readers and writers, which the linker puts before those of the C
 *           library.
 * Method    another thread can do harm between two critical sections, but
 *           these few instructions are seldom interrupted: so now and then a
 *           thread sleeps there.
 */
#include "config.h"

#include "jitter.h"

#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

static atomic_uint one_in;
static atomic_ulong counter;
static _Thread_local struct rng rng;

void
jitter (unsigned often)
{
  atomic_store (&one_in, often);
}

static void
wait_a_little (void)
{
  const unsigned n = atomic_load_explicit (&one_in, memory_order_relaxed);
  uint64_t r;

  if (n == 0)
    return;
  if (rng.state == 0)
    rng.state = atomic_fetch_add (&counter, 1) + 1;
  r = rng_next (&rng);
  if (r % n != 0)
    return;
  if (r / n % 3 == 0)
    sched_yield ();
  else
    usleep ((useconds_t) (r / n % 200));
}

extern int __real_pthread_mutex_lock (pthread_mutex_t *);
extern int __real_pthread_mutex_unlock (pthread_mutex_t *);
extern int __real_pthread_rwlock_unlock (pthread_rwlock_t *);
extern int __wrap_pthread_mutex_lock (pthread_mutex_t *);
extern int __wrap_pthread_mutex_unlock (pthread_mutex_t *);
extern int __wrap_pthread_rwlock_unlock (pthread_rwlock_t *);

int
__wrap_pthread_mutex_lock (pthread_mutex_t *mutex)
{
  wait_a_little ();
  return __real_pthread_mutex_lock (mutex);
}

int
__wrap_pthread_mutex_unlock (pthread_mutex_t *mutex)
{
  const int r = __real_pthread_mutex_unlock (mutex);

  wait_a_little ();
  return r;
}

int
__wrap_pthread_rwlock_unlock (pthread_rwlock_t *lock)
{
  const int r = __real_pthread_rwlock_unlock (lock);

  wait_a_little ();
  return r;
}
