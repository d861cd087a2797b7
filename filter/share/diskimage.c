/* SPDX-License-Identifier: BSD-3-Clause */
/* diskimage.c - the engine's image of a disk, and the files it refers to.
 *
 * Owns      the image and the layers of a struct disk; what to do without a
 *           backing file that is not to be had.
 * Method    host/gate.h opens the other files.
 * Locks     none: one thread at a time, as in disk.c.
 */
#include "config.h"

#include "share/diskimage.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/chain.h"
#include "host/claims.h"
#include "host/fileid.h"
#include "host/gate.h"
#include "host/layers.h"
#include "host/rules.h"
#include "embed.h"
#include "lines.h"
#include "options.h"
#include "places.h"
#include "report.h"
#include "settings.h"
#include "below/exportid.h"
#include "share/corrupt.h"
#include "share/disk.h"
#include "share/scans.h"

#include <errno.h>

void
diskimage_close (struct disk *d)
{
  (void) holds (d->views.first == NULL);        /* they stand on it */
  qcow2_close (d->image);
  layers_release (&d->layers);
  d->image = NULL;
}

/* The image itself says why. */
static void
note_read_only (struct disk *d)
{
  const struct qcow2_info info = qcow2_get_info (d->image);

  d->why_read_only = info.why_read_only;
  d->read_only_advice = info.read_only_advice;
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

  (void) holds (d->image == NULL && d->layers.backing == NULL &&
                d->layers.data_file == NULL);
  gate_init (gate, &filter_env, &id, config.folder);
  options.writable = writing;
  if (writing && scans_find (d->exportname, &d->id, &scan))
    options.known_scan = &scan;
  options.open_file = open_if_there;
  options.open_file_opaque = &lenient;
  options.corrupt = corrupt_note;
  options.corrupt_opaque = d;
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
      !qcow2_get_info (d->image).writable) {
    note_read_only (d);
    diskimage_close (d);
    return open_with_layers (d, io, false, err);
  }
  return qcow2_get_info (d->image).backing_missing ? 0
    : gate_check_unused (gate, d->image, err);
}

int
diskimage_open (struct disk *d, const struct qcow2_io *io, bool writing)
{
  struct qcow2_error error;
  struct qcow2_info info;

  d->size = io->size;
  if (open_with_layers (d, io, writing, &error) == -1) {
    errno = report (d->name, &error);
    return -1;
  }
  /* They could change while nobody looks. */
  info = qcow2_get_info (d->image);
  if (d->layers.backing || d->layers.data_file || info.backing_missing)
    d->id.perishable = true;
  d->writable = writing && info.writable;
  nbdkit_debug ("qcow2: %s: opened: version %u, disk of %llu bytes, clusters "
                "of %llu bytes%s", d->name, info.version,
                (unsigned long long) info.virtual_size,
                (unsigned long long) info.cluster_size,
                d->writable ? ", for writing" : "");
  if (writing && !info.writable && d->why_read_only == NULL)
    note_read_only (d);
  return 0;
}
