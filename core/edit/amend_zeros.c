/* SPDX-License-Identifier: BSD-3-Clause */
/* amend_zeros.c - entries that say "zeros" become ones of version 2.
 *
 * Owns      nothing but the replacements.
 * Method    where nothing else would be read, an unallocated entry reads as
 *           zeros, too.  Where there is a backing image zeros are written, and
 *           where space was kept, so that it still is.
 *
 *           The disk is changed like by a guest, which copies tables that
 *           snapshots share.  After that a table of a snapshot is no table of
 *           the disk, unless it says nowhere "zeros": so its entries are
 *           changed where they are, once for all snapshots that share it.  A
 *           cluster that such an entry gets has as many references as the
 *           table, durably and with all its bytes, before the entry names it;
 *           one that it named is let go when that is durable.
 * Locks     the gate is closed; the changes of the disk take what those of a
 *           guest take.
 */
#include "config.h"

#include "edit/amend.h"
#include "edit/trees.h"

#include "meta/snapshots.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/plant.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char zeros[65536];

/* ---- The disk --------------------------------------------------------- */

static int
write_zeros (struct q2_edit *e, uint64_t guest_off, uint64_t end,
             struct qcow2_error *err)
{
  while (guest_off < end) {
    const uint64_t n = q2_min (end - guest_off, sizeof zeros);

    if (q2_writer_pwrite (e->w, &e->io, zeros, n, guest_off, err) == -1)
      return -1;
    guest_off += n;
  }
  return 0;
}

static int
unallocate (struct q2_edit *e, uint64_t cluster, const struct q2_entry *entry,
            struct qcow2_error *err)
{
  static const unsigned char raw[16];
  const bool let_go[1] = { entry->m.placed };
  const struct q2_link link = {
    .guest_cluster = cluster, .nr = 1, .raw = raw, .old = entry,
    .let_go = let_go,
  };
  struct q2_change c = { .w = e->w, .io = &e->io };
  int r;

  if (!q2_assume (entry->m.kind == Q2_CLUSTER_ZERO, err))
    return -1;
  q2_change_enter (&c);
  r = q2_writer_own_table (&c, cluster >> e->w->geo->l2_bits, err);
  if (r == 0)
    r = q2_writer_link (&c, &link, err);
  q2_change_leave (&c);
  return r;
}

static int
expand_cluster (struct q2_edit *e, uint64_t cluster,
                const struct q2_entry *entry, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = e->w->geo;
  const uint64_t from = cluster << geo->cluster_bits;
  const uint64_t to = q2_min (from + geo->cluster_size, geo->virtual_size);

  if (entry->m.kind != Q2_CLUSTER_ZERO)
    return 0;
  if (from < to &&
      (q2_store_has_below (e->w->store, from) || entry->copied))
    return write_zeros (e, from, to, err);
  return unallocate (e, cluster, entry, err);
}

static int
expand_slice (struct q2_edit *e, uint64_t cluster, uint64_t max,
              uint64_t *ret_nr, struct qcow2_error *err)
{
  struct q2_change c = { .w = e->w, .io = &e->io };
  struct q2_entry entries[Q2_MAX_ENTRIES];
  bool owned;
  int r;

  q2_change_enter (&c);
  r = q2_writer_load (&c, cluster, q2_min (max, Q2_MAX_ENTRIES), entries,
                      ret_nr, &owned, err);
  q2_change_leave (&c);
  if (r == 0 && !q2_assume (*ret_nr > 0 && *ret_nr <= max, err))
    return -1;
  for (uint64_t i = 0; r == 0 && i < *ret_nr; ++i) {
    if (q2_writer_is_pressed (e->w))
      r = q2_edit_commit (e, err);
    if (r == 0)
      r = expand_cluster (e, cluster + i, &entries[i], err);
  }
  return r;
}

