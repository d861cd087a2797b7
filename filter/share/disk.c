/* SPDX-License-Identifier: BSD-3-Clause */
/* disk.c - one open image with all that belongs to it.
 *
 * Owns      struct disk: the engine's image; for a local file our own
 *           descriptor of it, which holds the locks; where it is written to
 *           the shared way to the file and the thread that commits.
 * Method    the image is opened with the locks of a reader, which keep
 *           others from writing; if it turns out that it can be written to,
 *           those of a writer are taken on top of them.
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
#include "host/gate.h"
#include "host/layers.h"
#include "host/locks.h"
#include "host/rules.h"
#include "create.h"
#include "embed.h"
#include "lines.h"
#include "logs.h"
#include "options.h"
#include "places.h"
#include "report.h"
#include "settings.h"
#include "stack.h"
#include "below/exportid.h"
#include "below/grow.h"
#include "below/lanes.h"
#include "below/members.h"
#include "below/nbdkit_io.h"
#include "below/next.h"
#include "below/writer.h"
#include "share/scans.h"
#include "share/ticker.h"
#include "share/views.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A sector: what an image is created with first. */
#define LEAST_BYTES 512

/* ---- The local file ---------------------------------------------------- */

static bool
may_be_read (int errnum)
{
  return errnum == EACCES || errnum == EPERM || errnum == EROFS ||
    errnum == ETXTBSY;
}

static int
fail_open (const struct disk *d, const char *what)
{
  const int errnum = errno;

  warning (d->name, "the file cannot be %s (%m), so it is not known whether "
           "another process writes to it; give qcow2-lock=off if you are "
           "sure that none does", what);
  errno = errnum;
  return -1;
}

/* -1: error.  There may be no local file, or none to be locked: the plugin
 * may serve a part of it, or make something else of it.  Then the file is no
 * image to anybody else, and its locks are not ours; but it may become one.
 */
static int
open_file (struct disk *d, bool writing)
{
  int is_image;

  if (!d->id.known && !d->id.device)
    return 0;
  d->fd = export_id_open (&d->id, d->exportname, writing ? O_RDWR : O_RDONLY);
  if (d->fd == -1 && writing && may_be_read (errno))
    d->fd = export_id_open (&d->id, d->exportname, O_RDONLY);
  if (d->fd == -1)
    return config.lock ? fail_open (d, "opened to be locked") : 0;
  is_image = file_is_image (d->fd);
  if (is_image == -1 && config.lock)
    return fail_open (d, "looked at");
  if (is_image == 1 || (writing && create_wanted ()))
    return 0;
  close (d->fd);
  d->fd = -1;
  return 0;
}

/* In this process. */
static int
claim_file (struct disk *d)
{
  const struct identity id = identity_of_export (&d->id, d->exportname);

  /* It could be any file, which somebody else is writing to. */
  if (d->id.errnum != 0) {
    errno = d->id.errnum;
    warning (d->name, "the file cannot be looked at: %m");
    errno = d->id.errnum;
    return -1;
  }
  if (claim_take (&filter_env, &d->claim, &id, false))
    return 0;
  warning (d->name, "is open for writing in this server, as the data file "
           "of an image or as an image of its own");
  errno = EBUSY;
  return -1;
}

/* Nothing can be read from a file without bytes, so it cannot be proven to be
 * what is served (grow.c), and not every plugin serves it; a hole is as good.
 * The caller has the lock for writing, if there are locks; another program
 * that takes none may write meanwhile, so this never makes a file smaller.
 */
static int
fill_empty (const struct disk *d)
{
  struct stat st;
  int errnum;

  if (fstat (d->fd, &st) == -1 || !S_ISREG (st.st_mode) || st.st_size != 0 ||
      (fcntl (d->fd, F_GETFL) & O_ACCMODE) != O_RDWR)
    return 0;
  errnum = posix_fallocate (d->fd, 0, LEAST_BYTES);
  if (errnum == 0)
    return 0;
  warning (d->name, "the empty file cannot be made larger: %s",
           strerror (errnum));
  errno = errnum;
  return -1;
}

