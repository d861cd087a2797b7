/* SPDX-License-Identifier: BSD-3-Clause */
/* entries.c - entries that are changed, and the tables they are in.
 *
 * Owns      replacing entries, and L2 tables that may be changed.
 * Method    entries are replaced in the table cache, a slice at a time, and
 *           what the old ones let go is noted in the same moment, so that a
 *           commit has both or neither.  A table that is shared with a
 *           snapshot is copied first, and one that is not there is made; the
 *           file has all of it before the L1 entry names it (ORDER-3).
 *
 *           Whatever of tables a commit will write is solid before an entry
 *           changes: the host has given it room (ORDER-10).
 * Locks     the caller holds the clusters; w->l1 is taken here for the L1
 *           entry, solid_lock over the writing of zeros, which is rare,
 *           link_lock for the moment of linking.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/plant.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* More than a commit can leave to be tried. */
#define MAX_TRIES 100

/* ---- Entries -------------------------------------------------------- */

/* For a check: what the entries refer to, before and from now on. */
static void
touch_locked (struct q2_writer *w, const struct q2_link *l)
{
  const struct q2_geometry *const geo = w->geo;

  q2_mutex_check_held (&w->link_lock);
  for (uint64_t i = 0; i < l->nr; ++i) {
    struct q2_entry new;
    uint64_t first, nr;

    nr = q2_entry_clusters (geo, &l->old[i], &first);
    q2_touch (w->suspects, first, nr);
    q2_entry_load (geo, l->raw + (i << geo->entry_bits), &new);
    nr = q2_entry_clusters (geo, &new, &first);
    q2_touch (w->suspects, first, nr);
  }
}

/* What the next commit has to know. */
static void
note_need_locked (struct q2_writer *w, bool fresh, bool hopeful)
{
  q2_mutex_check_held (&w->link_lock);
  w->data_first |= !fresh;
  w->hopeful |= hopeful;
}

/* Under link_lock: change the entries and note what they let go. */
static bool
try_link_locked (struct q2_writer *w, const struct q2_link *l)
{
  const struct q2_geometry *const geo = w->geo;

  q2_mutex_check_held (&w->link_lock);
  if (!q2_tables_update_l2 (w->tables,
                            q2_l1_index_of_cluster (geo, l->guest_cluster),
                            q2_l2_index_of_cluster (geo, l->guest_cluster),
                            l->raw, l->nr))
    return false;
  if (w->suspects != NULL)
    touch_locked (w, l);
  note_need_locked (w, l->fresh, l->hopeful);
  for (uint64_t i = 0; i < l->nr; ++i) {
    uint64_t first, nr;

    if (!l->let_go[i])
      continue;
    nr = q2_entry_clusters (geo, &l->old[i], &first);
    if (nr > 0)
      q2_frees_add (&w->unlinked, first, nr);
  }
  return true;
}

/* What is let go is no metadata, and in the file: its refcount is going to be
 * lowered, and its space used for something else.
 */
static int
check_let_go (const struct q2_change *c, const struct q2_link *l,
              struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  const unsigned bits = w->geo->cluster_bits;

  for (uint64_t i = 0; i < l->nr; ++i) {
    uint64_t first, nr;

    if (!l->let_go[i])
      continue;
    nr = q2_entry_clusters (w->geo, &l->old[i], &first);
    /* Of a stream the end may be rounded up. */
    if (nr > 0 &&
        q2_io_check_in_file (c->io, w->geo->cluster_size, first << bits, 1,
                             err) == -1)
      return -1;
    if (q2_overlap_check (w->overlap, first << bits, nr << bits,
                          Q2_META_NONE, err) == -1)
      return -1;
  }
  return 0;
}

enum linked { LINKED, MISSING, NO_MEMORY };

static enum linked
try_link (struct q2_writer *w, const struct q2_link *l)
{
  enum linked linked;

  q2_mutex_lock (&w->link_lock);
  if (!q2_frees_reserve (&w->unlinked, l->nr))
    linked = NO_MEMORY;
  else
    linked = try_link_locked (w, l) ? LINKED : MISSING;
  q2_mutex_unlock (&w->link_lock);
  return linked;
}

/* The slice that is to be changed is not in the cache. */
static int
fetch_slice (struct q2_change *c, const struct q2_link *l, unsigned tries,
             struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  unsigned char raw[16];
  const struct q2_l2_read read = {
    .l1_index = q2_l1_index_of_cluster (geo, l->guest_cluster),
    .l2_index = q2_l2_index_of_cluster (geo, l->guest_cluster),
    .count = 1, .buf = raw, .size = sizeof raw,
  };
  uint64_t nr;

  if (tries > MAX_TRIES)
    return q2_fail_advise (err, QCOW2_ERR_IO, QCOW2_ADVICE_CACHE,
                           QCOW2_NO_OFFSET, "a piece of an L2 table does not "
                           "stay in memory");
  /* It does not stay: its part of the cache is full of changed ones. */
  if (tries > 2 && q2_change_commit (c, err) == -1)
    return -1;
  return q2_tables_read_l2 (c->w->tables, c->io, &read, &nr, err);
}

