/* SPDX-License-Identifier: BSD-3-Clause */
/* ending.c - what is written when connections, and images, end.
 *
 * Owns      the last commit of an image, and of a connection that has
 *           written through a context of its own.
 * Method    nobody is there any more to whom an error could be reported, and
 *           what fails here is lost for good although it was acknowledged:
 *           so it is done on a thread that belongs to no connection
 *           (apart.c), through the image's own way to the file where there
 *           is one, is tried several times, and a failure is loud.
 *
 *           A server that is told to stop makes whatever sleeps below fail
 *           at once, and for good; that is not tried again.
 * Locks     none held; callers see to it that an image is ended once.
 */
#include "config.h"

#include "share/ending.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/durable.h"
#include "lines.h"
#include "report.h"
#include "below/members.h"
#include "below/nbdkit_io.h"
#include "below/writer.h"
#include "share/apart.h"
#include "share/disk.h"
#include "share/ticker.h"
#include "share/views.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

/* How long to wait before each further attempt. */
static const unsigned pauses_ms[] = { 100, 500, 2000 };
#define NR_PAUSES (sizeof pauses_ms / sizeof pauses_ms[0])

struct ending {
  struct disk *disk;
  const struct qcow2_io *io;
  bool last;                    /* the image ends, not only a connection */
};

static void
pause_for (unsigned ms)
{
  const struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

  nanosleep (&ts, NULL);
}

static int
attempt (const struct ending *e, struct qcow2_error *error)
{
  return e->last ? qcow2_end (e->disk->image, e->io, error)
    : qcow2_settle (e->disk->image, e->io, error);
}

static bool
may_help (struct disk *d, const struct qcow2_error *error)
{
  return !durable_is_lost (disk_durable (d)) && error->errnum != ESHUTDOWN &&
    (error->kind == QCOW2_ERR_IO || error->kind == QCOW2_ERR_NO_SPACE ||
     error->kind == QCOW2_ERR_NOMEM);
}

/* What it has written is safe all the same if it is durable; the rest others
 * can write.
 */
static void
leave_to_others (const struct ending *e)
{
  struct below *const below = e->io->opaque;

  (void) holds (e->disk->writer == NULL && &below->io == e->io);
  if (atomic_load (&below->unflushed) && e->io->ops->flush (below) == 0)
    nbdkit_debug ("qcow2: %s: another connection has to commit",
                  e->disk->name);
}

/* The file may only not have been cut back, or not marked as closed. */
static void
report_end (const struct ending *e)
{
  struct qcow2_error error;

  if (e->disk->kept || qcow2_flush (e->disk->image, e->io, &error) == 0)
    warning (e->disk->name, "was not closed cleanly, but nothing that was "
             "written is lost");
  else
    warning (e->disk->name, "THE LAST COMMIT HAS FAILED: what clients have "
             "written since their last flush may be lost");
}

static void
run (void *opaque)
{
  const struct ending *const e = opaque;
  struct qcow2_error error, said = { .text = "" };
  unsigned tries = 0;

  (void) holds (e->disk->writable);
  while (attempt (e, &error) == -1) {
    if (strcmp (error.text, said.text) != 0)
      report (e->disk->name, &error);
    said = error;
    if (tries == NR_PAUSES || !may_help (e->disk, &error)) {
      if (e->last)
        report_end (e);
      else
        leave_to_others (e);
      return;
    }
    pause_for (pauses_ms[tries++]);
  }
}

void
disk_hush (struct disk *d)
{
  ticker_stop (d->ticker);
  d->ticker = NULL;
  views_close (&d->views);
}

void
disk_end (struct disk *d, const struct qcow2_io *own)
{
  struct ending e = {
    .disk = d, .io = d->writer ? writer_io (d->writer) : own, .last = true,
  };

  disk_hush (d);
  if (!d->writable || d->ended)
    return;
  if (e.io != NULL)
    run_apart (run, &e);
  else
    warning (d->name, "was not closed: what clients have written since "
             "their last flush may be lost");
}

/* A connection goes that others may have written after; see disk.c. */
static void
flush_own (struct disk *d, const struct qcow2_io *own)
{
  struct ending e = { .disk = d, .io = own };

  if (d->writable && d->writer == NULL)
    run_apart (run, &e);
}

/* What it has written and not flushed cannot be flushed any more. */
static void
abandon_own (struct disk *d, const struct below *own)
{
  if (d->writable && d->writer == NULL && atomic_load (&own->unflushed))
    durable_lose (&d->durable, "a connection has ended before what it had "
                  "written could be flushed");
}

/* In this order: who joins meanwhile flushes it as well, and hears if that
 * fails.
 */
void
disk_leave (struct disk *d, struct below *own, const struct qcow2_io *io)
{
  if (!members_has (&d->members, own))
    return;
  (void) holds (d->writable && d->writer == NULL &&
                own->durable == &d->durable);
  if (io)
    flush_own (d, io);
  else
    abandon_own (d, own);
  members_remove (&d->members, own);
}