static int
expand_disk (struct q2_amend *a, struct qcow2_error *err)
{
  struct q2_edit *const e = &a->edit;
  const unsigned bits = e->w->geo->l2_bits;

  for (uint64_t i = 0; i < e->w->geo->l1_needed; ++i) {
    const uint64_t end = (i + 1) << bits;
    uint64_t at = i << bits, nr;

    while (at < end && !q2_tables_l1_is_empty (e->w->tables, i)) {
      if (expand_slice (e, at, end - at, &nr, err) == -1)
        return -1;
      at += nr;
    }
    if (q2_progress_add (&a->progress, 1, Q2_AMEND_CANCELLED, err) == -1)
      return -1;
  }
  return 0;
}

/* ---- Tables of snapshots ---------------------------------------------- */

struct table {
  struct q2_amend *a;
  uint64_t host_off, guest_off; /* of the table; of what it maps */
  uint64_t users;               /* snapshots that share it */
  unsigned char *entries;
  struct q2_frees old;          /* what its entries named */
  bool changed;
};

/* A cluster of zeros with a reference for each user of the table. */
static int
make_zeros (struct table *t, uint64_t guest_off, uint64_t *ret_host_off,
            struct qcow2_error *err)
{
  struct q2_edit *const e = &t->a->edit;
  const struct q2_geometry *const geo = e->w->geo;
  struct q2_place place = { .guest_off = guest_off };

  if (!q2_assume (t->users > 0, err))
    return -1;
  if (q2_edit_alloc (e, geo->cluster_size, Q2_META_NONE, &place.host_off, err)
      == -1)
    return -1;
  for (uint64_t i = 1; i < t->users; ++i)
    if (q2_edit_raise (e, place.host_off >> geo->cluster_bits, 1, err) == -1)
      return -1;
  *ret_host_off = place.host_off;
  return q2_store_zero (e->w->store, &e->io, geo->cluster_size, place, true,
                        err);
}

static int
expand_entry (struct table *t, uint64_t i, struct qcow2_error *err)
{
  struct q2_edit *const e = &t->a->edit;
  const struct q2_geometry *const geo = e->w->geo;
  unsigned char *const raw = t->entries + (i << geo->entry_bits);
  const uint64_t guest_off = t->guest_off + (i << geo->cluster_bits);
  uint64_t first, nr, host_off = 0;
  struct q2_entry entry;

  q2_entry_load (geo, raw, &entry);
  if (entry.m.kind != Q2_CLUSTER_ZERO)
    return 0;
  nr = q2_entry_clusters (geo, &entry, &first);
  if (nr > 0 && !q2_frees_reserve (&t->old, 1))
    return q2_fail_nomem (err, "a list of clusters");
  if (q2_store_has_below (e->w->store, guest_off) &&
      make_zeros (t, guest_off, &host_off, err) == -1)
    return -1;
  if (nr > 0)
    q2_frees_add (&t->old, first, nr);
  store_be64 (raw, host_off);
  t->changed = true;
  return 0;
}

static void
let_go_old (struct table *t)
{
  for (uint64_t n = 0; n < t->users; ++n)
    for (size_t i = 0; i < t->old.nr; ++i)
      q2_edit_let_go (&t->a->edit, t->old.runs[i].cluster, t->old.runs[i].nr);
}

static int
write_table (struct table *t, struct qcow2_error *err)
{
  const bool early = Q2_PLANTED (Q2_PLANT_LET_GO_EARLY);
  struct q2_edit *const e = &t->a->edit;

  if (!q2_assume (t->changed && t->users > 0 && !e->switched, err))
    return -1;
  if (!Q2_PLANTED (Q2_PLANT_EARLY_SWITCH) && q2_edit_commit (e, err) == -1)
    return -1;
  q2_edit_keep (e);
  if (early) {
    let_go_old (t);
    if (q2_edit_commit (e, err) == -1)
      return -1;
  }
  if (q2_edit_write (e, t->entries, e->w->geo->l2_table_size, t->host_off,
                     q2_overlap_class (e->w->overlap, t->host_off), err) == -1
      || q2_edit_commit (e, err) == -1)
    return -1;
  if (!early)
    let_go_old (t);
  return q2_edit_commit (e, err);
}