/* A bit for the table of each L1 entry. */
static bool
is_new_table (const struct q2_writer *w, uint64_t l1_index)
{
  return w->new_tables != NULL &&
    (w->new_tables[l1_index / 8] >> l1_index % 8 & 1);
}

/* The slice that is to be changed may be in a hole of the file, or it is not
 * in the cache.
 */
static int
prepare_slice (struct q2_change *c, const struct q2_link *l, unsigned tries,
               struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  const uint64_t l1_index = q2_l1_index_of_cluster (w->geo, l->guest_cluster);
  const uint64_t l2_index = q2_l2_index_of_cluster (w->geo, l->guest_cluster);
  bool done = false;
  int r;

  q2_mutex_lock (&w->solid_lock);
  r = q2_tables_make_solid_l2 (w->tables,
                               is_new_table (w, l1_index) ? NULL : c->io,
                               l1_index, l2_index, &done, err);
  q2_mutex_unlock (&w->solid_lock);
  return r == -1 || done ? r : fetch_slice (c, l, tries, err);
}

#ifdef Q2_PLANTS
static void
plant_reuse (struct q2_change *c)
{
  struct q2_frees frees;
  struct qcow2_error ignored;

  q2_mutex_lock (&c->w->link_lock);
  frees = c->w->unlinked;
  c->w->unlinked = (struct q2_frees) { .nr = 0 };
  q2_mutex_unlock (&c->w->link_lock);
  if (q2_space_release (c->w->space, c->io, &frees, true, &ignored) != 0)
    abort ();
  q2_frees_destroy (&frees);
}
#endif

int
q2_writer_link (struct q2_change *c, const struct q2_link *l,
                struct qcow2_error *err)
{
  const uint64_t per_slice = q2_tables_slice_entries (c->w->tables);

  q2_writer_assert (c->w);
  if (!q2_assume (l->nr > 0 && (l->guest_cluster & (per_slice - 1)) + l->nr
                  <= per_slice, err) ||
      check_let_go (c, l, err) == -1)
    return -1;
  for (unsigned tries = 0;; ++tries) {
    switch (try_link (c->w, l)) {
    case LINKED:
#ifdef Q2_PLANTS
      if (Q2_PLANTED (Q2_PLANT_REUSE))
        plant_reuse (c);
#endif
      return 0;
    case NO_MEMORY:
      return q2_fail_nomem (err, "a list of clusters");
    case MISSING:
      if (prepare_slice (c, l, tries, err) == -1)
        return -1;
    }
  }
}

/* ---- Tables --------------------------------------------------------- */

/* Of a shared table everything has another user, too; in what is in memory of
 * one that is about to be a snapshot's the flags may say otherwise.  One that
 * nobody else has keeps them: only its L1 entry has lost the flag, by a crash.
 */
static int
is_shared (struct q2_change *c, uint64_t table, bool *ret_shared,
           struct qcow2_error *err)
{
  const uint64_t cluster = table >> c->w->geo->cluster_bits;
  uint64_t refcount;
  int r;

  while ((r = q2_space_get (c->w->space, c->io, cluster, &refcount, err)) ==
         Q2_SPACE_COMMIT_FIRST)
    if (q2_change_commit (c, err) == -1)
      return -1;
  *ret_shared = refcount != 1;
  return r;
}

static int
copy_table (struct q2_change *c, uint64_t l1_index, uint64_t old,
            uint64_t host_off, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  bool shared;
  Q2_CLEANUP_FREE unsigned char *table = calloc (geo->l2_table_size, 1);

  if (table == NULL)
    return q2_fail_nomem (err, "an L2 table");
  if (is_shared (c, old, &shared, err) == -1 ||
      q2_writer_read_table (c, l1_index, table, err) == -1)
    return -1;
  if (shared && !Q2_PLANTED (Q2_PLANT_COPY_FLAGS))
    for (uint64_t i = 0; i < geo->l2_table_size; i += q2_entry_size (geo))
      store_be64 (table + i, load_be64 (table + i) & ~Q2_ENTRY_COPIED);
  return q2_io_write (c->io, table, geo->l2_table_size, host_off,
                      QCOW2_IO_L2, err);
}

/* Write all of the new table, also where the file is known to read as zeros:
 * nothing points to it yet, the commit that links it makes it durable before
 * (ORDER-3), and what it writes there later has its room (ORDER-10).
 */
