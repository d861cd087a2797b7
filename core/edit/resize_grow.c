/* SPDX-License-Identifier: BSD-3-Clause */
/* resize_grow.c - makes the disk larger.
 *
 * Owns      what is behind the old end of the disk.
 * Method    there may be anything: the rest of the last cluster has what was
 *           in it before the disk was cut, or what a longer backing image has
 *           there; entries of tables may be left, from a larger disk or from a
 *           saved VM state.  None of it is the disk's yet, so it is cleared
 *           where it is:
 *
 *             L1   | of the disk       | behind         |
 *             L2          | used | rest  ^ dropped, as far as it exists
 *                                  ^ zeroed, in the tables of the old L1 table
 *
 *           An L1 table that is too short is copied to a longer one.  From
 *           then on the image works with a table of the new size: what the
 *           backing image has there is hidden by zeros, what is to be
 *           preallocated is.  None of that is named by the old header, which
 *           is why the old disk stays what it is until the switch.
 * Locks     the gate is closed.  Others may read meanwhile, inside the old
 *           disk (resize_live.c): link_lock while the table is replaced.
 */
#include "config.h"

#include "edit/resize.h"
#include "edit/trees.h"

#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <stdlib.h>

/* Zeroed at once, so that there is progress to tell. */
#define STEP (UINT64_C (4) << 30)

/* Where the L2 tables end that the old L1 table of the disk has. */
static uint64_t
old_reach (const struct q2_resize *r)
{
  return r->old_geo.l1_needed << r->old_geo.l1_shift;
}

static int
zero (struct q2_resize *r, uint64_t from, uint64_t to,
      struct qcow2_error *err)
{
  struct q2_edit *const e = &r->edit;

  while (from < to) {
    const uint64_t n = q2_min (to - from, STEP);

    if (q2_writer_zero (e->w, &e->io, n, from, QCOW2_ZERO_MAY_TRIM, err) == -1
        || q2_progress_add (&r->progress, n, Q2_RESIZE_CANCELLED, err) == -1)
      return -1;
    from += n;
  }
  return 0;
}

/* ---- In the old tables ------------------------------------------------ */

/* The disk as far as the old tables reach; its entries are written with them,
 * also those that the new tables take over.
 */
static void
extend (struct q2_resize *r)
{
  struct q2_geometry *const geo = &r->edit.image->geo;
  const uint64_t end = geo->data_file ? r->new_geo.virtual_size
    : q2_align_up (r->new_geo.virtual_size, geo->cluster_size);

  geo->virtual_size = q2_max (q2_min (end, old_reach (r)), geo->virtual_size);
}

/* Preallocate the part of the new range that lies in [from, to). */
static int
fill (struct q2_resize *r, uint64_t from, uint64_t to,
      struct qcow2_error *err)
{
  const uint64_t cluster = r->new_geo.cluster_size;

  from = q2_max (from, q2_align_up (r->old_geo.virtual_size, cluster));
  to = q2_min (to, q2_align_up (r->new_geo.virtual_size, cluster));
  return r->preallocation == QCOW2_PREALLOCATE_OFF || from >= to ? 0
    : q2_resize_fill (r, from, to, err);
}

static int
use_old_tables (struct q2_resize *r, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = &r->edit.image->geo;
  /* If it must equal the disk its bytes count, not the entries. */
  const bool raw = r->edit.w->store->raw;

  extend (r);
  if (zero (r, r->old_geo.virtual_size,
            raw ? r->zeroed : geo->virtual_size, err) == -1 ||
      fill (r, 0, old_reach (r), err) == -1)
    return -1;
  return q2_edit_commit (&r->edit, err);
}

/* ---- The new table ---------------------------------------------------- */

static int
write_l1 (struct q2_resize *r, struct qcow2_error *err)
{
  struct q2_edit *const e = &r->edit;
  const uint64_t nr = r->new_geo.l1_needed;
  unsigned char *const l1 = calloc (nr, 8);
  int result;

  if (l1 == NULL)
    return q2_fail_nomem (err, "the L1 table");
  for (uint64_t i = 0; i < r->old_geo.l1_needed; ++i)
    store_be64 (l1 + 8 * i, q2_tables_l1_entry (e->w->tables, i));
  result = q2_edit_alloc (e, nr * 8, Q2_META_L1, &r->l1_off, err);
  if (result == 0)
    result = q2_edit_write (e, l1, nr * 8, r->l1_off, Q2_META_L1, err);
  r->l1_entries = (uint32_t) nr;
  free (l1);
  return result;
}

static int
move_l1 (struct q2_resize *r, struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (r->edit.w);

  if (r->new_geo.l1_needed <= h.l1_entries)
    return 0;
  return q2_resize_note_old (r, h.l1_offset, (uint64_t) h.l1_entries * 8,
                             err) == -1 ? -1 : write_l1 (r, err);
}

/* The image works with an L1 table that is there, for a disk of that size. */
static int
use_table (struct q2_edit *e, const struct q2_geometry *geo, uint64_t l1_off,
           struct qcow2_error *err)
{
  int result;

