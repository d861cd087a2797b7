/* SPDX-License-Identifier: BSD-3-Clause */
/* ticker.c - the thread that writes out what is pending when clients are
 * idle.
 *
 * Owns      one thread for each image that is open for writing.
 * Method    every TICK_SECONDS it asks the engine, which does something only
 *           if nothing was changed since it was asked last.  It uses the
 *           shared way to the file, which takes care of the thread model;
 *           but with the models that let only one request run in the whole
 *           server, the plugin may not expect a request while another
 *           connection comes or goes.  There is no ticker then.
 * Locks     ticker.lock guards 'stop'; not held over I/O.
 */
#include "config.h"

#include "filter.h"

#include <errno.h>
#include <stdlib.h>

#define TICK_MS 2500

struct ticker {
  struct qcow2_image *image;
  const struct qcow2_io *io;
  const char *name;
  pthread_t thread;
  pthread_mutex_t lock;
  pthread_cond_t stopped;
  bool stop;
};

/* Returns false when it is time to stop. */
static bool
wait_for_tick (struct ticker *t)
{
  struct timespec until;
  bool stop;

  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_sec += TICK_MS / 1000;
  until.tv_nsec += TICK_MS % 1000 * 1000000L;
  if (until.tv_nsec >= 1000000000L) {
    until.tv_nsec -= 1000000000L;
    until.tv_sec++;
  }
  pthread_mutex_lock (&t->lock);
  while (!t->stop &&
         pthread_cond_timedwait (&t->stopped, &t->lock, &until) != ETIMEDOUT)
    ;
  stop = t->stop;
  pthread_mutex_unlock (&t->lock);
  return !stop;
}

static void *
run (void *opaque)
{
  struct ticker *const t = opaque;
  struct qcow2_error error;
  bool failed = false;

  while (wait_for_tick (t)) {
    const int r = qcow2_idle_commit (t->image, t->io, &error);

    /* Clients get their own errors; once is enough for the log. */
    if (r == -1 && !failed)
      report (t->name, &error);
    failed = r == -1;
  }
  return NULL;
}

struct ticker *
ticker_start (struct qcow2_image *image, const struct qcow2_io *io,
              const char *name)
{
  struct ticker *t;
  pthread_condattr_t attr;

  if (config.thread_model < NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS ||
      (t = calloc (1, sizeof *t)) == NULL)
    return NULL;
  t->image = image;
  t->io = io;
  t->name = name;
  pthread_mutex_init (&t->lock, NULL);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&t->stopped, &attr);
  pthread_condattr_destroy (&attr);
  if (pthread_create (&t->thread, NULL, run, t) == 0)
    return t;
  pthread_cond_destroy (&t->stopped);
  pthread_mutex_destroy (&t->lock);
  free (t);
  return NULL;
}

void
ticker_stop (struct ticker *t)
{
  if (t == NULL)
    return;
  pthread_mutex_lock (&t->lock);
  t->stop = true;
  pthread_cond_signal (&t->stopped);
  pthread_mutex_unlock (&t->lock);
  pthread_join (t->thread, NULL);
  pthread_cond_destroy (&t->stopped);
  pthread_mutex_destroy (&t->lock);
  free (t);
}
