/* SPDX-License-Identifier: BSD-3-Clause */
/* apart.c - work on a thread that belongs to no connection.
 *
 * Owns      the thread, which exists while the caller waits for it.
 * Method    nbdkit lets a filter or plugin that sleeps (nbdkit_nanosleep:
 *           delay, rate, retry) wake up with an error as soon as the client
 *           of the connection that the thread belongs to has gone; but what
 *           has to be written when clients have gone has to be written all
 *           the same.  Only a server that is told to stop wakes up all.
 *
 *           If there is no thread to be had the caller does it himself.
 * Locks     none: the caller waits.
 */
#include "config.h"

#include "share/apart.h"

#include <pthread.h>

struct work {
  void (*fn) (void *opaque);
  void *opaque;
};

static void *
run (void *opaque)
{
  const struct work *const w = opaque;

  w->fn (w->opaque);
  return NULL;
}

void
run_apart (void (*fn) (void *opaque), void *opaque)
{
  struct work w = { .fn = fn, .opaque = opaque };
  pthread_t thread;

  if (pthread_create (&thread, NULL, run, &w) == 0)
    pthread_join (thread, NULL);
  else
    fn (opaque);
}
