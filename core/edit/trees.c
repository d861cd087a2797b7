/* SPDX-License-Identifier: BSD-3-Clause */
/* trees.c - letting go of parts of the L1 table, with all below them.
 *
 * Owns      what becomes of L2 tables, and of the clusters that their entries
 *           refer to, when an L1 entry is given up as a whole.
 * Method    the entries are read and emptied; when that is durable each table
 *           is read from the file, where a commit has put all of it, and every
 *           cluster loses one reference.  Commits in between keep the list of
 *           them short.
 * Locks     the gate is closed; link_lock for each L1 entry of the disk.
 */
#include "config.h"

#include "edit/trees.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/plant.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- Reading ---------------------------------------------------------- */

int
q2_trees_read (const struct q2_edit *e, uint64_t first, uint64_t end,
               struct q2_trees *ret, struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (e->w);

  if (!q2_assume (end <= h.l1_entries, err))
    return -1;
  *ret = (struct q2_trees) { .nr = end > first ? end - first : 0 };
  if (ret->nr == 0)
    return 0;
  ret->l1 = malloc (ret->nr * 8);
  if (ret->l1 == NULL)
    return q2_fail_nomem (err, "the L1 table");
  if (q2_io_read (&e->io, ret->l1, ret->nr * 8, h.l1_offset + first * 8,
                  QCOW2_IO_L1, err) == -1) {
    q2_trees_free (ret);
    return -1;
  }
  for (uint64_t i = 0; i < ret->nr; ++i)
    ret->l1[i] = load_be64 (&ret->l1[i]);
  return 0;
}

void
q2_trees_free (struct q2_trees *t)
{
  free (t->l1);
  *t = (struct q2_trees) { .l1 = NULL };
}

bool
q2_trees_are_any (const struct q2_edit *e, const struct q2_trees *t)
{
  for (uint64_t i = 0; i < t->nr; ++i)
    if (q2_l1e_table (e->w->geo, t->l1[i]) != 0)
      return true;
  return false;
}

/* ---- Letting go ------------------------------------------------------- */

/* What an entry refers to is no metadata, unless the image is corrupt. */
static int
let_go_entry (struct q2_edit *e, const unsigned char *raw,
              struct qcow2_error *err)
{
  const struct q2_geometry *const geo = e->w->geo;
  struct q2_entry entry;
  uint64_t first, nr;

  q2_entry_load (geo, raw, &entry);
  nr = q2_entry_clusters (geo, &entry, &first);
  if (nr == 0)
    return 0;
  if (q2_io_check_in_file (&e->io, geo->cluster_size,
                           first << geo->cluster_bits, 1, err) == -1 ||
      q2_overlap_check (e->w->overlap, first << geo->cluster_bits,
                        nr << geo->cluster_bits, Q2_META_NONE, err) == -1)
    return -1;
  q2_edit_let_go (e, first, nr);
  return 0;
}

/* The table itself; one that a snapshot has, too, stays what it is. */
static int
let_go_table (struct q2_edit *e, uint64_t table, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = e->w->geo;
  const bool kept = q2_overlap_class (e->w->overlap, table) ==
    Q2_META_INACTIVE_L2;

  q2_edit_let_go (e, table >> geo->cluster_bits, 1);
  return kept ? q2_overlap_add (e->w->overlap, table, geo->cluster_size,
                                Q2_META_INACTIVE_L2, err) : 0;
}

static int
check_table (const struct q2_edit *e, uint64_t table, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = e->w->geo;

  if (!q2_is_aligned (table, geo->table_align))
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR, table,
                           "the L2 table at offset 0x%" PRIx64 " is not "
                           "aligned", table);
  return q2_io_check_in_file (&e->io, geo->cluster_size, table, 1, err);
}

static int
let_go_tree (struct q2_edit *e, uint64_t table, unsigned char *buf,
             struct qcow2_error *err)
{
  const struct q2_geometry *const geo = e->w->geo;

  if (check_table (e, table, err) == -1 ||
      q2_io_read (&e->io, buf, geo->l2_table_size, table, QCOW2_IO_L2, err)
      == -1)
    return -1;
  for (uint64_t i = 0; i >> geo->l2_bits == 0; ++i)
    if (let_go_entry (e, buf + (i << geo->entry_bits), err) == -1)
      return -1;
  return let_go_table (e, table, err);
}

int
q2_trees_let_go (struct q2_edit *e, const struct q2_trees *t,
                 struct qcow2_error *err)
{
  const struct q2_geometry *const geo = e->w->geo;
  unsigned char *buf;
  int r = 0;

  if (!q2_trees_are_any (e, t))
    return 0;
  buf = q2_buffer_alloc (geo->l2_table_size);
  if (buf == NULL)
    return q2_fail_nomem (err, "an L2 table");
  for (uint64_t i = 0; r == 0 && i < t->nr; ++i) {
    const uint64_t table = q2_l1e_table (geo, t->l1[i]);

    if (table != 0)
      r = let_go_tree (e, table, buf, err);
    if (r == 0 && q2_writer_is_pressed (e->w))
      r = q2_edit_commit (e, err);
  }
  q2_buffer_free (buf, geo->l2_table_size);
  return r;
}

/* ---- Dropping --------------------------------------------------------- */

/* Entries behind those of the disk, which may be a saved VM state's, are not
 * in memory.
 */
static int
empty_behind (struct q2_edit *e, uint64_t first, const struct q2_trees *t,
              struct qcow2_error *err)
{
  const uint64_t from = q2_max (first, e->w->geo->l1_needed);
  const uint64_t nr = first + t->nr > from ? first + t->nr - from : 0;
  unsigned char *zeros;
  int r;

  if (!q2_assume (from + nr <= q2_max (from, q2_writer_header (e->w).
                                       l1_entries), err))
    return -1;
  if (nr == 0)
    return 0;
  zeros = calloc (nr, 8);
  if (zeros == NULL)
    return q2_fail_nomem (err, "the L1 table");
  r = q2_edit_write (e, zeros, nr * 8, q2_writer_header (e->w).l1_offset +
                     from * 8, Q2_META_L1, err);
  free (zeros);
  return r;
}

static void
empty_entries (struct q2_edit *e, uint64_t first)
{
  struct q2_writer *const w = e->w;

  q2_mutex_lock (&w->link_lock);
  for (uint64_t i = first; i < w->geo->l1_needed; ++i)
    if (q2_tables_l1_entry (w->tables, i) != 0)
      q2_tables_set_l1 (w->tables, i, 0);
  q2_mutex_unlock (&w->link_lock);
}

int
q2_trees_drop (struct q2_edit *e, uint64_t first, struct qcow2_error *err)
{
  struct q2_trees t;
  int r = 0;

  if (q2_edit_commit (e, err) == -1 ||
      q2_trees_read (e, first, q2_writer_header (e->w).l1_entries, &t, err)
      == -1)
    return -1;
  if (q2_trees_are_any (e, &t)) {
    if (Q2_PLANTED (Q2_PLANT_DROP_EARLY))
      r = q2_trees_let_go (e, &t, err) == 0 ? q2_edit_commit (e, err) : -1;
    if (r == 0)
      r = empty_behind (e, first, &t, err);
    if (r == 0) {
      empty_entries (e, first);
      r = q2_edit_commit (e, err);
    }
    if (r == 0 && !Q2_PLANTED (Q2_PLANT_DROP_EARLY))
      r = q2_trees_let_go (e, &t, err);
    if (r == 0)
      r = q2_edit_commit (e, err);
  }
  q2_trees_free (&t);
  return r;
}
