/* SPDX-License-Identifier: BSD-3-Clause */
/* tree_lower.c - fewer references to all that an L1 table refers to.
 *
 * Owns      taking references away, and finding out what is alone then.
 * Method    clusters are released at once, not with a commit: nothing durable
 *           refers to them for this reason, and no request that could use them
 *           for it is left, so a request that takes long does not keep
 *           refcounts from being right when flags are set.  If the disk refers
 *           to them, too, or has until now, they have one reference more until
 *           it has let go of them in the usual way.
 *           A table of the disk that is not its own to change is constant, as
 *           long as its L1 entry is held; if it is alone its flags are set in
 *           the file.  In one that is its own they are set as by a request.
 * Locks     none, the gate is claimed at least; w->l1 and the clusters, as
 *           requests, where flags are set.
 */
#include "config.h"

#include "edit/tree_impl.h"

#include "base/assume.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/plant.h"

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

  return Q2_PLANTED (Q2_PLANT_KEEP_DECOMPRESSED) ? 0
    : q2_clusters_forget (w->reader->clusters, &t->pending,
                          w->geo->cluster_bits, err);
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
  enum q2_meta_class class;
  uint64_t refcount;

  if (get_refcount (t, cluster, &refcount, err) == -1)
    return -1;
  class = q2_overlap_class (overlap, cluster << bits);
  if (refcount == 1)
    q2_overlap_remove (overlap, cluster << bits, nr << bits);
  else if (class == Q2_META_INACTIVE_L2 || class == Q2_META_L2)
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
  struct q2_pace pace;

  q2_pace_begin (&pace, &t->edit->image->gate);
  for (uint64_t i = 0; i < t->nr; ++i) {
    const uint64_t table = q2_tree_table (t, i);

    if (table == 0 || table == t->doubtful ||
        (only_shared && !q2_shared_tables_has (&t->tables, i)))
      continue;
    if (q2_tree_walk (t, table, lower_piece, &all, err) == -1 ||
        lower_table (t, table >> bits, 1, err) == -1 ||
        q2_tree_tell (t, err) == -1 || q2_tree_rest (t, &pace, err) == -1)
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
    if (!q2_owning_may (&e))
      continue;
    if (q2_owning_get (t->owning, e.m.host_off >> geo->cluster_bits, &refcount,
                       err) == -1)
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
  const struct q2_header h = q2_writer_header (w);
  unsigned char raw[8] = { 0 };

  if (i < w->geo->l1_needed) {
    *ret = q2_tables_l1_entry (w->tables, i);
    return 0;
  }
  if (i < h.l1_entries &&
      q2_io_read (&t->edit->io, raw, 8, h.l1_offset + 8 * i, QCOW2_IO_L1,
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
    return q2_edit_write (t->edit, raw, 8, q2_writer_header (w).l1_offset +
                          8 * i, Q2_META_L1, err);
  }
  q2_mutex_lock (&w->link_lock);
  q2_tables_set_l1 (w->tables, i, entry);
  q2_mutex_unlock (&w->link_lock);
  return 0;
}

/* A table that the disk writes to is all in the file: see write/metadata.c. */
static int
own_constant (struct q2_tree *t, uint64_t i, uint64_t entry,
              struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;
  const uint64_t table = q2_l1e_table (w->geo, entry);
  uint64_t all = UINT64_MAX;

  if (!q2_assume (table != 0 && t->pending.nr == 0, err) ||
      q2_tree_walk (t, table, own_piece, &all, err) == -1 ||
      q2_io_grow (&t->edit->io, table + w->geo->cluster_size, err) == -1)
    return -1;
  q2_overlap_turn (w->overlap, table, Q2_META_L2);
  return entry & Q2_ENTRY_COPIED ? 0
    : set_entry (t, i, entry | Q2_ENTRY_COPIED, err);
}

/* Others let go of this table in their own time: it is a snapshot's for
 * certain only if two have it, of which the disk is one at most.
 */
static int
protect_table (struct q2_tree *t, uint64_t table, struct qcow2_error *err)
{
  struct q2_overlap *const overlap = t->edit->w->overlap;
  uint64_t refcount;

  if (q2_overlap_class (overlap, table) != Q2_META_SHARED_L2)
    return 0;
  if (get_refcount (t, table >> t->edit->w->geo->cluster_bits, &refcount, err)
      == -1)
    return -1;
  if (refcount > 1)
    q2_overlap_turn (overlap, table, Q2_META_INACTIVE_L2);
  return 0;
}

/* The L1 entry is held, if it is the disk's.  *ret_own: its table is the
 * disk's own already, so requests may be changing it.
 */
static int
own_held (struct q2_tree *t, uint64_t i, bool *ret_own,
          struct qcow2_error *err)
{
  const struct q2_geometry *const geo = t->edit->w->geo;
  uint64_t entry, table, refcount = 0;

  *ret_own = false;
  if (get_entry (t, i, &entry, err) == -1)
    return -1;
  table = q2_l1e_table (geo, entry);
  if (table != 0 && i < geo->l1_needed && (entry & Q2_ENTRY_COPIED))
    *ret_own = true;
  else if (table != 0 &&
           (get_refcount (t, table >> geo->cluster_bits, &refcount, err) == -1
            || (refcount == 1 && own_constant (t, i, entry, err) == -1)))
    return -1;
  return protect_table (t, q2_tree_table (t, i), err);
}

/* The first run of entries from 'from' on that are no corrupt ones, of which
 * one could become COPIED; false: there is none before 'end'.
 */
static bool
find_candidates (const struct q2_geometry *geo, const unsigned char *raw,
                 uint64_t from, uint64_t end, uint64_t *ret_first,
                 uint64_t *ret_nr)
{
  bool any = false;
  uint64_t i;

  *ret_first = from;
  for (i = from; i < end; ++i) {
    struct q2_entry e;

    q2_entry_load (geo, raw + (i << geo->entry_bits), &e);
    any |= q2_owning_may (&e);
    if (e.m.kind == Q2_CLUSTER_INVALID && any)
      break;
    if (e.m.kind == Q2_CLUSTER_INVALID)
      *ret_first = i + 1;
  }
  *ret_nr = i - *ret_first;
  return any;
}

static int
own_some (struct q2_tree *t, uint64_t guest_cluster, const unsigned char *raw,
          uint64_t nr, struct qcow2_error *err)
{
  uint64_t at = 0, first, n;

  while (at < nr && find_candidates (t->edit->w->geo, raw, at, nr, &first, &n))
  {
    if (q2_owning_entries (t->owning, guest_cluster + first, n, err) == -1)
      return -1;
    at = first + n;
  }
  return 0;
}

/* A table that is the disk's own; 'raw' has room for it. */
static int
own_changing (struct q2_tree *t, uint64_t l1_index, unsigned char *raw,
              struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;
  const struct q2_geometry *const geo = w->geo;
  const uint64_t entries = UINT64_C (1) << geo->l2_bits;
  const uint64_t step = q2_min (q2_tables_slice_entries (w->tables),
                                Q2_MAX_ENTRIES * 8 >> geo->entry_bits);
  struct q2_change c = { .w = w, .io = &t->edit->io };
  int r;

  q2_change_enter (&c);
  r = q2_writer_read_table (&c, l1_index, raw, err);
  q2_change_leave (&c);
  for (uint64_t k = 0; r == 0 && k < entries; k += step)
    r = own_some (t, (l1_index << geo->l2_bits) + k,
                  raw + (k << geo->entry_bits), step, err);
  if (r == 0 && q2_writer_is_pressed (w))
    r = q2_edit_commit (t->edit, err);
  return r;
}

static int
own_index (struct q2_tree *t, uint64_t i, unsigned char *raw,
           struct qcow2_error *err)
{
  struct q2_writer *const w = t->edit->w;
  const bool is_disk = i < w->geo->l1_needed;
  struct q2_range range;
  bool own;
  int r;

  if (is_disk)
    q2_ranges_lock (&w->l1, &range, i, i + 1);
  r = own_held (t, i, &own, err);
  if (is_disk)
    q2_ranges_unlock (&w->l1, &range);
  return r == 0 && own ? own_changing (t, i, raw, err) : r;
}

int
q2_tree_own (struct q2_tree *t, struct qcow2_error *err)
{
  const uint64_t size = t->edit->w->geo->l2_table_size;
  struct q2_owning owning = { .w = t->edit->w, .io = &t->edit->io };
  unsigned char *const raw = q2_buffer_alloc (size);
  struct q2_pace pace;
  int r = raw != NULL ? 0 : q2_fail_nomem (err, "an L2 table");

  t->owning = &owning;
  q2_pace_begin (&pace, &t->edit->image->gate);
  for (uint64_t i = 0; r == 0 && i < t->nr; ++i)
    if (q2_tree_table (t, i) != 0) {
      r = own_index (t, i, raw, err);
      if (r == 0)
        r = q2_tree_rest (t, &pace, err);
    }
  t->owning = NULL;
  q2_buffer_free (raw, size);
  return r;
}
