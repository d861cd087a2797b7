/* SPDX-License-Identifier: BSD-3-Clause */
/* amend_check.c - which changes of an image are possible.
 *
 * Owns      the rules, and their messages.
 * Method    what the header tells is checked before anything is written; the
 *           snapshot table has to be read for the rest.
 * Locks     none.
 */
#include "config.h"

#include "edit/amend.h"

#include "meta/snapshots.h"

#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <string.h>

#define V2_REFCOUNT_ORDER 4

static int
contradicts (struct qcow2_error *err, const char *what)
{
  return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET, "%s", what);
}

static int
cannot_be_v2 (struct qcow2_error *err, const char *what)
{
  return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                  "the image cannot become one of version 2: %s", what);
}

static int
check_width (struct q2_amend *a, const struct q2_header *h,
             struct qcow2_error *err)
{
  const unsigned bits = a->options->refcount_bits;

  a->refcount_order = h->refcount_order;
  if (bits == 0)
    return 0;
  if (!q2_is_pow2 (bits) || bits > 64)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "invalid refcount width of %u bits: it must be a power of "
                    "two from 1 to 64", bits);
  a->refcount_order = (unsigned) __builtin_ctz (bits);
  return 0;
}

static int
check_v2 (const struct q2_amend *a, const struct q2_header *h,
          struct qcow2_error *err)
{
  if (a->version > 2)
    return 0;
  if (a->options->lazy_refcounts == QCOW2_SETTING_ON)
    return contradicts (err, "lazy refcounts need version 3");
  if (a->refcount_order != V2_REFCOUNT_ORDER)
    return a->options->refcount_bits != 0
      ? contradicts (err, "refcounts of another width than 16 bits need "
                     "version 3")
      : cannot_be_v2 (err, "its refcounts have not 16 bits");
  if (h->incompatible & Q2_INCOMPAT_DATA_FILE)
    return cannot_be_v2 (err, "it has a data file");
  if (h->incompatible & Q2_INCOMPAT_EXTENDED_L2)
    return cannot_be_v2 (err, "it has extended L2 entries");
  if (h->compression != QCOW2_COMPRESSION_ZLIB)
    return cannot_be_v2 (err, "its compression is not zlib");
  if (h->nr_bitmaps > 0 || h->stale_bitmaps)
    return cannot_be_v2 (err, "it has bitmaps; remove them first");
  return 0;
}

static int
check_data_file (const struct qcow2_amend_options *o,
                 const struct q2_header *h, struct qcow2_error *err)
{
  const bool raw = h->autoclear & Q2_AUTOCLEAR_DATA_RAW;

  if (o->data_file_raw == QCOW2_SETTING_ON && !raw)
    return contradicts (err, "an existing image cannot get a raw data file: "
                        "what is in the data file need not equal the disk");
  if (o->data_file == NULL)
    return 0;
  if (!(h->incompatible & Q2_INCOMPAT_DATA_FILE))
    return contradicts (err, "only an image with a data file can get another "
                        "name for it");
  if (o->data_file->len == 0 ||
      memchr (o->data_file->bytes, '\0', o->data_file->len) != NULL)
    return contradicts (err, "the name of a data file has at least one byte, "
                        "and none that is 0");
  return 0;
}

int
q2_amend_check (struct q2_amend *a, struct qcow2_image *image,
                struct qcow2_error *err)
{
  const struct qcow2_amend_options *const o = a->options;
  const struct q2_header h = q2_image_header (image);

  if (o->version != 0 && o->version != 2 && o->version != 3)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "the image cannot become one of version %u, only of 2 or "
                    "3", o->version);
  a->version = o->version ? o->version : h.version;
  a->lazy = a->version >= 3 && (o->lazy_refcounts == QCOW2_SETTING_KEEP
                                ? h.compatible & Q2_COMPAT_LAZY_REFCOUNTS
                                : o->lazy_refcounts == QCOW2_SETTING_ON);
  if (check_width (a, &h, err) == -1 || check_v2 (a, &h, err) == -1 ||
      check_data_file (o, &h, err) == -1)
    return -1;
  if (o->backing_file == NULL && o->backing_format != NULL)
    return contradicts (err, "a backing format needs a backing file");
  return o->backing_file == NULL ? 0
    : q2_backing_check (image, o->backing_file, o->backing_format, err);
}

/* ---- Snapshots -------------------------------------------------------- */

/* Version 3 demands what the oldest writers of version 2 did not store. */
#define V3_EXTRA 16

static int
check_snapshot (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
                struct qcow2_error *err)
{
  const struct q2_amend *const a = opaque;
  const struct q2_header h = q2_writer_header (a->edit.w);
  char name[80];

  q2_printable (name, sizeof name, s->name, s->name_len);
  if (a->version > h.version && s->extra_len < V3_EXTRA)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, host_off,
                    "the image cannot become one of version 3: the snapshot "
                    "\"%s\" does not say how large its disk is; delete it "
                    "first", name);
  if (a->version >= h.version)
    return 0;
  if (s->disk_size != h.virtual_size)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, host_off,
                    "the image cannot become one of version 2: the snapshot "
                    "\"%s\" has a disk of %" PRIu64 " bytes, and the disk has "
                    "%" PRIu64, name, s->disk_size, h.virtual_size);
  if (s->vm_state_size > UINT32_MAX)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, host_off,
                    "the image cannot become one of version 2: the VM state "
                    "of the snapshot \"%s\" has %" PRIu64 " bytes", name,
                    s->vm_state_size);
  return 0;
}

int
q2_amend_check_snapshots (struct q2_amend *a, struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (a->edit.w);
  uint64_t ignored;

  return q2_snapshots_walk (&a->edit.io, &h, a->edit.w->geo, check_snapshot, a,
                            &ignored, err);
}
