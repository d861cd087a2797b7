/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot_apply.c - makes the disk what it was when a snapshot was taken.
 *
 * Owns      qcow2_snapshot_apply.
 * Method    everything that the snapshot refers to gets one more reference and
 *           its L1 table is copied; then the size of the disk and its L1 table
 *           change in the header, in one sector (SNAP-6).  From there on the
 *           disk is the snapshot's, and what the old table refers to loses a
 *           reference.  The dirty bit stands meanwhile.
 *           Bitmaps change in the same step (apply_bitmaps.h), so they are
 *           true of the old disk and of the new one.
 *           Everything is shared with the snapshot afterwards, so no entry is
 *           COPIED.
 * Locks     the gate is closed (edit.h), and no view is open.
 */
#include "config.h"

#include "edit/apply_bitmaps.h"
#include "edit/snapshot.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#define CANCELLED "the disk is as before: applying the snapshot was cancelled"

static const char what[] = "the snapshot cannot be applied";

struct apply {
  struct q2_edit edit;
  struct q2_tree target, old;
  struct q2_snaptable table;
  struct q2_progress progress;
  const struct qcow2_name *name;
  bool by_id;
  struct q2_geometry geo;       /* of the disk, then */
  struct q2_apply_bitmaps bitmaps;
  uint64_t l1_off;              /* what the header is to say */
  bool was_miscounted;          /* by somebody else, earlier */
};

/* ---- Before ------------------------------------------------------------ */

static int
find (const struct apply *a, struct q2_found_snapshot *ret,
      struct qcow2_error *err)
{
  return q2_snapshot_find (a->edit.image, a->edit.io.host, a->name, a->by_id,
                           ret, err);
}

/* What that of a disk of its size would be. */
static int
find_geometry (const struct qcow2_image *image, const struct q2_snapshot *s,
               struct q2_geometry *ret, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = &image->geo;
  const struct q2_geometry_params params = {
    .version = geo->version, .virtual_size = s->disk_size,
    .cluster_bits = geo->cluster_bits, .extended_l2 = geo->extended_l2,
    .refcount_order = geo->refcount_order,
  };

  return q2_geometry_init (ret, &params, err);
}

static int
load (struct apply *a, struct qcow2_error *err)
{
  struct q2_edit *const e = &a->edit;
  const struct q2_header h = q2_image_header (e->image);
  struct q2_snapshot s;
  size_t pos;

  if (q2_edit_settle (e, what, err) == -1 ||
      q2_snaptable_load (&a->table, e, err) == -1 ||
      q2_snaptable_get (&a->table, e, a->name, a->by_id, &s, &pos, err) == -1
      || find_geometry (e->image, &s, &a->geo, err) == -1 ||
      q2_tree_load (&a->target, e, s.l1_offset, s.l1_entries,
                    q2_max (a->geo.l1_needed, 1), err) == -1 ||
      q2_tree_load (&a->old, e, h.l1_offset, h.l1_entries, 0, err) == -1)
    return -1;
  a->progress.total = q2_tree_tables (&a->target) + q2_tree_tables (&a->old);
  a->target.progress = a->old.progress = &a->progress;
  a->target.state = CANCELLED;
  return 0;
}

static int
share (struct apply *a, struct qcow2_error *err)
{
  struct q2_edit *const e = &a->edit;

  a->was_miscounted = e->w->miscounted;
  if (q2_tree_alloc_l1 (&a->target, Q2_META_L1, &a->l1_off, err) == -1 ||
      q2_tree_write_l1 (&a->target, Q2_META_L1, a->l1_off, err) == -1 ||
      q2_writer_mark_miscounted (e->w, &e->io, err) == -1)
    return -1;
  return q2_tree_raise (&a->target, err);
}

static int
unmark (struct apply *a, struct qcow2_error *err)
{
  return a->was_miscounted ? 0
    : q2_writer_unmark_miscounted (a->edit.w, &a->edit.io, err);
}

/* The disk is still the old one. */
static void
take_back (struct apply *a)
{
  struct qcow2_error why;

  if (!q2_check (!a->edit.switched))
    return;
  a->target.progress = NULL;
  if (q2_tree_lower (&a->target, true, &why) == -1 ||
      q2_edit_commit (&a->edit, &why) == -1 ||
      (!a->target.miscounted && unmark (a, &why) == -1))
    q2_writer_log (a->edit.w, QCOW2_LOG_WARNING, why.text, why.advice);
  q2_tree_protect (&a->target);
}

