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
 *           While the caller waits he does what only his thread can do.  If
 *           there is no thread to be had he does all of it himself.
 * Locks     none here; see errand.c.
 */
#include "config.h"

#include "share/apart.h"

#include "below/errand.h"

#include <pthread.h>

struct work {
  struct errand_desk desk;
  void (*fn) (void *opaque);
  void *opaque;
};

static void *
run (void *opaque)
{
  struct work *const w = opaque;

  errand_desk_use (&w->desk);
  w->fn (w->opaque);
  errand_desk_leave (&w->desk);
  return NULL;
}

void
run_apart (void (*fn) (void *opaque), void *opaque)
{
  struct work w = { .fn = fn, .opaque = opaque };
  pthread_t thread;

  errand_desk_init (&w.desk);
  if (pthread_create (&thread, NULL, run, &w) == 0) {
    errand_desk_serve (&w.desk);
    pthread_join (thread, NULL);
  }
  else
    fn (opaque);
  errand_desk_destroy (&w.desk);
}
