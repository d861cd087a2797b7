/* SPDX-License-Identifier: BSD-3-Clause */
/* empty.c - lets go of all that an image has of its disk.
 *
 * Owns      nothing but the order.
 * Method    a new L1 table without entries is written, and the header names it
 *           in one step; then the old one is let go with all that it names.
 *           Snapshots have L1 tables of their own, and their references.
 * Locks     the gate is closed, and the image is nobody else's.
 */
#include "config.h"

#include "edit/empty.h"
#include "edit/trees.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/plant.h"

#include <stdlib.h>

static const char what[] = "the image cannot be emptied";

#define CANCELLED "emptying the image was cancelled; it has all that it had"

struct emptying {
  struct q2_edit edit;
  struct q2_trees old;          /* all of the old table */
  uint64_t old_off, new_off;
};

static int
write_l1 (struct emptying *m, struct qcow2_error *err)
{
  const uint64_t bytes = m->old.nr * 8;
  unsigned char *const zeros = calloc (1, bytes);
  int r;

  if (zeros == NULL)
    return q2_fail_nomem (err, "the L1 table");
  r = q2_edit_alloc (&m->edit, bytes, Q2_META_L1, &m->new_off, err);
  if (r == 0)
    r = q2_edit_write (&m->edit, zeros, bytes, m->new_off, Q2_META_L1, err);
  free (zeros);
  return r;
}

static int
edit_header (void *opaque, struct q2_header_parts *parts,
             struct qcow2_error *err)
{
  const struct emptying *const m = opaque;

  if (!q2_assume (m->new_off != 0 && m->new_off != m->old_off, err) ||
      !q2_assume (m->old.nr == parts->fields.l1_entries, err))
    return -1;
  parts->fields.l1_offset = m->new_off;
  return 0;
}

static int
let_go (struct emptying *m, struct qcow2_error *err)
{
  struct q2_edit *const e = &m->edit;
  const unsigned bits = e->w->geo->cluster_bits;

  if (!q2_assume (e->switched || Q2_PLANTED (Q2_PLANT_LET_GO_EARLY), err))
    return -1;
  q2_edit_let_go (e, m->old_off >> bits, q2_ceil_shift (m->old.nr * 8, bits));
  if (q2_trees_let_go (e, &m->old, err) == -1)
    return -1;
  if (e->w->geo->data_file)
    q2_store_trim (e->w->store, e->w->geo->virtual_size, 0);
  return 0;
}

static int
run (struct emptying *m, struct q2_progress *progress,
     struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (m->edit.w);
  const bool early = Q2_PLANTED (Q2_PLANT_LET_GO_EARLY);

  if (h.l1_entries == 0)
    return 0;
  m->edit.done = "the image is empty";
  m->old_off = h.l1_offset;
  if (q2_trees_read (&m->edit, 0, h.l1_entries, &m->old, err) == -1 ||
      write_l1 (m, err) == -1 ||
      q2_progress_last (progress, CANCELLED, err) == -1 ||
      (early && let_go (m, err) == -1) ||
      q2_edit_switch (&m->edit, edit_header, m, 0, err) == -1)
    return -1;
  return early ? 0 : let_go (m, err);
}

int
q2_empty_check (const struct qcow2_image *image, struct qcow2_error *err)
{
  if (q2_edit_check (image, what, err) == -1)
    return -1;
  if (!(q2_image_header (image).autoclear & Q2_AUTOCLEAR_DATA_RAW))
    return 0;
  return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                  "the image cannot be emptied: its data file is raw, so what "
                  "is in it is the disk");
}

int
q2_empty (struct qcow2_image *image, const struct qcow2_io *host,
          enum q2_edit_kind kind, const struct qcow2_progress *progress,
          struct qcow2_error *err)
{
  struct emptying m = { .new_off = 0 };
  struct q2_progress p = { .total = 1 };
  int r;

  q2_progress_init (&p, progress);
  if (q2_empty_check (image, err) == -1 ||
      q2_edit_begin (&m.edit, image, host, kind, what, err) == -1)
    return -1;
  r = run (&m, &p, err);
  q2_trees_free (&m.old);
  r = q2_edit_end_last (&m.edit, r, err);
  if (r == 0)
    q2_edit_cut_file (&m.edit, 0);
  return r;
}

int
qcow2_make_empty (struct qcow2_image *image, const struct qcow2_io *host,
                  const struct qcow2_progress *progress,
                  struct qcow2_error *err)
{
  return q2_empty (image, host, Q2_EDIT_DISK, progress, err);
}
