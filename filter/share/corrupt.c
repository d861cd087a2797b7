/* SPDX-License-Identifier: BSD-3-Clause */
/* corrupt.c - images that turn out to be corrupt while they are served.
 *
 * Owns      what is known of that; who is told.
 * Method    the engine tells it once, when it has stopped writing.  The text
 *           is there before the flag, and never changes.
 * Locks     none: the flag is an atomic.
 */
#include "config.h"

#include "share/corrupt.h"

#include "qcow2.h"
#include "report.h"
#include "share/disk.h"

#include <stdio.h>

/* Constant while there are images. */
static void (*watcher) (const struct disk *d);

void
corrupt_note (void *opaque, const struct qcow2_error *why)
{
  struct disk *const d = opaque;

  if (!holds (!atomic_load (&d->corrupt.found)))
    return;
  snprintf (d->corrupt.why, sizeof d->corrupt.why, "%s", why->text);
  atomic_store (&d->corrupt.found, true);
  if (watcher != NULL)
    watcher (d);
}

const char *
corrupt_why (const struct disk *d)
{
  return atomic_load (&d->corrupt.found) ? d->corrupt.why : NULL;
}

void
corrupt_watch (void (*fn) (const struct disk *d))
{
  watcher = fn;
}
