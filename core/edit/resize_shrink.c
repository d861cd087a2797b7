/* SPDX-License-Identifier: BSD-3-Clause */
/* resize_shrink.c - makes the disk smaller.
 *
 * Owns      what was behind the new end of the disk.
 * Method    the header is switched first, and nothing is lost before that.
 *           Then the rest of the last cluster is zeroed, so that whoever makes
 *           the disk larger again has zeros there; entries of its table are
 *           emptied, and tables behind it are let go as a whole.  The image
 *           still works with its old geometry for this.
 * Locks     none: see resize.c.
 */
#include "config.h"

#include "edit/new_refcounts.h"
#include "edit/resize.h"
#include "edit/trees.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/plant.h"

/* Empty the entries of the clusters, all in one slice of a table. */
static int
empty_entries (struct q2_change *c, uint64_t cluster, uint64_t max,
               uint64_t *ret_nr, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  unsigned char raw[Q2_MAX_ENTRIES * 8] = { 0 };
  struct q2_entry e[Q2_MAX_ENTRIES];
  bool let_go[Q2_MAX_ENTRIES], owned, any = false;
  struct q2_link link = {
    .guest_cluster = cluster, .raw = raw, .old = e, .let_go = let_go,
  };

  if (q2_writer_load (c, cluster, max, e, &link.nr, &owned, err) == -1)
    return -1;
  *ret_nr = link.nr;
  for (uint64_t i = 0; i < link.nr; ++i) {
    let_go[i] = e[i].m.placed || e[i].m.kind == Q2_CLUSTER_COMPRESSED;
    any |= let_go[i] || e[i].alloc != 0 || e[i].zero != 0;
  }
  if (!any)
    return 0;
  if (q2_writer_own_table (c, cluster >> geo->l2_bits, err) == -1)
    return -1;
  return q2_writer_link (c, &link, err);
}

/* The entries of the last table that are behind the end. */
static int
empty_last_table (struct q2_resize *r, struct qcow2_error *err)
{
  struct q2_writer *const w = r->edit.w;
  const unsigned bits = w->geo->cluster_bits;
  const uint64_t end = r->new_geo.l1_needed << w->geo->l2_bits;
  struct q2_change c = { .w = w, .io = &r->edit.io };
  uint64_t at = q2_ceil_shift (r->new_geo.virtual_size, bits);

  if (at >= end ||
      q2_tables_l1_is_empty (w->tables, r->new_geo.l1_needed - 1))
    return 0;
  while (at < end) {
    uint64_t nr = 0;
    int result;

    if (q2_writer_is_pressed (w) && q2_edit_commit (&r->edit, err) == -1)
      return -1;
    q2_change_enter (&c);
    result = empty_entries (&c, at, q2_min (end - at, Q2_MAX_ENTRIES), &nr,
                            err);
    q2_change_leave (&c);
    if (result == -1)
      return -1;
    at += nr;
  }
  return 0;
}

/* The rest of the last cluster.  Without an entry it has nothing of its own,
 * and is left to the backing image.
 */
static int
zero_rest (struct q2_resize *r, struct qcow2_error *err)
{
  struct q2_edit *const e = &r->edit;
  const uint64_t from = r->new_geo.virtual_size;
  const uint64_t to = q2_min (q2_align_up (from, r->old_geo.cluster_size),
                              r->old_geo.virtual_size);
  const uint64_t cluster = from >> r->old_geo.cluster_bits;
  struct q2_change c = { .w = e->w, .io = &e->io };
  struct q2_entry entry;
  uint64_t nr;
  bool owned;
  int result;

  if (from >= to)
    return 0;
  q2_change_enter (&c);
  result = q2_writer_load (&c, cluster, 1, &entry, &nr, &owned, err);
  q2_change_leave (&c);
  if (result == -1)
    return -1;
  if (entry.alloc == 0 && !e->w->store->raw)
    return 0;
  return q2_writer_zero (e->w, &e->io, to - from, from, QCOW2_ZERO_MAY_TRIM,
                         err);
}

/* Where that is not possible, what is in it belongs to no disk. */
static void
cut_data_file (struct q2_resize *r)
{
  const struct qcow2_io *const data = r->edit.w->store->data;

  if (data != NULL && data->ops->shorten != NULL &&
      data->ops->shorten (data->opaque, r->new_geo.virtual_size) != 0)
    q2_writer_log (r->edit.w, QCOW2_LOG_WARNING, "the data file was not cut "
                   "to the new size of the disk", QCOW2_ADVICE_NONE);
}

/* ---- Refcounts -------------------------------------------------------- */

static int
name_refcounts (void *opaque, struct q2_header_parts *parts,
                struct qcow2_error *err)
{
  (void) err;
  q2_new_refcounts_set (opaque, parts);
  return 0;
}

/* A block lies among the clusters that it counts, so those of the part that is
 * free now keep the file long, or take room on a device.  They count nothing
 * but themselves, so new refcounts do without them, and the table can be
 * shorter.  Nothing is lost if that cannot be changed.
 */
static void
move_refcounts (struct q2_resize *r)
{
  struct q2_edit *const e = &r->edit;
  struct q2_progress none = { .fn = NULL };
  struct q2_new_refcounts n = {
    .edit = e, .order = e->w->geo->refcount_order, .only_fewer = true,
    .progress = &none, .cancelled = Q2_RESIZE_CANCELLED,
  };
  struct qcow2_error why;

  q2_edit_keep (e);
  if (q2_new_refcounts_make (&n, &why) == -1 ||
      (n.table_off != 0 &&
       q2_edit_switch (e, name_refcounts, &n, 0, &why) == -1)) {
    q2_writer_log (e->w, QCOW2_LOG_DEBUG, why.text, why.advice);
    if (q2_writer_check_usable (e->w, &why) == 0)
      q2_edit_take_back (e);
    return;
  }
  r->end = n.end;
}

/* ---- The operation ---------------------------------------------------- */

static int
let_go (struct q2_resize *r, struct qcow2_error *err)
{
  if (zero_rest (r, err) == -1 || empty_last_table (r, err) == -1 ||
      q2_trees_drop (&r->edit, r->new_geo.l1_needed, err) == -1)
    return -1;
  cut_data_file (r);
  move_refcounts (r);
  return 0;
}

int
q2_resize_shrink (struct q2_resize *r, struct qcow2_error *err)
{
  if (q2_resize_bitmaps (r, err) == -1 ||
      (Q2_PLANTED (Q2_PLANT_CUT_EARLY) && let_go (r, err) == -1) ||
      q2_resize_switch (r, err) == -1)
    return -1;
  return let_go (r, err);
}