/* ---- The switch -------------------------------------------------------- */

/* Bytes 24 to 47. */
static int
name_l1 (void *opaque, struct q2_header_parts *parts, struct qcow2_error *err)
{
  struct apply *const a = opaque;

  /* SNAP-6: the references of the new tree are all there. */
  if (!q2_assume (a->l1_off != 0 && a->l1_off != parts->fields.l1_offset,
                  err) ||
      !q2_assume (a->target.nr_shared == q2_tree_tables (&a->target), err))
    return -1;
  parts->fields.virtual_size = a->geo.virtual_size;
  parts->fields.l1_entries = (uint32_t) a->target.nr;
  parts->fields.l1_offset = a->l1_off;
  return a->bitmaps.any
    ? q2_bitmap_set_edit_header (&a->bitmaps.set, parts, err) : 0;
}

/* The disk, and the bitmaps with it. */
static int
switch_header (struct apply *a, struct qcow2_error *err)
{
  struct q2_bitmap_set *const set = &a->bitmaps.set;
  int r;

  if (Q2_PLANTED (Q2_PLANT_APPLY_LATE) && a->bitmaps.any) {
    a->bitmaps.any = false;
    r = q2_edit_switch (&a->edit, name_l1, a, 0, err);
    a->bitmaps.any = true;
    a->edit.switched = false;
    if (r == 0 && set->changed)
      r = q2_bitmap_set_switch (set, q2_bitmap_set_edit_header, set, err);
    a->edit.switched = true;
    return r;
  }
  return a->bitmaps.any && set->changed
    ? q2_bitmap_set_switch (set, name_l1, a, err)
    : q2_edit_switch (&a->edit, name_l1, a, 0, err);
}

static int
release_old (struct apply *a, struct qcow2_error *err)
{
  if (!q2_assume (a->edit.switched || Q2_PLANTED (Q2_PLANT_LOWER_EARLY), err))
    return -1;
  return q2_tree_lower (&a->old, false, err) == -1 ||
    q2_tree_lower_l1 (&a->old, err) == -1 ||
    q2_edit_commit (&a->edit, err) == -1 || unmark (a, err) == -1 ? -1 : 0;
}

static int
apply (struct apply *a, struct qcow2_error *err)
{
  struct q2_edit *const e = &a->edit;
  struct q2_found_snapshot found;
  int r;

  e->done = "the snapshot is applied";
  if (load (a, err) == -1 || find (a, &found, err) == -1 ||
      q2_apply_bitmaps_prepare (&a->bitmaps, e, &found, &a->geo, what, err)
      == -1)
    return -1;
  r = share (a, err);
  if (r == 0 && Q2_PLANTED (Q2_PLANT_LOWER_EARLY))
    r = release_old (a, err);
  if (r == 0)
    r = q2_progress_last (&a->progress, CANCELLED, err);
  if (r == 0)
    r = switch_header (a, err);
  if (r == -1 && !e->switched) {
    take_back (a);
    return -1;
  }
  if (r == 0)
    q2_apply_bitmaps_finish (&a->bitmaps);
  if (r == 0 && !Q2_PLANTED (Q2_PLANT_LOWER_EARLY))
    r = release_old (a, err);
  return r;
}

/* ------------------------------------------------------------------------ */

int
qcow2_snapshot_apply (struct qcow2_image *image, const struct qcow2_io *host,
                      const struct qcow2_name *name, bool by_id,
                      const struct qcow2_progress *progress,
                      struct qcow2_error *err)
{
  struct apply a = {
    .name = name, .by_id = by_id,
    .bitmaps = { .progress = &a.progress, .cancelled = CANCELLED },
  };
  struct q2_found_snapshot found;
  int r;

  q2_progress_init (&a.progress, progress);
  if (q2_snapshots_check_possible (image, what, err) == -1 ||
      /* What is refused leaves the image alone. */
      q2_snapshot_find (image, host, name, by_id, &found, err) == -1 ||
      find_geometry (image, &found.s, &a.geo, err) == -1 ||
      q2_views_forbid (image, what, err) == -1)
    return -1;
  r = q2_edit_begin (&a.edit, image, host, Q2_EDIT_IMAGE, what, err);
  if (r == 0)
    r = q2_edit_end_last (&a.edit, apply (&a, err), err);
  q2_apply_bitmaps_free (&a.bitmaps);
  q2_tree_free (&a.target);
  q2_tree_free (&a.old);
  q2_snaptable_free (&a.table);
  q2_views_allow (image);
  return r;
}
