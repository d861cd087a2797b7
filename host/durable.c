/* SPDX-License-Identifier: BSD-3-Clause */
/* durable.c - whether what was written to a file can still become durable.
 *
 * Owns      struct durable, one for each file that is written to: the place
 *           that remembers that a flush has failed.
 * Method    a flush that fails may have dropped what it was to make durable,
 *           and the next one says nothing of that, whoever asks for it and
 *           through whatever context, descriptor or connection.  So every
 *           flush of the file goes through here, one at a time; after one
 *           has failed all others fail without being tried, and so does
 *           all that writes.  That ends when the file is opened anew.
 *
 *           Linux takes what it could not write for written, and goes on
 *           showing it.  Who opens the file next must not build on that, so
 *           the pages of a local file are dropped before.
 * Locks     durable.lock is held over the flush: one that begins after
 *           another has failed must find that out.
 */
#include "config.h"

#include "host/durable.h"

#include "qcow2.h"
#include "host/env.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

void
durable_init (struct durable *d, const struct host_env *env, const char *name)
{
  pthread_mutex_init (&d->lock, NULL);
  d->env = env;
  d->name = name;
  d->image = NULL;
  d->lost = false;
}

void
durable_destroy (struct durable *d)
{
  pthread_mutex_destroy (&d->lock);
}

bool
durable_is_lost (const struct durable *d)
{
  return atomic_load_explicit (&d->lost, memory_order_relaxed);
}

void
durable_lose (struct durable *d, const char *why)
{
  struct qcow2_image *const image = d->image;

  if (atomic_exchange (&d->lost, true))
    return;
  (void) host_holds (d->env, d->name != NULL);
  if (image)
    qcow2_flush_has_failed (image);
  host_warn (d->env, d->name, "%s: what was written before may be lost "
             "although later flushes would succeed, so nothing is written "
             "any more until all clients have disconnected", why);
}

int
durable_flush (struct durable *d, int (*flush) (void *opaque), void *opaque)
{
  int err = EIO;

  pthread_mutex_lock (&d->lock);
  if (!durable_is_lost (d)) {
    err = flush (opaque);
    (void) host_holds (d->env, err >= 0);       /* an errno value, or 0 */
    if (err != 0)
      durable_lose (d, "a flush has failed");
  }
  /* It may have been lost by something else meanwhile. */
  if (err == 0 && durable_is_lost (d))
    err = EIO;
  pthread_mutex_unlock (&d->lock);
  return err;
}

/* What is dirty once more is written and not dropped. */
void
durable_forget (const struct durable *d, int fd)
{
  if (fd != -1 && durable_is_lost (d))
    (void) posix_fadvise (fd, 0, 0, POSIX_FADV_DONTNEED);
}