static int
fill_table (struct q2_change *c, uint64_t l1_index, uint64_t old,
            const struct q2_space_run *run, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = c->w->geo;
  const uint64_t host_off = run->cluster << geo->cluster_bits;

  if (old != 0)
    return copy_table (c, l1_index, old, host_off, err);
  if (run->zero)                /* that was done */
    return 0;
  return q2_io_write_zeros (c->io, geo->cluster_size, host_off, QCOW2_IO_L2,
                            err);
}

/* The L1 entry will name a table that was written as a whole; there is room
 * for the entry, too.
 */
static int
make_room_for_entry (struct q2_change *c, uint64_t l1_index,
                     struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  int r;

  if (!q2_assume (l1_index < w->geo->l1_needed, err))
    return -1;
  q2_mutex_lock (&w->solid_lock);
  r = q2_tables_make_solid_l1 (w->tables, c->io, l1_index, err);
  if (r == 0 && w->new_tables != NULL)
    w->new_tables[l1_index / 8] |= (unsigned char) (1u << l1_index % 8);
  q2_mutex_unlock (&w->solid_lock);
  return r;
}

/* A table that is not ours to change is a snapshot's, or was one's, or is
 * going to be one's, and has the class of the disk's own till then.  Which of
 * these it is may change in this moment, if a snapshot is deleted.
 */
static int
check_shared_table (const struct q2_change *c, uint64_t table,
                    struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  const unsigned classes = 1u << Q2_META_L2 | 1u << Q2_META_INACTIVE_L2 |
    1u << Q2_META_SHARED_L2;

  if (table == 0)
    return 0;
  if (q2_io_check_in_file (c->io, w->geo->cluster_size, table, 1, err) == -1)
    return -1;
  return q2_overlap_check_any (w->overlap, table, w->geo->cluster_size,
                               classes, Q2_META_SHARED_L2, err);
}

/* The caller holds the L1 entry, which is not ours to change. */
static int
make_table (struct q2_change *c, uint64_t l1_index, struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  const unsigned bits = w->geo->cluster_bits;
  const uint64_t old =
    q2_l1e_table (w->geo, q2_tables_l1_entry (w->tables, l1_index));
  struct q2_space_run run;
  bool room;

  if (check_shared_table (c, old, err) == -1 ||
      q2_writer_alloc (c, Q2_SPACE_NO_STREAM, 1, &run, err) == -1)
    return -1;
  /* ORDER-13: before it counted nobody could write guest data there. */
  if (!q2_assume (run.nr == 1 && q2_overlap_class (w->overlap, run.cluster
                                                   << bits) == Q2_META_L2,
                  err))
    goto undo;
  if (fill_table (c, l1_index, old, &run, err) == -1 ||
      make_room_for_entry (c, l1_index, err) == -1)
    goto undo;
  /* What is read from now on is the table; what was read of the cluster
   * before, by whoever is late with it, is not kept.
   */
  q2_tables_forget (w->tables, run.cluster << bits);
  q2_mutex_lock (&w->link_lock);
  room = q2_frees_reserve (&w->unlinked, 1);
  if (room) {
    /* Not even zeros in space that was never used are left to the host: what
     * it shows there after a crash would be entries.
     */
    note_need_locked (w, Q2_PLANTED (Q2_PLANT_FRESH_TABLE), false);
    q2_tables_set_l1 (w->tables, l1_index,
                      run.cluster << bits | Q2_ENTRY_COPIED);
    q2_touch (w->suspects, old >> bits, 1);
    if (old != 0)
      q2_frees_add (&w->unlinked, old >> bits, 1);
  }
  q2_mutex_unlock (&w->link_lock);
  if (!room) {
    q2_fail_nomem (err, "a list of clusters");
    goto undo;
  }
  return 0;

 undo:
  q2_overlap_remove (w->overlap, run.cluster << bits, w->geo->cluster_size);
  q2_space_undo (w->space, c->io, run.cluster, run.nr);
  return -1;
}

static bool
is_owned (const struct q2_writer *w, uint64_t l1_index)
{
  const uint64_t l1e = q2_tables_l1_entry (w->tables, l1_index);

  return q2_l1e_table (w->geo, l1e) != 0 && (l1e & Q2_ENTRY_COPIED);
}

int
q2_writer_own_table (struct q2_change *c, uint64_t l1_index,
                     struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  struct q2_range range;
  int r = 0;

  if (is_owned (w, l1_index))
    return 0;
  q2_writer_assert (w);
  q2_change_leave (c);
  q2_ranges_lock (&w->l1, &range, l1_index, l1_index + 1);
  q2_change_enter (c);
  if (!is_owned (w, l1_index))
    q2_sharing_meet (c, l1_index);
  if (!is_owned (w, l1_index))
    r = make_table (c, l1_index, err);
  q2_ranges_unlock (&w->l1, &range);
  return r;
}