/* Only where a local file can be made larger is an empty one of use. */
static int
prepare_empty (const struct disk *d)
{
  struct stat st;

  if (!create_wanted () || !config.grow || config.dir || d->fd == -1 ||
      !stack_is_plugin_alone ("file") || fstat (d->fd, &st) == -1 ||
      st.st_size != 0)
    return 0;
  if (config.lock && lock_for_writing (&filter_env, d->fd, d->name) == -1)
    return -1;
  return fill_empty (d);
}

static int
open_local (struct disk *d, bool writing)
{
  struct file_id now;

  if (claim_file (d) == -1)
    return -1;
  if (!config.lock && !(config.grow && writing))
    return 0;
  if (open_file (d, writing) == -1)
    return -1;
  if (writing && prepare_empty (d) == -1)
    return -1;
  if (d->fd == -1 || !config.lock)
    return 0;
  if (lock_for_reading (&filter_env, d->fd, d->name) == -1)
    return -1;
  /* From here on nobody writes to it, but somebody may have. */
  export_id_get (&now, d->exportname);
  if (!file_id_equal (&now, &d->id))
    d->id.changing = true;
  return 0;
}

static struct growth *
make_growth (const struct disk *d)
{
  const uint64_t size = writer_abilities (d->writer)->size;
  struct stat st;

  if (!config.grow || d->fd == -1 ||
      (fcntl (d->fd, F_GETFL) & O_ACCMODE) != O_RDWR ||
      fstat (d->fd, &st) == -1 || !S_ISREG (st.st_mode) ||
      (uint64_t) st.st_size != size)
    return NULL;
  return growth_new (d->fd, &d->id, d->exportname, d->name, size);
}

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

  d->writer = writer_new (&filter_env, d->exportname, d->name);
  if (d->writer == NULL)
    return -1;
  export_id_get (&now, d->exportname);
  if ((d->id.known || d->id.device) && !file_id_same_file (&d->id, &now)) {
    warning (d->name, "was replaced by another file while it was opened");
    errno = EBUSY;
    return -1;
  }
  writer_use_growth (d->writer, make_growth (d));
  return 0;
}

static void
close_image (struct disk *d)
{
  qcow2_close (d->image);
  layers_release (&d->layers);
  d->image = NULL;
}

/* The image itself says why. */
static void
note_read_only (struct disk *d)
{
  const struct qcow2_info *const info = qcow2_get_info (d->image);

  d->why_read_only = info->why_read_only;
  d->read_only_advice = info->read_only_advice;
}

/* Where the image will do without its backing file. */
struct lenient_gate {
  struct gate gate;             /* host/gate.h */
  const struct disk *disk;
};

/* It is not there, or must not be opened: trying again is of no use. */
static bool
is_lost (const struct qcow2_error *err)
{
  return err->errnum == ENOENT || err->errnum == ENOTDIR ||
    (err->kind == QCOW2_ERR_REFUSED && err->errnum != EBUSY);
}

static int
open_if_there (void *opaque, const struct qcow2_reference *reference,
               struct qcow2_file *ret_file, struct qcow2_error *err)
{
  struct lenient_gate *const g = opaque;

  if (gate_open_file (&g->gate, reference, ret_file, err) == 0)
    return 0;
  if (!g->disk->alone || reference->kind != QCOW2_BACKING_FILE ||
      !is_lost (err))
    return -1;
  warning (g->disk->name, "only what the image itself has can be read: %s",
           err->text);
  *ret_file = (struct qcow2_file) { .image = NULL };
  return 0;
}

/* The image, and the files that it refers to. */
static int
open_with_layers (struct disk *d, const struct qcow2_io *io, bool writing,
                  struct qcow2_error *err)
{
  const struct identity id = identity_of_export (&d->id, d->exportname);
  const struct passphrase passphrase = rules_passphrase (&places, 0);
  struct qcow2_options options = image_options (d->name);
  struct lenient_gate lenient = { .disk = d };
  struct gate *const gate = &lenient.gate;
  struct qcow2_scan scan;