/* How many references it has. */
static int
count_users (struct table *t, struct qcow2_error *err)
{
  struct q2_edit *const e = &t->a->edit;
  int r;

  while ((r = q2_space_get (e->w->space, &e->io, t->host_off >>
                            e->w->geo->cluster_bits, &t->users, err)) ==
         Q2_SPACE_COMMIT_FIRST)
    if (q2_edit_commit (e, err) == -1)
      return -1;
  if (r == -1 || t->users > 0)
    return r;
  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                         t->host_off, "the L2 table at offset 0x%" PRIx64
                         " is in use, but its refcount is 0", t->host_off);
}

static int
expand_entries (struct table *t, struct qcow2_error *err)
{
  struct q2_edit *const e = &t->a->edit;
  const struct q2_geometry *const geo = e->w->geo;

  if (q2_io_read (&e->io, t->entries, geo->l2_table_size, t->host_off,
                  QCOW2_IO_L2, err) == -1 || count_users (t, err) == -1)
    return -1;
  for (uint64_t i = 0; i >> geo->l2_bits == 0; ++i)
    if (expand_entry (t, i, err) == -1)
      return -1;
  return t->changed ? write_table (t, err) : 0;
}

static int
expand_table (struct q2_amend *a, uint64_t host_off, uint64_t guest_off,
              struct qcow2_error *err)
{
  const struct q2_geometry *const geo = a->edit.w->geo;
  struct table t = { .a = a, .host_off = host_off, .guest_off = guest_off };
  int r;

  if (!q2_is_aligned (host_off, geo->table_align))
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                           host_off, "the L2 table at offset 0x%" PRIx64
                           " is not aligned", host_off);
  t.entries = malloc (geo->l2_table_size);
  if (t.entries == NULL)
    return q2_fail_nomem (err, "an L2 table");
  r = expand_entries (&t, err);
  free (t.entries);
  q2_frees_destroy (&t.old);
  return r;
}

/* ---- Snapshots -------------------------------------------------------- */

static int
expand_snapshot (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
                 struct qcow2_error *err)
{
  struct q2_amend *const a = opaque;
  const struct q2_geometry *const geo = a->edit.w->geo;
  unsigned char *l1;
  int r;

  if (q2_snapshot_check_l1 (geo, s, host_off, err) == -1)
    return -1;
  l1 = malloc ((size_t) s->l1_entries * 8 + 1);
  if (l1 == NULL)
    return q2_fail_nomem (err, "the L1 table of a snapshot");
  r = q2_io_read (&a->edit.io, l1, (uint64_t) s->l1_entries * 8, s->l1_offset,
                  QCOW2_IO_L1, err);
  for (uint64_t i = 0; r == 0 && i < s->l1_entries; ++i) {
    const uint64_t table = q2_l1e_table (geo, load_be64 (l1 + 8 * i));

    if (table != 0)
      r = expand_table (a, table, i << geo->l1_shift, err);
    if (r == 0)
      r = q2_progress_add (&a->progress, 1, Q2_AMEND_CANCELLED, err);
  }
  free (l1);
  return r;
}

int
q2_amend_expand_zeros (struct q2_amend *a, struct qcow2_error *err)
{
  struct q2_edit *const e = &a->edit;
  const struct q2_header h = q2_writer_header (e->w);
  uint64_t ignored;

  a->progress.total = ((uint64_t) h.nr_snapshots + 1) * e->w->geo->l1_needed;
  if (q2_trees_drop (e, e->w->geo->l1_needed, err) == -1 ||
      expand_disk (a, err) == -1 || q2_edit_commit (e, err) == -1)
    return -1;
  return q2_snapshots_walk (&e->io, &h, e->w->geo, expand_snapshot, a,
                            &ignored, err);
}
