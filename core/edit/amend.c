/* SPDX-License-Identifier: BSD-3-Clause */
/* amend.c - changes what kind of image it is.
 *
 * Owns      the order, and the new header.
 * Method    everything that the new header needs is made before it, so that it
 *           is written in one step, whatever changes: first entries that
 *           version 2 does not have are replaced, which leaves a valid image
 *           of version 3; then refcounts of the new width are written, to
 *           which nothing points yet.  The dirty bit, which only lazy
 *           refcounts can have set here, goes with them: all is durable then.
 * Locks     the gate is closed, and the image is nobody else's.
 */
#include "config.h"

#include "edit/amend.h"

#include "base/assume.h"
#include "base/error.h"

#define V2_HEADER_LENGTH 72
#define V3_HEADER_LENGTH 112

/* Fields that the other version does not have. */
static int
set_version (const struct q2_amend *a, struct q2_header_parts *parts,
             struct qcow2_error *err)
{
  struct q2_header *const h = &parts->fields;

  if (a->version == h->version)
    return 0;
  h->version = a->version;
  h->incompatible = h->compatible = h->autoclear = 0;
  h->header_length = a->version == 2 ? V2_HEADER_LENGTH : V3_HEADER_LENGTH;
  return a->version == 2
    ? q2_header_set_ext (parts, Q2_EXT_FEATURE_NAMES, NULL, 0, err) : 0;
}

static int
set_names (const struct q2_amend *a, struct q2_header_parts *parts,
           struct qcow2_error *err)
{
  const struct qcow2_amend_options *const o = a->options;

  if (o->backing_file != NULL &&
      q2_backing_set (parts, o->backing_file, o->backing_format, err) == -1)
    return -1;
  if (o->data_file_raw == QCOW2_SETTING_OFF)
    parts->fields.autoclear &= ~Q2_AUTOCLEAR_DATA_RAW;
  return o->data_file == NULL ? 0
    : q2_header_set_ext (parts, Q2_EXT_DATA_FILE, o->data_file->bytes,
                         o->data_file->len, err);
}

static int
edit_header (void *opaque, struct q2_header_parts *parts,
             struct qcow2_error *err)
{
  const struct q2_amend *const a = opaque;
  struct q2_header *const h = &parts->fields;

  if (set_version (a, parts, err) == -1 || set_names (a, parts, err) == -1)
    return -1;
  q2_new_refcounts_set (&a->refcounts, parts);
  h->incompatible &= ~Q2_INCOMPAT_DIRTY;
  h->compatible &= ~Q2_COMPAT_LAZY_REFCOUNTS;
  if (a->lazy)
    h->compatible |= Q2_COMPAT_LAZY_REFCOUNTS;
  return 0;
}

static int
run (struct q2_amend *a, struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (a->edit.w);
  const unsigned force = a->options->force ? Q2_SUPERBLOCK_FORCE : 0;

  a->refcounts = (struct q2_new_refcounts) {
    .edit = &a->edit, .order = a->refcount_order, .progress = &a->progress,
    .cancelled = Q2_AMEND_CANCELLED,
  };
  if (q2_amend_check_snapshots (a, err) == -1 ||
      q2_edit_try (&a->edit, edit_header, a, force, err) == -1)
    return -1;
  if (a->version < h.version && q2_amend_expand_zeros (a, err) == -1)
    return -1;
  if (a->refcount_order != h.refcount_order &&
      q2_new_refcounts_make (&a->refcounts, err) == -1)
    return -1;
  if (q2_progress_last (&a->progress, Q2_AMEND_CANCELLED, err) == -1)
    return -1;
  /* Refcounts of the width that the header is going to have. */
  if (!q2_assume ((a->refcounts.table_off != 0) ==
                  (a->refcount_order != h.refcount_order), err) ||
      !q2_assume (a->version >= 3 || (a->refcount_order == 4 && !a->lazy),
                  err))
    return -1;
  return q2_edit_switch (&a->edit, edit_header, a, force, err);
}

int
qcow2_amend (struct qcow2_image *image, const struct qcow2_io *host,
             const struct qcow2_amend_options *options,
             const struct qcow2_progress *progress, struct qcow2_error *err)
{
  static const char what[] = "the image cannot be changed";
  struct q2_amend a = { .options = options };
  int r;

  q2_progress_init (&a.progress, progress);
  if (q2_edit_check (image, what, err) == -1 ||
      q2_amend_check (&a, image, err) == -1 ||
      q2_edit_begin (&a.edit, image, host, Q2_EDIT_IMAGE, what, err) == -1)
    return -1;
  r = run (&a, err);
  return q2_edit_end_last (&a.edit, r, err);
}
