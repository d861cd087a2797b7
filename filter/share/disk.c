/* SPDX-License-Identifier: BSD-3-Clause */
/* disk.c - one open image with all that belongs to it.
 *
 * Owns      struct disk: the engine's image; for a local file our own
 *           descriptor of it, which holds the locks; where it is written to
 *           the shared way to the file and the thread that commits.
 * Method    the file is locked first (diskfile.c), then the image is opened
 *           (diskimage.c), and then there is what is only needed for reading,
 *           or for writing.
 *
 *           Connections that only read each use their own way to the file.
 *           What is written to is reached by one shared way (writer.c),
 *           where that can be had.  With an nbdkit whose shared contexts have
 *           no export name it cannot where names mean something: then each
 *           connection writes through its own way, which is right only if
 *           the plugin promises that a flush through one of them includes
 *           the others, and nothing can grow.
 * Locks     none: constant while it is open; callers see to it that it is
 *           opened, ended, put to sleep and closed by one thread.
 */
#include "config.h"

#include "share/disk.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/chain.h"
#include "host/claims.h"
#include "host/durable.h"
#include "host/fileid.h"
#include "create.h"
#include "embed.h"
#include "lines.h"
#include "logs.h"
#include "report.h"
#include "settings.h"
#include "stack.h"
#include "below/exportid.h"
#include "below/lanes.h"
#include "below/members.h"
#include "below/nbdkit_io.h"
#include "below/next.h"
#include "below/writer.h"
#include "share/diskfile.h"
#include "share/diskimage.h"
#include "share/ticker.h"
#include "share/views.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Reading or writing ------------------------------------------------ */

/* NULL: what is below can be written to. */
static const char *
why_not_writable (const struct abilities *can)
{
  if (!can->write)
    return "the plugin, or a filter below, cannot write to it";
  if (!can->flush)
    return "the plugin, or a filter below, cannot flush what is written";
  if (config.reopens && !config.allow_retry)
    return strcmp (config.reopens, "retry") == 0
      ? "after the retry filter has opened the plugin again, a flush succeeds "
      "although what was written before is lost (qcow2-allow-retry=on allows "
      "it all the same)"
      : "the retry-request filter tries flushes that have failed again, and "
      "then they succeed although what was written is lost "
      "(qcow2-allow-retry=on allows it all the same)";
  if (!writer_possible () && !can->multi_conn &&
      config.thread_model != NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS)
    return "with this version of nbdkit, and a plugin that serves several "
      "images, the plugin must support multi-conn";
  return NULL;
}

static int
open_writer (struct disk *d)
{
  struct file_id now;

  (void) holds (d->writer == NULL);
  d->writer = writer_new (&filter_env, d->exportname, d->name);
  if (d->writer == NULL)
    return -1;
  export_id_get (&now, d->exportname);
  if ((d->id.known || d->id.device) && !file_id_same_file (&d->id, &now)) {
    warning (d->name, "was replaced by another file while it was opened");
    errno = EBUSY;
    return -1;
  }
  writer_use_growth (d->writer, diskfile_growth (d));
  return 0;
}

static void
start_ticker (struct disk *d)
{
  const struct qcow2_io *const io = d->writer ? writer_io (d->writer) : NULL;

  if (io == NULL)
    d->ticker = ticker_start (d->image, members_borrow, &d->members,
                              d->name);
  else if (io->ops->borrow)
    d->ticker = ticker_start (d->image, io->ops->borrow, io->opaque,
                              d->name);
}

/* What is only needed for writing, or for reading. */
static int
settle (struct disk *d)
{
  (void) holds (d->image != NULL && d->lanes == NULL && d->ticker == NULL);
  if (!d->writable) {
    writer_free (d->writer);
    d->writer = NULL;
    if (lanes_possible ())
      d->lanes = lanes_new (d->exportname, d->size);
    return 0;
  }
  if (diskfile_become_writer (d) == -1)
    return -1;
  disk_durable (d)->image = d->image;
  start_ticker (d);
  return 0;
}

/* ---- Open and close ---------------------------------------------------- */

static struct disk *
disk_new (const char *exportname, const struct file_id *id)
{
  struct disk *d = calloc (1, sizeof *d);

  if (d == NULL)
    goto fail;
  d->fd = -1;
  d->id = *id;
  members_init (&d->members);
  durable_init (&d->durable, &filter_env, "");
  views_init (&d->views);
  d->exportname = strdup (exportname);
  if (config.dir && asprintf (&d->name, "%s/%s", config.dir, exportname)
      == -1)
    d->name = NULL;
  if (!config.dir)
    d->name = strdup (config.label ? config.label : exportname);
  d->durable.name = d->name;
  if (d->exportname != NULL && d->name != NULL)
    return d;

 fail:
  nbdkit_error ("qcow2: out of memory for a connection");
  disk_close (d);
  return NULL;
}

/* 1: there is a new image, and all is to be opened anew, since the file has
 * another size.
 */
#define CREATED 1

static int
create_image (struct disk *d, const struct below *own)
{
  const struct qcow2_io *const io = disk_io (d, own);
  int r = create_needed (io, d->name);

  if (r != 1)
    return r;
  if (diskfile_become_writer (d) == -1)
    return -1;
  r = create_needed (io, d->name);      /* by somebody who was faster */
  if (r != 1)
    return r;
  return create_now (io, d->name) == -1 ? -1 : CREATED;
}

