/* SPDX-License-Identifier: BSD-3-Clause */
/* tree.c - all that an L1 table refers to: more or fewer references to it.
 *
 * Owns      adding references, and what the tables are taken for then.
 * Method    L2 tables are read in pieces.  Of each piece the clusters are
 *           listed first, so that an entry that cannot be fails before any
 *           reference of its piece has changed.  A table is lowered after what
 *           it refers to: when nobody has it any more its bytes are gone.
 * Locks     the gate is closed, or, where others write, sharing.lock.
 */
#include "config.h"

#include "edit/tree_impl.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

/* ---- The L1 table ------------------------------------------------------ */

int
q2_tree_alloc_l1 (struct q2_tree *t, enum q2_meta_class class,
                  uint64_t *ret_host_off, struct qcow2_error *err)
{
  return q2_edit_alloc (t->edit, (t->nr + t->nr_new) * 8, class, ret_host_off,
                        err);
}

int
q2_tree_write_l1 (struct q2_tree *t, enum q2_meta_class class,
                  uint64_t host_off, struct qcow2_error *err)
{
  const uint64_t per_piece = Q2_TREE_PIECE / 8;
  const uint64_t all = t->nr + t->nr_new;

  for (uint64_t i = 0; i < all; i += per_piece) {
    const uint64_t n = q2_min (all - i, per_piece);

    for (uint64_t k = 0; k < n; ++k)
      store_be64 (t->buf + 8 * k, q2_tree_table (t, i + k));
    if (q2_edit_write (t->edit, t->buf, 8 * n, host_off + 8 * i, class, err)
        == -1)
      return -1;
  }
  return 0;
}

/* ---- More -------------------------------------------------------------- */

static int
raise_piece (struct q2_tree *t, uint64_t host_off, uint64_t len,
             uint64_t *left, struct qcow2_error *err)
{
  struct q2_edit *const e = t->edit;

  (void) left;
  if (q2_sharing_list (e->w->geo, t->buf, len, host_off, &t->runs, err) == -1)
    return -1;
  for (size_t i = 0; i < t->runs.nr; ++i)
    if (q2_sharing_raise (e->w, &e->io, NULL, t->runs.runs[i], &t->raised, err)
        == -1)
      return -1;
  return 0;
}

/* All of it, or nothing. */
static int
raise_table (struct q2_tree *t, uint64_t table, struct qcow2_error *err)
{
  struct q2_edit *const e = t->edit;
  const struct q2_free_run run = { table >> e->w->geo->cluster_bits, 1 };
  uint64_t all = UINT64_MAX;
  struct qcow2_error why;

  t->raised = 0;
  if (q2_tree_walk (t, table, raise_piece, &all, err) == 0 &&
      q2_sharing_raise (e->w, &e->io, NULL, run, &t->raised, err) == 0)
    return 0;
  if (t->raised > 0 && q2_tree_take_back (t, table, t->raised, &why) == -1)
    t->miscounted = true;
  return -1;
}

static int
clear_piece (struct q2_tree *t, uint64_t host_off, uint64_t len,
             uint64_t *left, struct qcow2_error *err)
{
  struct q2_tree_flags c = { 0, 0 };

  (void) left;
  for (uint64_t i = 0; i < len; i += q2_entry_size (t->edit->w->geo))
    if (load_be64 (t->buf + i) & Q2_ENTRY_COPIED)
      q2_tree_set_flag (t, i, false, &c);
  return q2_tree_write_flags (t, host_off, &c, err);
}

/* 'in_buf': the table was read last. */
static int
clear_flags (struct q2_tree *t, uint64_t table, bool in_buf,
             struct qcow2_error *err)
{
  const uint64_t size = t->edit->w->geo->l2_table_size;
  uint64_t all = UINT64_MAX;

  if (Q2_PLANTED (Q2_PLANT_KEEP_COPIED))
    return 0;
  return in_buf && size <= Q2_TREE_PIECE
    ? clear_piece (t, table, size, &all, err)
    : q2_tree_walk (t, table, clear_piece, &all, err);
}

/* The table is shared from now on; it is a snapshot's when that is published.
 * Until then it may be let go as often as its refcount says.
 */
static void
share_class (struct q2_tree *t, uint64_t table)
{
  struct q2_overlap *const overlap = t->edit->w->overlap;

  if (q2_overlap_class (overlap, table) == Q2_META_L2)
    q2_overlap_turn (overlap, table, Q2_META_SHARED_L2);
}

int
q2_tree_raise (struct q2_tree *t, struct qcow2_error *err)
{
  /* Tables are changed past the cache: see tree.h. */
  if (!q2_assume (!t->edit->switched && t->nr_shared == 0, err) ||
      !q2_assume (q2_tables_nr_dirty (t->edit->w->tables) == 0, err))
    return -1;
  for (uint64_t i = 0; i < t->nr; ++i) {
    const uint64_t table = q2_tree_table (t, i);

    if (table == 0)
      continue;
    if (raise_table (t, table, err) == -1)
      return -1;
    q2_shared_tables_note (&t->tables, i);
    t->nr_shared++;
    share_class (t, table);
    if (clear_flags (t, table, true, err) == -1 || q2_tree_tell (t, err) == -1)
      return -1;
  }
  return 0;
}

/* Not with the lock: others may do the same with it. */
static int
share_table (struct q2_tree *t, uint64_t i, struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;
  const uint64_t table = q2_tree_table (t, i);
  bool todo;
  int r = 0;

  if (q2_sharing_lock (w, i, &todo, err) == -1)
    return -1;
  if (todo) {
    r = raise_table (t, table, err);
    q2_sharing_done (w, i, r, t->miscounted, err);
  }
  q2_sharing_unlock (w);
  if (r == -1)
    return -1;
  t->nr_shared++;
  if (clear_flags (t, table, todo, err) == 0)
    return 0;
  /* What could not be written may reach the file later, when this could be
   * something else.
   */
  t->doubtful = table;
  t->miscounted = true;
  return -1;
}

/* No commit writes to any of them: all that they had is in the file.  If a
 * writer could not share one the disk has that back, and writes to it.
 */
static int
share_classes (struct q2_tree *t, struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;
  bool ignored;

  if (q2_sharing_lock (w, 0, &ignored, err) == -1)
    return -1;
  for (uint64_t i = 0; i < t->tables.nr; ++i)
    if (q2_tree_table (t, i) != 0)
      share_class (t, q2_tree_table (t, i));
  q2_sharing_unlock (w);
  return 0;
}

int
q2_tree_share (struct q2_tree *t, struct qcow2_error *err)
{
  struct q2_pace pace;

  q2_pace_begin (&pace, &t->edit->image->gate);
  if (!q2_assume (!t->edit->switched && t->nr_shared == 0, err) ||
      share_classes (t, err) == -1)
    return -1;
  for (uint64_t i = 0; i < t->tables.nr; ++i) {
    if (q2_tree_table (t, i) == 0)
      continue;
    if (share_table (t, i, err) == -1 || q2_tree_tell (t, err) == -1 ||
        q2_tree_rest (t, &pace, err) == -1)
      return -1;
  }
  return 0;
}

void
q2_tree_protect (struct q2_tree *t)
{
  for (uint64_t i = 0; i < t->nr; ++i)
    if (q2_tree_table (t, i) != 0)
      q2_overlap_turn (t->edit->w->overlap, q2_tree_table (t, i),
                       Q2_META_INACTIVE_L2);
}