  gate_init (gate, &filter_env, &id, config.folder);
  options.writable = writing;
  if (writing && scans_find (d->exportname, &d->id, &scan))
    options.known_scan = &scan;
  options.open_file = open_if_there;
  options.open_file_opaque = &lenient;
  options.passphrase = passphrase.bytes;
  options.passphrase_len = passphrase.len;
  d->image = qcow2_open (io, &options, err);
  d->layers = gate->layers;
  if (d->image == NULL)
    return -1;
  if (qcow2_get_scan (d->image, &scan))
    scans_note (d->exportname, &d->id, &scan);
  /* Then nobody else needs to be kept from the data file. */
  if (writing && d->layers.data_file &&
      !qcow2_get_info (d->image)->writable) {
    note_read_only (d);
    close_image (d);
    return open_with_layers (d, io, false, err);
  }
  return qcow2_get_info (d->image)->backing_missing ? 0
    : gate_check_unused (gate, d->image, err);
}

static int
open_image (struct disk *d, const struct below *own, bool writing)
{
  struct qcow2_error error;
  const struct qcow2_info *info;

  d->size = disk_io (d, own)->size;
  if (open_with_layers (d, disk_io (d, own), writing, &error) == -1) {
    errno = report (d->name, &error);
    return -1;
  }
  /* They could change while nobody looks. */
  info = qcow2_get_info (d->image);
  if (d->layers.backing || d->layers.data_file || info->backing_missing)
    d->id.perishable = true;
  d->writable = writing && info->writable;
  nbdkit_debug ("qcow2: %s: opened: version %u, disk of %llu bytes, clusters "
                "of %llu bytes%s", d->name, info->version,
                (unsigned long long) info->virtual_size,
                (unsigned long long) info->cluster_size,
                d->writable ? ", for writing" : "");
  if (writing && !info->writable && d->why_read_only == NULL)
    note_read_only (d);
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

/* Nobody else uses the file from here on, in this process or another. */
static int
become_writer (struct disk *d)
{
  if (!claim_upgrade (&d->claim)) {
    warning (d->name, "cannot be opened for writing, because an image that "
             "is open in this server stands on it, or because it is open "
             "read-only (use -r to serve it read-only)");
    errno = EBUSY;
    return -1;
  }
  return config.lock && d->fd != -1
    ? lock_for_writing_too (&filter_env, d->fd, d->name) : 0;
}

/* What is only needed for writing, or for reading. */
static int
settle (struct disk *d)
{
  if (!d->writable) {
    writer_free (d->writer);
    d->writer = NULL;
    if (lanes_possible ())
      d->lanes = lanes_new (d->exportname, d->size);
    return 0;
  }
  if (become_writer (d) == -1)
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
  if (become_writer (d) == -1)
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

  if (open_local (d, writing) == -1 || (shared && open_writer (d) == -1))
    return -1;
  if (writing)
    d->why_read_only = why_not_writable (disk_abilities (d, own));
  if (d->why_read_only != NULL)
    writing = false;
  if (writing && (r = create_image (d, own)) != 0)
    return r;
  if (open_image (d, own, writing) == -1)
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
  ticker_stop (d->ticker);
  views_close (&d->views);
  /* The image first: its background work uses the rest. */
  log_stats (d->name, d->image, d->writable);
  close_image (d);
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

void
disk_join (struct disk *d, struct below *own)
{
  if (!d->writable || d->writer != NULL)
    return;
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

/* Others may write to a file that nobody reads. */
void
disk_unlock (struct disk *d)
{
  if (d->fd != -1) {
    close (d->fd);
    d->had_fd = true;
  }
  d->fd = -1;
  claim_release (&d->claim);
  d->unlocked = true;
}

static enum disk_relocked
relock_file (struct disk *d)
{
  struct file_id now;

  d->fd = export_id_open (&d->id, d->exportname, O_RDONLY);
  if (d->fd == -1)
    return DISK_CHANGED;
  if (config.lock && lock_for_reading (&filter_env, d->fd, d->name) == -1)
    return DISK_IN_USE;
  export_id_get (&now, d->exportname);
  return file_id_equal (&now, &d->id) ? DISK_UNCHANGED : DISK_CHANGED;
}

enum disk_relocked
disk_relock (struct disk *d)
{
  enum disk_relocked r;

  if (!d->unlocked)
    return DISK_UNCHANGED;
  if (claim_file (d) == -1)
    return DISK_IN_USE;
  r = d->had_fd ? relock_file (d) : DISK_UNCHANGED;
  if (r == DISK_IN_USE)
    disk_unlock (d);
  else
    d->unlocked = false;
  return r;
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
    "it more room while nbdkit is not running, for example with 'truncate' "
    "or 'lvextend' where it lies";
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