static int
open_all (struct disk *d, const struct below *own, bool readonly)
{
  int r;
  const bool shared = !readonly && own == NULL;
  /* Where it is possible to have one, a shared way has been tried. */
  bool writing = !readonly && (shared || !writer_possible ());

  if (diskfile_open (d, writing) == -1 || (shared && open_writer (d) == -1))
    return -1;
  if (writing)
    d->why_read_only = why_not_writable (disk_abilities (d, own));
  if (d->why_read_only != NULL)
    writing = false;
  if (writing && (r = create_image (d, own)) != 0)
    return r;
  if (diskimage_open (d, disk_io (d, own), writing) == -1)
    return -1;
  return settle (d);
}

static struct disk *
open_once (const char *exportname, const struct file_id *id,
           const struct below *own, bool readonly, bool alone,
           bool *ret_created)
{
  struct disk *const d = disk_new (exportname, id);
  int saved_errno, r;

  *ret_created = false;
  if (d == NULL)
    return NULL;
  d->alone = alone;
  r = open_all (d, own, readonly);
  if (r == 0)
    return d;
  *ret_created = r == CREATED;
  saved_errno = errno;
  disk_close (d);
  errno = saved_errno;
  return NULL;
}

struct disk *
disk_open (const char *exportname, const struct file_id *id,
           const struct below *own, bool readonly, bool alone)
{
  struct file_id now;
  struct disk *d;
  bool created;

  d = open_once (exportname, id, own, readonly, alone, &created);
  if (!created)
    return d;
  export_id_get (&now, exportname);
  return open_once (exportname, &now, own, readonly, alone, &created);
}

void
disk_close (struct disk *d)
{
  if (d == NULL)
    return;
  /* What reads ahead through other contexts must not be written to. */
  (void) holds (d->lanes == NULL || (d->writer == NULL && !d->writable));
  (void) holds (d->ticker == NULL || d->writable);
  ticker_stop (d->ticker);
  views_close (&d->views);
  /* The image first: its background work uses the rest. */
  log_stats (d->name, d->image, d->writable);
  diskimage_close (d);
  lanes_free (d->lanes);
  durable_forget (disk_durable (d), d->fd);
  writer_free (d->writer);
  if (d->fd != -1)
    close (d->fd);
  views_destroy (&d->views);
  claim_release (&d->claim);
  members_destroy (&d->members);
  durable_destroy (&d->durable);
  free (d->exportname);
  free (d->name);
  free (d);
}

void
disk_say_read_only (struct disk *d)
{
  if (d->why_read_only != NULL && !report_is_quiet () &&
      !atomic_exchange (&d->said_read_only, true))
    log_read_only (d->name, d->why_read_only, d->read_only_advice);
}

/* For example with lvextend.  The descriptor is that of the locks.  Other
 * filters below may know the old size, as cache does, and write by it.
 */
static void
notice_extension (struct disk *d)
{
  const off_t size = d->fd == -1 || !stack_is_plugin_alone ("file") ? -1
    : lseek (d->fd, 0, SEEK_END);

  if (size != -1)
    qcow2_file_is_larger (d->image,
                          writer_look_again (d->writer, (uint64_t) size));
}

void
disk_join (struct disk *d, struct below *own)
{
  if (!d->writable)
    return;
  if (d->writer != NULL) {
    notice_extension (d);
    return;
  }
  (void) holds (own->durable == NULL || own->durable == &d->durable);
  members_flush (&d->members);
  below_become_member (own, &d->durable);
  members_add (&d->members, own);
}

void
disk_idle (struct disk *d)
{
  qcow2_idle (d->image);
  lanes_idle (d->lanes);
}

/* ---- Requests ---------------------------------------------------------- */

const struct qcow2_io *
disk_io (const struct disk *d, const struct below *own)
{
  return d->writer ? writer_io (d->writer) : &own->io;
}

const struct abilities *
disk_abilities (const struct disk *d, const struct below *own)
{
  return d->writer ? writer_abilities (d->writer) : &own->can;
}

struct durable *
disk_durable (struct disk *d)
{
  return d->writer ? writer_durable (d->writer) : &d->durable;
}

/* Why the file does not grow, where that is so from the start. */
static const char *
why_no_growth (void)
{
  if (!config.grow)
    return "the file is full, and must not grow because of qcow2-grow=off";
  if (stack_has_filter ("cow"))
    return "what is below is full, and the cow filter there cannot make it "
      "larger; put that filter above, --filter=cow --filter=qcow2";
  if (!writer_possible ())
    return "the file is full, and with this version of nbdkit only what is "
      "served alone, with file=, can grow";
  return "what is below is full, and cannot be made larger from here; give "
    "it more room, for example with 'lvextend' or 'truncate' where it lies, "
    "and connect once more, or start nbdkit again if that is not enough";
}

/* Once for each image; what could have grown has said why it did not. */
static bool
may_explain (struct disk *d)
{
  return (d->writer == NULL || writer_io (d->writer)->ops->grow == NULL) &&
    !atomic_exchange (&d->explained, true);
}

int
disk_report (struct disk *d, const struct qcow2_error *error)
{
  const int errnum = report (d->name, error);

  if (error->kind == QCOW2_ERR_NO_SPACE && may_explain (d))
    warning (d->name, "%s", why_no_growth ());
  return errnum;
}
