/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot_create.c - takes a snapshot.
 *
 * Owns      the steps of that; transact.c takes them.
 * Method    phases, apart from each other:
 *
 *             begin      a new snapshot table is in the file, and room for an
 *                        L1 table; the dirty bit is set
 *             capture    the moment that the snapshot shows: in memory, the L1
 *                        table of the disk is copied, and none of its entries
 *                        is COPIED any more
 *             propagate  what is in memory of the tables is put into the file;
 *                        everything gets one more reference, and loses the
 *                        COPIED flag, so that the disk copies it before it
 *                        writes there (SNAP-2, SNAP-3)
 *             publish    the copy is in the file; the header names the new
 *                        snapshot table
 *
 *           Only the second needs that the disk does not change; while the
 *           others run it may, see write/sharing.h.
 *           The dirty bit stands from the first to the last: a crash leaves no
 *           snapshot, and refcounts that are at most too high (SNAP-4).  A VM
 *           state is saved in between, so what a crash leaves of it is found,
 *           too.
 *           After a failure what has been raised is lowered again, and flags
 *           come back; if that fails, too, the dirty bit stays.
 * Locks     none but the gate: closed for the second phase, at least claimed
 *           for the others (edit.h).
 */
#include "config.h"

#include "edit/taking.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

static const char what[] = "the snapshot cannot be taken";

static int
fail_exists (const char *of, const struct qcow2_name *name,
             struct qcow2_error *err)
{
  char text[200];

  return q2_fail_advise (err, QCOW2_ERR_EXISTS, QCOW2_ADVICE_LIST_SNAPSHOTS,
                         QCOW2_NO_OFFSET, "there is a snapshot with the %s "
                         "'%s' already", of,
                         q2_printable (text, sizeof text, name->bytes,
                                       name->len));
}

/* ---- Begin ------------------------------------------------------------- */

static int
choose_id (struct q2_taking *c, struct qcow2_error *err)
{
  const struct qcow2_snapshot_options *const o = c->options;
  const struct q2_geometry *const geo = c->edit->w->geo;
  struct q2_snapshot found;
  size_t pos;

  if (o->unique_name && q2_snaptable_find (&c->table, geo, NULL, &o->name,
                                           &found, &pos))
    return fail_exists ("name", &o->name, err);
  if (o->id.len > 0) {
    if (q2_snaptable_find (&c->table, geo, &o->id, NULL, &found, &pos))
      return fail_exists ("id", &o->id, err);
    c->s.id = o->id.bytes;
    c->s.id_len = (uint16_t) o->id.len;
    return 0;
  }
  c->s.id = c->id;
  c->s.id_len = (uint16_t) q2_snaptable_next_id (&c->table, geo, c->id);
  return c->s.id_len > 0 ? 0
    : q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
               "%s: there is no number after the largest id; give an id",
               what);
}

/* Entries past the disk are of the VM state of a snapshot that was applied,
 * which this one does not have.
 */
static int
load (struct q2_taking *c, struct qcow2_error *err)
{
  const struct q2_header h = q2_image_header (c->edit->image);
  const struct qcow2_snapshot_options *const o = c->options;
  const uint64_t needed = c->edit->w->geo->l1_needed;
  const uint64_t nr = q2_min (h.l1_entries, needed);
  const uint64_t more = q2_taking_state_tables (c);
  /* QEMU has an L1 table of one entry even for an empty disk. */
  const uint64_t all = more > 0 ? needed + more : q2_max (nr, 1);

  c->s = (struct q2_snapshot) {
    .date_sec = o->date_sec, .date_nsec = o->date_nsec,
    .vm_clock_ns = o->vm_clock_ns, .icount = o->icount,
    .disk_size = h.virtual_size, .name = o->name.bytes,
    .name_len = (uint16_t) o->name.len,
  };
  if (q2_snaptable_load (&c->table, c->edit, err) == -1 ||
      choose_id (c, err) == -1 ||
      q2_snaptable_check_room (&c->table, &c->s, err) == -1 ||
      q2_tree_init (&c->tree, c->edit, all, err) == -1)
    return -1;
  c->tree.nr -= more;
  c->tree.nr_new = more;
  c->tree.tables.nr = nr;
  c->s.l1_entries = (uint32_t) all;
  return 0;
}

/* What the header is going to name has its space before writers have to copy
 * tables: if there is none they need not.
 */
static int
make_table (struct q2_taking *c, struct qcow2_error *err)
{
  if (c->options->vm_state != NULL)
    c->s.vm_state_size = c->options->vm_state->size;
  return q2_tree_alloc_l1 (&c->tree, Q2_META_INACTIVE_L1, &c->s.l1_offset, err)
    == -1 || q2_snaptable_add (&c->table, &c->s, err) == -1 ||
    q2_snaptable_write (&c->table, c->edit, &c->table_off, err) == -1
    ? -1 : 0;
}

int
q2_taking_begin (struct q2_taking *c, struct q2_edit *edit,
                 const struct qcow2_snapshot_options *options,
                 struct qcow2_error *err)
{
  *c = (struct q2_taking) {
    .edit = edit, .options = options,
    .progress = { .fn = options->progress,
                  .opaque = options->progress_opaque },
  };
  if (load (c, err) == -1 || make_table (c, err) == -1)
    return -1;
  c->was_miscounted = edit->w->miscounted;
  return q2_writer_mark_miscounted (edit->w, &edit->io, err);
}

/* ---- Capture ------------------------------------------------------------ */

