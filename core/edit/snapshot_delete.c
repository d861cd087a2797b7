/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot_delete.c - deletes a snapshot.
 *
 * Owns      qcow2_snapshot_delete.
 * Method    a snapshot table without it is written; then one sector of the
 *           header names that and gets the dirty bit: from there on the
 *           snapshot is gone, and refcounts are at most too high.  They are
 *           lowered, and when that is durable entries of the disk that are
 *           alone now become COPIED again (SNAP-5).  After a failure, or a
 *           crash, whoever opens the image next counts anew; in version 2 some
 *           clusters are leaked.
 *           All of that is done while the disk changes: it copies the tables
 *           that it shares with the snapshot, as before, until they are its
 *           own.
 * Locks     the gate is claimed (edit.h); pins.lock while the header switches,
 *           so that a view of the snapshot is seen, or sees that it is gone.
 */
#include "config.h"

#include "edit/snapshot.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

static const char what[] = "the snapshot cannot be deleted";

struct delete {
  struct q2_edit edit;
  struct q2_tree tree;          /* the snapshot's */
  struct q2_snaptable table;
  struct q2_progress progress;
  const struct qcow2_name *name;
  bool by_id;
  uint64_t l1_off;              /* where its L1 table is */
  uint64_t table_off;           /* of the new table, 0: none */
  bool was_miscounted;          /* by somebody else, earlier */
};

static int
prepare (struct delete *d, struct qcow2_error *err)
{
  struct q2_edit *const e = &d->edit;
  struct q2_snapshot s;
  size_t pos;

  if (q2_edit_settle (e, what, err) == -1 ||
      q2_snaptable_load (&d->table, e, err) == -1 ||
      q2_snaptable_get (&d->table, e, d->name, d->by_id, &s, &pos, err) == -1
      || q2_tree_load (&d->tree, e, s.l1_offset, s.l1_entries, 0, err) == -1)
    return -1;
  d->l1_off = s.l1_offset;
  d->progress.total = q2_tree_tables (&d->tree);
  d->tree.progress = &d->progress;
  q2_snaptable_remove (&d->table, pos);
  return q2_snaptable_write (&d->table, e, &d->table_off, err);
}

static int
name_table (void *opaque, struct q2_header_parts *parts,
            struct qcow2_error *err)
{
  const struct delete *const d = opaque;

  if (!q2_assume ((d->table.nr == 0) == (d->table_off == 0), err))
    return -1;
  parts->fields.nr_snapshots = d->table.nr;
  parts->fields.snapshots_offset = d->table_off;
  if (parts->fields.version >= 3)
    parts->fields.incompatible |= Q2_INCOMPAT_DIRTY;
  return 0;
}

static int
check_pin_locked (const struct qcow2_image *image, uint64_t l1_off,
                  struct qcow2_error *err)
{
  if (!q2_is_pinned_locked (image, l1_off))
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_BUSY, QCOW2_ADVICE_CLOSE_VIEWS,
                         QCOW2_NO_OFFSET, "%s, because it, or a difference "
                         "with it, is open", what);
}

/* Already before it is certain. */
static int
check_pin (struct qcow2_image *image, uint64_t l1_off, struct qcow2_error *err)
{
  int r;

  q2_mutex_lock (&image->pins.lock);
  r = check_pin_locked (image, l1_off, err);
  q2_mutex_unlock (&image->pins.lock);
  return r;
}

static int
switch_unless_pinned (struct delete *d, struct qcow2_error *err)
{
  struct qcow2_image *const image = d->edit.image;
  int r;

  q2_mutex_lock (&image->pins.lock);
  r = check_pin_locked (image, d->l1_off, err);
  if (r == 0)
    r = q2_edit_switch (&d->edit, name_table, d, 0, err);
  q2_mutex_unlock (&image->pins.lock);
  return r;
}

static int
lower (struct delete *d, struct qcow2_error *err)
{
  return q2_tree_lower (&d->tree, false, err) == -1 ? -1
    : q2_tree_lower_l1 (&d->tree, err);
}

/* The snapshot is gone. */
static int
clean_up (struct delete *d, struct qcow2_error *err)
{
  struct q2_edit *const e = &d->edit;

  /* SNAP-5 */
  if (!q2_assume (e->switched, err) ||
      !q2_assume (d->table_off == 0 || d->table_off != d->table.host_off,
                  err))
    return -1;
  q2_edit_let_go_bytes (e, d->table.host_off, d->table.host_len);
  if (!Q2_PLANTED (Q2_PLANT_LOWER_EARLY) && lower (d, err) == -1)
    return -1;
  if (!Q2_PLANTED (Q2_PLANT_OWN_EARLY) && q2_edit_commit (e, err) == -1)
    return -1;
  if (q2_tree_own (&d->tree, err) == -1 || q2_edit_commit (e, err) == -1)
    return -1;
  return d->was_miscounted ? 0
    : q2_writer_unmark_miscounted (e->w, &e->io, err);
}

static int
delete (struct delete *d, struct qcow2_error *err)
{
  struct q2_writer *const w = d->edit.w;

  d->edit.done = "the snapshot is deleted";
  if (prepare (d, err) == -1)
    return -1;
  d->was_miscounted = w->miscounted;
  if (Q2_PLANTED (Q2_PLANT_LOWER_EARLY) && lower (d, err) == -1)
    return -1;
  if (switch_unless_pinned (d, err) == -1)
    return -1;
  w->miscounted |= q2_image_info (d->edit.image).version >= 3;
  return clean_up (d, err);
}

/* Else nothing is changed, and promises are not taken back either. */
static int
check_there (struct qcow2_image *image, const struct qcow2_io *host,
             const struct qcow2_name *name, bool by_id,
             struct qcow2_error *err)
{
  struct q2_found_snapshot found;

  return q2_snapshot_find (image, host, name, by_id, &found, err) == -1 ? -1
    : check_pin (image, found.s.l1_offset, err);
}

int
qcow2_snapshot_delete (struct qcow2_image *image, const struct qcow2_io *host,
                       const struct qcow2_name *name, bool by_id,
                       const struct qcow2_progress *progress,
                       struct qcow2_error *err)
{
  struct delete d = { .name = name, .by_id = by_id };
  int r;

  q2_progress_init (&d.progress, progress);
  if (q2_snapshots_check_possible (image, what, err) == -1)
    return -1;
  q2_gate_claim_waiting (&image->gate);
  /* From here on nobody else replaces the table that names it. */
  r = check_there (image, host, name, by_id, err);
  if (r == 0)
    r = q2_edit_begin_beside (&d.edit, image, host, what, err);
  if (r == 0)
    r = q2_edit_end (&d.edit, delete (&d, err), err);
  else
    q2_gate_open (&image->gate);
  q2_tree_free (&d.tree);
  q2_snaptable_free (&d.table);
  return r;
}
