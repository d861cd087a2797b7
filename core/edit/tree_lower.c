/* SPDX-License-Identifier: BSD-3-Clause */
/* tree_lower.c - fewer references to all that an L1 table refers to.
 *
 * Owns      taking references away, and finding out what is alone then.
 * Method    clusters are released at once, not with a commit: nothing durable
 *           refers to them, and no request that could use them is left, so a
 *           request that takes long does not keep refcounts from being right
 *           when flags are set.
 * Locks     the gate is closed.  link_lock for L1 entries of the disk.
 */
#include "config.h"

#include "edit/tree_impl.h"

#include "base/assume.h"
#include "base/error.h"

/* ---- Fewer ------------------------------------------------------------- */

/* So many runs are lowered together: neighbours that are found one after the
 * other, such as a table and its clusters, are given back to the host as one.
 */
#define MAX_PENDING 4096

/* What was decompressed of clusters that are going to be somebody else's. */
static int
forget_decompressed (struct q2_tree *t, struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;
  struct q2_frees clusters;

  if (q2_clusters_is_empty (w->reader->clusters))
    return 0;
  if (!q2_frees_union (&t->pending, &clusters))
    return q2_fail_nomem (err, "a list of clusters");
  q2_clusters_drop (w->reader->clusters, &clusters, w->geo->cluster_bits);
  q2_frees_destroy (&clusters);
  return 0;
}

static int
lower_pending (struct q2_tree *t, struct qcow2_error *err)
{
  struct q2_edit *const e = t->edit;
  const bool trim = !e->w->keep_snapshot_space;
  int r;

  q2_frees_sort (&t->pending);
  if (forget_decompressed (t, err) == -1)
    return -1;
  while ((r = q2_space_release (e->w->space, &e->io, &t->pending, trim, err))
         == Q2_SPACE_COMMIT_FIRST)
    if (q2_edit_commit (e, err) == -1)
      return -1;
  return r == 0 && !q2_assume (t->pending.nr == 0, err) ? -1 : r;
}

/* Those of t->runs. */
static int
lower_runs (struct q2_tree *t, struct qcow2_error *err)
{
  if (!q2_frees_reserve (&t->pending, t->runs.nr))
    return q2_fail_nomem (err, "a list of clusters");
  for (size_t i = 0; i < t->runs.nr; ++i)
    q2_frees_add (&t->pending, t->runs.runs[i].cluster, t->runs.runs[i].nr);
  return t->pending.nr > MAX_PENDING ? lower_pending (t, err) : 0;
}

static int
lower_piece (struct q2_tree *t, uint64_t host_off, uint64_t len,
             uint64_t *left, struct qcow2_error *err)
{
  if (q2_sharing_list (t->edit->w->geo, t->buf, len, host_off, &t->runs, err)
      == -1)
    return -1;
  q2_frees_cut (&t->runs, left);
  return lower_runs (t, err);
}

static int
get_refcount (struct q2_tree *t, uint64_t cluster, uint64_t *ret,
              struct qcow2_error *err)
{
  struct q2_edit *const e = t->edit;
  int r;

  while ((r = q2_space_get (e->w->space, &e->io, cluster, ret, err)) ==
         Q2_SPACE_COMMIT_FIRST)
    if (q2_edit_commit (e, err) == -1)
      return -1;
  return r;
}

/* Clusters of a table, which is none any more if it is nobody else's.  Else it
 * need not be a snapshot's any more: see q2_tree_own.
 */
static int
lower_table (struct q2_tree *t, uint64_t cluster, uint64_t nr,
             struct qcow2_error *err)
{
  const unsigned bits = t->edit->w->geo->cluster_bits;
  struct q2_overlap *const overlap = t->edit->w->overlap;
  uint64_t refcount;

  if (get_refcount (t, cluster, &refcount, err) == -1)
    return -1;
  if (refcount == 1)
    q2_overlap_remove (overlap, cluster << bits, nr << bits);
  else if (q2_overlap_class (overlap, cluster << bits) == Q2_META_INACTIVE_L2)
    q2_overlap_turn (overlap, cluster << bits, Q2_META_SHARED_L2);
  t->runs.nr = 0;
  if (!q2_frees_reserve (&t->runs, 1))
    return q2_fail_nomem (err, "a list of clusters");
  q2_frees_add (&t->runs, cluster, nr);
  return lower_runs (t, err);
}

int
q2_tree_lower (struct q2_tree *t, bool only_shared, struct qcow2_error *err)
{
  const unsigned bits = t->edit->w->geo->cluster_bits;
  uint64_t all = UINT64_MAX;

  for (uint64_t i = 0; i < t->nr; ++i) {
    const uint64_t table = q2_tree_table (t, i);

    if (table == 0 || (only_shared && !q2_shared_tables_has (&t->tables, i)))
      continue;
    if (q2_tree_walk (t, table, lower_piece, &all, err) == -1 ||
        lower_table (t, table >> bits, 1, err) == -1 ||
        q2_tree_tell (t, err) == -1)
      return -1;
  }
  return lower_pending (t, err);
}

