/* SPDX-License-Identifier: BSD-3-Clause */
/* gate.c - closing and opening the gate that changes go through.
 *
 * Owns      the two waits: of changes that find the gate closed, and of the
 *           thread that closes it.
 * Method    counts and a flag, see q2_gate_enter; tests/models/gate.py walks
 *           every interleaving.  'ended' is read before 'begun': if they are
 *           equal no change was inside when 'ended' was read.
 * Locks     closer_lock is held while the gate is closed, by design over all
 *           work done in that time; lock only around the condition.
 */
#include "config.h"

#include "base/gate.h"

#include <errno.h>
#include <time.h>

#define CLAIM_PAUSE_MS 5

void
q2_gate_init (struct q2_gate *g)
{
  pthread_condattr_t attr;

  atomic_init (&g->begun, 0);
  atomic_init (&g->ended, 0);
  atomic_init (&g->closed, false);
  atomic_init (&g->holds, 0);
  atomic_init (&g->held_us, 0);
  atomic_init (&g->longest_us, 0);
  atomic_init (&g->waited, 0);
  q2_mutex_init (&g->closer_lock, 0, "gate.closer_lock");
  q2_mutex_init (&g->lock, 3, "gate.lock");
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&g->changed, &attr);
  pthread_condattr_destroy (&attr);
}

void
q2_gate_destroy (struct q2_gate *g)
{
  pthread_cond_destroy (&g->changed);
  q2_mutex_destroy (&g->lock);
  q2_mutex_destroy (&g->closer_lock);
}

void
q2_gate_wait_open (struct q2_gate *g)
{
  q2_mutex_lock (&g->lock);
  while (atomic_load (&g->closed))
    q2_cond_wait (&g->changed, &g->lock);
  q2_mutex_unlock (&g->lock);
}

void
q2_gate_tell (struct q2_gate *g)
{
  q2_mutex_lock (&g->lock);
  pthread_cond_broadcast (&g->changed);
  q2_mutex_unlock (&g->lock);
}

/* Call it until it is true once: later arrivals raise 'begun', too, before
 * they find the gate closed.
 */
static bool
is_empty (struct q2_gate *g)
{
  const uint64_t ended = atomic_load (&g->ended);

  return atomic_load (&g->begun) == ended;
}

static struct timespec
deadline (unsigned ms)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  t.tv_sec += ms / 1000;
  t.tv_nsec += ms % 1000 * 1000000L;
  if (t.tv_nsec >= 1000000000L) {
    ++t.tv_sec;
    t.tv_nsec -= 1000000000L;
  }
  return t;
}

static uint64_t
now_ns (void)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

/* One thread at a time has closed it. */
static void
note_hold (struct q2_gate *g)
{
  const uint64_t us = (now_ns () - g->closed_ns) / 1000;

  atomic_fetch_add (&g->holds, 1);
  atomic_fetch_add (&g->held_us, us);
  if (us > atomic_load (&g->longest_us))
    atomic_store (&g->longest_us, us);
}

int
q2_gate_close_claimed (struct q2_gate *g, unsigned timeout_ms)
{
  const struct timespec until = deadline (timeout_ms);
  bool empty, late = false;

  q2_mutex_lock (&g->lock);
  g->closed_ns = now_ns ();
  atomic_store (&g->closed, true);
  while (!(empty = is_empty (g)) && !late) {
    if (timeout_ms == 0)
      q2_cond_wait (&g->changed, &g->lock);
    else
      late = q2_cond_timedwait (&g->changed, &g->lock, &until) != 0;
  }
  if (!empty) {
    note_hold (g);
    atomic_store (&g->closed, false);
    pthread_cond_broadcast (&g->changed);
  }
  q2_mutex_unlock (&g->lock);
  return empty ? 0 : ETIMEDOUT;
}

void
q2_gate_claim_waiting (struct q2_gate *g)
{
  q2_mutex_lock (&g->closer_lock);
}

int
q2_gate_close (struct q2_gate *g, unsigned timeout_ms)
{
  int r;

  q2_gate_claim_waiting (g);
  r = q2_gate_close_claimed (g, timeout_ms);
  if (r != 0)
    q2_mutex_unlock (&g->closer_lock);
  return r;
}

/* Trying, since a thread may have other gates already. */
int
q2_gate_claim (struct q2_gate *g, unsigned timeout_ms)
{
  const struct timespec pause = { 0, CLAIM_PAUSE_MS * 1000000L };

  for (unsigned ms = 0; q2_mutex_trylock (&g->closer_lock) != 0;
       ms += CLAIM_PAUSE_MS) {
    if (ms >= timeout_ms)
      return ETIMEDOUT;
    nanosleep (&pause, NULL);
  }
  return 0;
}

void
q2_gate_let_on (struct q2_gate *g)
{
  if (atomic_load (&g->closed))
    note_hold (g);
  atomic_store (&g->closed, false);
  q2_gate_tell (g);
}

void
q2_gate_open (struct q2_gate *g)
{
  q2_gate_let_on (g);
  q2_mutex_unlock (&g->closer_lock);
}
