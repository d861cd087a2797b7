/* SPDX-License-Identifier: BSD-3-Clause */
/* ticker.c - the thread that writes out what is pending when clients are
 * idle.
 *
 * Owns      one thread for each image that is open for writing.
 * Method    every TICK_MS it asks the engine, which does something only if
 *           nothing was changed since it was asked last, or if that has been
 *           so for long.  The way to the
 *           file is borrowed each time, where the thread model lets
 *           background work have one; else there is no thread, and requests
 *           that write ask the engine as often.
 * Locks     ticker.lock guards 'stop'; not held over I/O.  When requests
 *           have asked last is atomic.
 */
#include "config.h"

#include "share/ticker.h"

#include "qcow2.h"
#include "report.h"
#include "share/disk.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define TICK_MS 2500

struct ticker {
  struct qcow2_image *image;
  int (*borrow) (void *opaque, struct qcow2_io *ret_io);
  void *opaque;
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
  struct qcow2_io io;
  bool failed = false;

  while (wait_for_tick (t)) {
    int r;

    if (t->borrow (t->opaque, &io) != 0)
      continue;
    (void) holds (io.ops->give_back != NULL);
    r = qcow2_idle_commit (t->image, &io, &error);
    io.ops->give_back (&io);
    /* Clients get their own errors; once is enough for the log. */
    if (r == -1 && !failed)
      report (t->name, &error);
    failed = r == -1;
  }
  return NULL;
}

struct ticker *
ticker_start (struct qcow2_image *image,
              int (*borrow) (void *opaque, struct qcow2_io *ret_io),
              void *opaque, const char *name)
{
  struct ticker *t;
  pthread_condattr_t attr;

  t = calloc (1, sizeof *t);
  if (t == NULL)
    return NULL;
  t->image = image;
  t->borrow = borrow;
  t->opaque = opaque;
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
  (void) holds (!t->stop);
  t->stop = true;
  pthread_cond_signal (&t->stopped);
  pthread_mutex_unlock (&t->lock);
  pthread_join (t->thread, NULL);
  pthread_cond_destroy (&t->stopped);
  pthread_mutex_destroy (&t->lock);
  free (t);
}

/* The request has succeeded, whatever comes of this. */
void
ticker_instead (struct disk *d, const struct qcow2_io *io)
{
  struct qcow2_error error;
  struct timespec now;
  uint64_t ms, last = atomic_load (&d->last_tick_ms);

  (void) holds (d->writable && d->ticker == NULL);
  clock_gettime (CLOCK_MONOTONIC, &now);
  ms = now.tv_sec * UINT64_C (1000) + now.tv_nsec / 1000000;
  if (last != 0 && ms - last < TICK_MS)
    return;
  /* The first request only notes the time; one of several asks. */
  if (atomic_compare_exchange_strong (&d->last_tick_ms, &last, ms) &&
      last != 0 && qcow2_idle_commit (d->image, io, &error) == -1)
    report (d->name, &error);
}
