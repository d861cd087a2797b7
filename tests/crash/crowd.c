/* SPDX-License-Identifier: BSD-3-Clause */
/* crowd.c - see crowd.h.
 *
 * Owns      the threads.
 * Locks     none of its own.
 */
#include "config.h"

#include "crowd.h"

#include "jitter.h"

static void
client (void *arg, unsigned nr)
{
  struct crowd *const c = arg;
  struct guest *const g = c->guest;
  struct rng rng = { g->seed * 1000 + 1 + nr };

  unit_context ("%s, seed %" PRIu64, g->w->name, g->seed);
  for (unsigned i = 0; i < g->w->requests; ++i) {
    guest_request (g, &rng);
    atomic_fetch_add (&c->done, 1);
  }
}

void
crowd_begin (struct crowd *c, struct guest *guest, unsigned often)
{
  c->guest = guest;
  atomic_store (&c->done, 0);
  jitter (often);
  threads_start (&c->threads, guest->w->clients, client, c);
}

void
crowd_wait (struct crowd *c, unsigned long nr)
{
  const unsigned long all =
    (unsigned long) c->guest->w->clients * c->guest->w->requests;

  REQUIRE (nr <= all);
  WAIT_UNTIL (atomic_load (&c->done) >= nr);
}

void
crowd_end (struct crowd *c)
{
  threads_join (&c->threads);
  jitter (0);
}
