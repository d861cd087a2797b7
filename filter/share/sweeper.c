/* SPDX-License-Identifier: BSD-3-Clause */
/* sweeper.c - the thread that gives back the memory of tables that nobody has
 * read for a while.
 *
 * Owns      one thread in the process.
 * Method    it sleeps, and then asks the engine, which knows all the tables in
 *           memory.  No plugin is needed for that.
 * Locks     sweeper.lock guards 'stop'.
 */
#include "config.h"

#include "share/sweeper.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "report.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

static struct {
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t stopped;
  unsigned seconds;
  bool started;
  bool stop;
} sweeper = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* Returns false when it is time to stop. */
static bool
sleep_for_long (void)
{
  struct timespec until;
  bool stop;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_sec += sweeper.seconds;
  pthread_mutex_lock (&sweeper.lock);
  while (!sweeper.stop &&
         pthread_cond_timedwait (&sweeper.stopped, &sweeper.lock, &until) !=
         ETIMEDOUT)
    ;
  stop = sweeper.stop;
  pthread_mutex_unlock (&sweeper.lock);
  return !stop;
}

static void *
run (void *opaque)
{
  while (sleep_for_long ())
    qcow2_forget_unused_tables ();
  return opaque;
}

/* Without a thread the tables stay, and all else is as ever. */
void
sweeper_start (unsigned seconds)
{
  pthread_condattr_t attr;
  int r;

  (void) holds (!sweeper.started);
  if (seconds == 0)
    return;
  sweeper.seconds = seconds;
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&sweeper.stopped, &attr);
  pthread_condattr_destroy (&attr);
  r = pthread_create (&sweeper.thread, NULL, run, NULL);
  sweeper.started = r == 0;
  if (sweeper.started)
    return;
  pthread_cond_destroy (&sweeper.stopped);
  warning ("", "qcow2-cache-clean-interval: there can be no thread: %s",
           strerror (r));
}

void
sweeper_stop (void)
{
  if (!sweeper.started)
    return;
  pthread_mutex_lock (&sweeper.lock);
  sweeper.stop = true;
  pthread_cond_signal (&sweeper.stopped);
  pthread_mutex_unlock (&sweeper.lock);
  pthread_join (sweeper.thread, NULL);
  pthread_cond_destroy (&sweeper.stopped);
  sweeper.started = false;
}