void
q2_taking_capture (struct q2_taking *c)
{
  q2_check (!c->captured && q2_gate_is_closed (&c->edit->image->gate));
  q2_sharing_begin (c->edit->w, &c->tree.tables);
  c->captured = true;
}

/* ---- Propagate ---------------------------------------------------------- */

/* SNAP-4: the dirty bit is set. */
static int
propagate (struct q2_taking *c, struct qcow2_error *err)
{
  struct q2_edit *const e = c->edit;

  if (!q2_assume (c->captured && (e->w->miscounted || e->w->geo->version < 3),
                  err))
    return -1;
  c->progress.total = q2_tree_tables (&c->tree) + q2_taking_state_pieces (c);
  c->tree.progress = &c->progress;
  c->tree.state = "no snapshot was taken: it was cancelled";
  if (!c->tree.tables.settled && !Q2_PLANTED (Q2_PLANT_SHARE_UNSETTLED) &&
      q2_edit_commit (e, err) == -1)
    return -1;
  return q2_tree_share (&c->tree, err);
}

/* A VM state that was saved in vain is free, if no request keeps it from that;
 * else a crash leaves less than what is always allowed.
 */
static bool
is_released (struct q2_taking *c)
{
  struct q2_edit *const e = c->edit;
  uint64_t last = Q2_DRAIN_BEGIN;
  struct qcow2_error why;

  return c->options->vm_state == NULL ||
    (q2_writer_drain (e->w, &e->io, e->w->patience_ms, &last, &why) == 0 &&
     q2_edit_commit (e, &why) == 0);
}

static int
try_take_back (struct q2_taking *c, bool miscounted, struct qcow2_error *err)
{
  struct q2_edit *const e = c->edit;

  c->tree.progress = NULL;
  if (q2_edit_commit (e, err) == -1 ||
      q2_tree_lower (&c->tree, true, err) == -1 ||
      q2_edit_commit (e, err) == -1 || q2_tree_own (&c->tree, err) == -1 ||
      q2_edit_commit (e, err) == -1)
    return -1;
  return miscounted || c->was_miscounted || !is_released (c) ? 0
    : q2_writer_unmark_miscounted (e->w, &e->io, err);
}

/* No table is shared by a writer any more. */
static bool
end_sharing (struct q2_taking *c, bool published)
{
  bool miscounted = c->tree.miscounted;

  if (c->captured)
    miscounted |= q2_sharing_end (c->edit->w, published);
  c->captured = false;
  return miscounted;
}

void
q2_taking_undo (struct q2_taking *c)
{
  struct q2_edit *const e = c->edit;
  struct qcow2_error why;
  bool miscounted;

  if (!q2_check (!e->switched))
    return;
  miscounted = end_sharing (c, false);
  /* Before the image is no more marked. */
  q2_edit_take_back (e);
  if (try_take_back (c, miscounted, &why) == -1)
    q2_writer_log (e->w, QCOW2_LOG_WARNING, why.text, why.advice);
}

/* ---- Publish ----------------------------------------------------------- */

int
q2_taking_prepare (struct q2_taking *c, struct qcow2_error *err)
{
  if (propagate (c, err) == -1 ||
      (c->options->vm_state != NULL && q2_taking_save_state (c, err) == -1))
    return -1;
  return q2_tree_write_l1 (&c->tree, Q2_META_INACTIVE_L1, c->s.l1_offset, err);
}

int
q2_taking_edit_header (void *opaque, struct q2_header_parts *parts,
                       struct qcow2_error *err)
{
  const struct q2_taking *const c = opaque;

  /* SNAP-2, SNAP-3: all of it has been raised. */
  if (!q2_assume (c->table.nr > 0 && c->table_off != 0, err) ||
      !q2_assume (c->s.l1_offset != 0 && c->s.l1_entries ==
                  c->tree.nr + c->tree.nr_new, err) ||
      !q2_assume (c->tree.nr_shared == q2_tree_tables (&c->tree), err))
    return -1;
  parts->fields.nr_snapshots = c->table.nr;
  parts->fields.snapshots_offset = c->table_off;
  if (!c->was_miscounted && !q2_writer_is_lazy (c->edit->w))
    parts->fields.incompatible &= ~Q2_INCOMPAT_DIRTY;
  return 0;
}

void
q2_taking_finish (struct q2_taking *c)
{
  struct q2_edit *const e = c->edit;

  if (!q2_check (e->switched))
    return;
  if (!c->was_miscounted)
    e->w->miscounted = false;
  q2_tree_protect (&c->tree);
  (void) end_sharing (c, true);
  q2_edit_let_go_bytes (e, c->table.host_off, c->table.host_len);
}

/* ------------------------------------------------------------------------ */

int
q2_taking_check (const struct qcow2_image *image,
                 const struct qcow2_snapshot_options *o,
                 struct qcow2_error *err)
{
  if (o->name.len <= UINT16_MAX && o->id.len <= UINT16_MAX)
    return q2_snapshots_check_possible (image, what, err) == -1 ||
      (o->vm_state != NULL &&
       q2_taking_check_state (image, o->vm_state, err) == -1) ? -1 : 0;
  return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                  "%s: its name or id is longer than %u bytes", what,
                  UINT16_MAX);
}

void
q2_taking_free (struct q2_taking *c)
{
  /* It is not known which header the file has: nothing is written any more. */
  if (c->captured)
    (void) end_sharing (c, true);
  q2_tree_free (&c->tree);
  q2_snaptable_free (&c->table);
}