/* The walk is the same as that which raised them. */
int
q2_tree_take_back (struct q2_tree *t, uint64_t table, uint64_t references,
                   struct qcow2_error *err)
{
  uint64_t left = references;

  if (q2_tree_walk (t, table, lower_piece, &left, err) == -1 ||
      !q2_assume (left == 0, err))
    return -1;
  return lower_pending (t, err);
}

int
q2_tree_lower_l1 (struct q2_tree *t, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = t->edit->w->geo;
  const uint64_t bytes = q2_align_up (t->stored * 8, geo->cluster_size);

  if (bytes == 0)
    return 0;
  return lower_table (t, t->host_off >> geo->cluster_bits,
                      bytes >> geo->cluster_bits, err) == -1 ? -1
    : lower_pending (t, err);
}

/* ---- Alone again ------------------------------------------------------- */

static int
own_piece (struct q2_tree *t, uint64_t host_off, uint64_t len, uint64_t *left,
           struct qcow2_error *err)
{
  const struct q2_geometry *const geo = t->edit->w->geo;
  struct q2_tree_flags c = { 0, 0 };

  (void) left;
  for (uint64_t i = 0; i < len; i += q2_entry_size (geo)) {
    struct q2_entry e;
    uint64_t refcount;

    q2_entry_load (geo, t->buf + i, &e);
    if (e.copied || !e.m.placed || e.m.kind == Q2_CLUSTER_COMPRESSED ||
        e.m.kind == Q2_CLUSTER_INVALID)
      continue;
    if (get_refcount (t, e.m.host_off >> geo->cluster_bits, &refcount, err)
        == -1)
      return -1;
    if (refcount == 1)
      q2_tree_set_flag (t, i, true, &c);
  }
  return q2_tree_write_flags (t, host_off, &c, err);
}

/* Entries past the disk are those of a VM state, and in the file only. */
static int
get_entry (struct q2_tree *t, uint64_t i, uint64_t *ret,
           struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;
  const struct q2_header *const h = q2_writer_header (w);
  unsigned char raw[8] = { 0 };

  if (i < w->geo->l1_needed) {
    *ret = q2_tables_l1_entry (w->tables, i);
    return 0;
  }
  if (i < h->l1_entries &&
      q2_io_read (&t->edit->io, raw, 8, h->l1_offset + 8 * i, QCOW2_IO_L1,
                  err) == -1)
    return -1;
  *ret = load_be64 (raw);
  return 0;
}

static int
set_entry (struct q2_tree *t, uint64_t i, uint64_t entry,
           struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;
  unsigned char raw[8];

  if (i >= w->geo->l1_needed) {
    store_be64 (raw, entry);
    return q2_edit_write (t->edit, raw, 8, q2_writer_header (w)->l1_offset +
                          8 * i, Q2_META_L1, err);
  }
  q2_mutex_lock (&w->link_lock);
  q2_tables_set_l1 (w->tables, i, entry);
  q2_mutex_unlock (&w->link_lock);
  return 0;
}

/* A table that the disk writes to is all in the file: see write/metadata.c. */
static int
own_table (struct q2_tree *t, uint64_t i, uint64_t entry,
           struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;
  const uint64_t table = q2_l1e_table (w->geo, entry);
  uint64_t all = UINT64_MAX;

  if (!q2_assume (table != 0 && t->pending.nr == 0, err))
    return -1;
  if (q2_tree_walk (t, table, own_piece, &all, err) == -1 ||
      q2_io_grow (&t->edit->io, table + w->geo->cluster_size, err) == -1)
    return -1;
  q2_overlap_turn (w->overlap, table, Q2_META_L2);
  return entry & Q2_ENTRY_COPIED ? 0
    : set_entry (t, i, entry | Q2_ENTRY_COPIED, err);
}

/* The disk's table of that entry is the disk's alone, or else a snapshot's. */
static int
own_entry (struct q2_tree *t, uint64_t i, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = t->edit->w->geo;
  uint64_t entry, table, refcount = 0;

  if (get_entry (t, i, &entry, err) == -1)
    return -1;
  table = q2_l1e_table (geo, entry);
  if (table != 0 &&
      get_refcount (t, table >> geo->cluster_bits, &refcount, err) == -1)
    return -1;
  return refcount == 1 ? own_table (t, i, entry, err) : 0;
}

int
q2_tree_own (struct q2_tree *t, struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;

  for (uint64_t i = 0; i < t->nr; ++i) {
    const uint64_t table = q2_tree_table (t, i);

    if (table == 0)
      continue;
    /* If anybody has it: it was unprotected if nobody does. */
    if (q2_overlap_class (w->overlap, table) == Q2_META_SHARED_L2)
      q2_overlap_turn (w->overlap, table, Q2_META_INACTIVE_L2);
    if (own_entry (t, i, err) == -1)
      return -1;
  }
  return 0;
}