  q2_mutex_lock (&e->w->link_lock);
  result = q2_tables_place (e->w->tables, l1_off, (uint32_t) geo->l1_needed,
                            e->image->cache_size, err);
  q2_mutex_unlock (&e->w->link_lock);
  if (result == -1)
    return -1;
  q2_geometry_resize (&e->image->geo, geo);
  q2_writer_forget_new_tables (e->w);
  return 0;
}

static int
use_new_table (struct q2_resize *r, struct qcow2_error *err)
{
  if (use_table (&r->edit, &r->new_geo, r->l1_off, err) == -1)
    return -1;
  r->placed = true;
  return 0;
}

/* The new part is taken back. */
static int
empty_new_part (struct q2_resize *r, struct qcow2_error *err)
{
  struct q2_edit *const e = &r->edit;
  const uint64_t first = r->old_geo.l1_needed;
  struct q2_trees t = { .nr = r->new_geo.l1_needed - first };
  int result;

  t.l1 = calloc (t.nr + 1, 8);
  if (t.l1 == NULL)
    return q2_fail_nomem (err, "the L1 table");
  result = q2_edit_commit (e, err);
  q2_mutex_lock (&e->w->link_lock);
  for (uint64_t i = 0; result == 0 && i < t.nr; ++i) {
    t.l1[i] = q2_tables_l1_entry (e->w->tables, first + i);
    if (t.l1[i] != 0)
      q2_tables_set_l1 (e->w->tables, first + i, 0);
  }
  q2_mutex_unlock (&e->w->link_lock);
  if (result == 0)
    result = q2_edit_commit (e, err);
  if (result == 0)
    result = q2_trees_let_go (e, &t, err);
  if (result == 0)
    result = q2_edit_commit (e, err);
  q2_trees_free (&t);
  return result;
}

/* What was allocated in the old tables is nobody's. */
static int
zero_again (struct q2_resize *r, struct qcow2_error *err)
{
  struct q2_edit *const e = &r->edit;
  const uint64_t from = r->old_geo.virtual_size;
  const uint64_t to = e->image->geo.virtual_size;

  if (e->w->store->raw || from == to ||
      q2_writer_check_usable (e->w, err) == -1)
    return 0;
  return q2_writer_zero (e->w, &e->io, to - from, from, QCOW2_ZERO_MAY_TRIM,
                         err);
}

static int
use_old_table (struct q2_resize *r, struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (r->edit.w);

  return empty_new_part (r, err) == -1 ? -1
    : use_table (&r->edit, &r->old_geo, h.l1_offset, err);
}

/* Give the image its old table again; what was allocated for the new one is
 * free, or leaked if that cannot be done.
 */
static void
go_back (struct q2_resize *r)
{
  struct q2_edit *const e = &r->edit;
  struct qcow2_error why;

  if (r->placed && use_old_table (r, &why) == -1) {
    q2_writer_log (e->w, QCOW2_LOG_DEBUG, why.text, why.advice);
    /* Changes of tables that nobody is to see must not be written. */
    q2_writer_become_failed (e->w);
  }
  extend (r);
  if (zero_again (r, &why) == -1)
    q2_writer_log (e->w, QCOW2_LOG_DEBUG, why.text, why.advice);
  q2_geometry_resize (&e->image->geo, &r->old_geo);
}

/* ---- The operation ---------------------------------------------------- */

/* Where the old L1 table has no tables. */
static int
fill_new_tables (struct q2_resize *r, struct qcow2_error *err)
{
  return r->ahead != NULL ? q2_resize_link_ahead (r, err)
    : fill (r, old_reach (r), UINT64_MAX, err);
}

static int
prepare (struct q2_resize *r, struct qcow2_error *err)
{
  const struct q2_store *const store = r->edit.w->store;
  const uint64_t size = r->new_geo.virtual_size;

  if (q2_trees_drop (&r->edit, r->old_geo.l1_needed, err) == -1 ||
      (r->old_geo.data_file && r->ahead == NULL &&
       q2_resize_grow_data (r, err) == -1) || use_old_tables (r, err) == -1 ||
      move_l1 (r, err) == -1 || use_new_table (r, err) == -1)
    return -1;
  if (!store->raw &&
      zero (r, old_reach (r), q2_min (size, store->below_size), err) == -1)
    return -1;
  return fill_new_tables (r, err) == -1 ? -1 : q2_resize_bitmaps (r, err);
}

int
q2_resize_grow (struct q2_resize *r, struct qcow2_error *err)
{
  if (r->edit.w->store->raw && r->preallocation == QCOW2_PREALLOCATE_OFF)
    r->preallocation = QCOW2_PREALLOCATE_METADATA;
  r->progress.total = r->new_geo.virtual_size - r->old_geo.virtual_size;
  if (prepare (r, err) == 0 && q2_resize_switch (r, err) == 0)
    return 0;
  if (!r->edit.switched)
    go_back (r);
  return -1;
}
