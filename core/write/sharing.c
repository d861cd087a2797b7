/* SPDX-License-Identifier: BSD-3-Clause */
/* sharing.c - L2 tables that are going to be a snapshot's, too, while guests
 * write.
 *
 * Owns      which of them are shared already, and what becomes of those that
 *           are not if the snapshot is not taken.
 * Method    see sharing.h.  A writer reads the table through the cache, which
 *           may have entries that are not in the file yet; the thread that
 *           takes the snapshot reads the file, after a commit.  Whoever fails
 *           in the middle of a table takes back what he has counted of it, so
 *           a table is shared or it is not.
 * Locks     sharing.lock over all of a table; link_lock for L1 entries.
 * Model     tests/models/snapshots.py.
 */
#include "config.h"

#include "write/sharing.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/plant.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

/* How long the thread that takes the snapshot leaves the lock to writers. */
#define GIVE_WAY_NS 50000

void
q2_sharing_init (struct q2_sharing *s)
{
  q2_mutex_init (&s->lock, 1, "sharing.lock");
}

void
q2_sharing_destroy (struct q2_sharing *s)
{
  q2_check (!atomic_load (&s->active));
  q2_mutex_destroy (&s->lock);
}

/* ---- References --------------------------------------------------------- */

int
q2_sharing_list (const struct q2_geometry *geo, const unsigned char *raw,
                 uint64_t len, uint64_t host_off, struct q2_frees *clusters,
                 struct qcow2_error *err)
{
  clusters->nr = 0;
  if (!q2_frees_reserve (clusters, len >> geo->entry_bits))
    return q2_fail_nomem (err, "a list of clusters");
  for (uint64_t i = 0; i < len; i += q2_entry_size (geo)) {
    struct q2_entry e;
    uint64_t first, nr;

    if (load_be64 (raw + i) == 0)
      continue;
    q2_entry_load (geo, raw + i, &e);
    if (e.m.kind == Q2_CLUSTER_INVALID)
      return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                             host_off + i, "the L2 entry at offset 0x%" PRIx64
                             " is corrupt: %s", host_off + i, e.m.problem);
    nr = q2_entry_clusters (geo, &e, &first);
    if (nr > 0)
      q2_frees_add (clusters, first, nr);
  }
  return 0;
}

int
q2_sharing_raise (struct q2_writer *w, const struct q2_io *io,
                  struct q2_change *c, struct q2_free_run run,
                  uint64_t *raised, struct qcow2_error *err)
{
  int r;

  do {
    const uint64_t before = run.cluster;

    r = q2_space_raise (w->space, io, &run, err);
    *raised += run.cluster - before;
    if (r == Q2_SPACE_COMMIT_FIRST &&
        (c ? q2_change_commit (c, err) : q2_writer_commit (w, io, err)) == -1)
      return -1;
  } while (r == Q2_SPACE_COMMIT_FIRST);
  return r == 0 && !q2_assume (run.nr == 0, err) ? -1 : r;
}

/* ---- The moment, and the end -------------------------------------------- */

static void
set_entry (struct q2_writer *w, uint64_t l1_index, uint64_t entry)
{
  q2_mutex_check_held (&w->link_lock);
  if (q2_tables_l1_entry (w->tables, l1_index) != entry)
    q2_tables_set_l1 (w->tables, l1_index, entry);
}

void
q2_sharing_begin (struct q2_writer *w, struct q2_shared_tables *t)
{
  struct q2_sharing *const s = &w->sharing;

  q2_check (s->tables == NULL && t->nr <= w->geo->l1_needed);
  q2_mutex_lock (&w->link_lock);
  for (uint64_t i = 0; i < t->nr; ++i) {
    t->l1[i] = q2_tables_l1_entry (w->tables, i);
    if (!Q2_PLANTED (Q2_PLANT_KEEP_COPIED_L1))
      set_entry (w, i, q2_l1e_table (w->geo, t->l1[i]));
  }
  t->settled = q2_tables_is_clean (w->tables);
  q2_mutex_unlock (&w->link_lock);
  q2_mutex_lock (&s->lock);
  s->tables = t;
  s->failed = s->miscounted = false;
  atomic_store (&s->active, true);
  q2_mutex_unlock (&s->lock);
}

static bool
is_shared_locked (const struct q2_sharing *s, uint64_t l1_index)
{
  q2_mutex_check_held (&s->lock);
  return q2_shared_tables_has (s->tables, l1_index);
}

/* Nobody has shared it, and nobody is going to: it is the disk's as before,
 * unless that has another one by now.
 */
static void
regain_locked (struct q2_writer *w, uint64_t l1_index)
{
  const uint64_t entry = w->sharing.tables->l1[l1_index];
  const uint64_t table = q2_l1e_table (w->geo, entry);

  q2_mutex_check_held (&w->sharing.lock);
  if (!(entry & Q2_ENTRY_COPIED) || table == 0)
    return;
  q2_mutex_lock (&w->link_lock);
  if (q2_tables_l1_entry (w->tables, l1_index) == table) {
    q2_overlap_turn (w->overlap, table, Q2_META_L2);
    set_entry (w, l1_index, entry);
  }
  q2_mutex_unlock (&w->link_lock);
}

bool
q2_sharing_end (struct q2_writer *w, bool published)
{
  struct q2_sharing *const s = &w->sharing;
  bool miscounted;

  q2_mutex_lock (&s->lock);
  for (uint64_t i = 0; !published && i < s->tables->nr; ++i)
    if (!is_shared_locked (s, i))
      regain_locked (w, i);
  miscounted = s->miscounted;
  s->tables = NULL;
  atomic_store (&s->active, false);
  q2_mutex_unlock (&s->lock);
  return miscounted;
}

/* ---- The thread that takes the snapshot --------------------------------- */

int
q2_sharing_lock (struct q2_writer *w, uint64_t l1_index, bool *ret_todo,
                 struct qcow2_error *err)
{
  struct q2_sharing *const s = &w->sharing;
  const struct timespec pause = { 0, GIVE_WAY_NS };

  /* There are at most as many as tables. */
  while (atomic_load (&s->waiting) > 0)
    nanosleep (&pause, NULL);
  q2_mutex_lock (&s->lock);
  if (s->failed) {
    *err = s->why;
    q2_mutex_unlock (&s->lock);
    return -1;
  }
  *ret_todo = !is_shared_locked (s, l1_index);
  return 0;
}

void
q2_sharing_done (struct q2_writer *w, uint64_t l1_index, int result,
                 bool miscounted, const struct qcow2_error *err)
{
  struct q2_sharing *const s = &w->sharing;

  q2_check (!is_shared_locked (s, l1_index) && !s->failed);
  s->miscounted |= miscounted;
  if (result == 0)
    q2_shared_tables_note (s->tables, l1_index);
  else {
    s->failed = true;
    s->why = *err;
  }
}

void
q2_sharing_unlock (struct q2_writer *w)
{
  q2_mutex_unlock (&w->sharing.lock);
}

/* ---- Writers ------------------------------------------------------------ */

/* References of clusters that came to some of them; the disk has at least one
 * more to each.
 */
static int
take_back (struct q2_change *c, struct q2_frees *clusters, uint64_t raised,
           struct qcow2_error *err)
{
  struct q2_writer *const w = c->w;
  int r;

  q2_frees_cut (clusters, &raised);
  while ((r = q2_space_release (w->space, c->io, clusters, false, err)) ==
         Q2_SPACE_COMMIT_FIRST)
    if (q2_change_commit (c, err) == -1)
      return -1;
  return r;
}

/* The table as it is in memory. */
static int
list_table (struct q2_change *c, uint64_t l1_index, uint64_t table,
            struct q2_frees *clusters, struct qcow2_error *err)
{
  const uint64_t size = c->w->geo->l2_table_size;
  Q2_CLEANUP_FREE unsigned char *raw = malloc (size);

  if (raw == NULL)
    return q2_fail_nomem (err, "an L2 table");
  if (q2_writer_read_table (c, l1_index, raw, err) == -1 ||
      q2_sharing_list (c->w->geo, raw, size, table, clusters, err) == -1)
    return -1;
  if (!q2_frees_reserve (clusters, 1))
    return q2_fail_nomem (err, "a list of clusters");
  q2_frees_add (clusters, table >> c->w->geo->cluster_bits, 1);
  return 0;
}

static void
share_locked (struct q2_change *c, uint64_t l1_index, uint64_t table)
{
  struct q2_frees clusters = { .nr = 0 };
  struct qcow2_error err, why;
  uint64_t raised = 0;
  bool miscounted = false;
  int r;

  q2_mutex_check_held (&c->w->sharing.lock);
  r = list_table (c, l1_index, table, &clusters, &err);
  for (size_t i = 0; r == 0 && i < clusters.nr; ++i)
    r = q2_sharing_raise (c->w, c->io, c, clusters.runs[i], &raised, &err);
  if (r == -1 && raised > 0)
    miscounted = take_back (c, &clusters, raised, &why) == -1;
  q2_frees_destroy (&clusters);
  q2_sharing_done (c->w, l1_index, r, miscounted, &err);
  atomic_fetch_add_explicit (&c->w->sharing.met, r == 0, memory_order_relaxed);
}

static void
meet_locked (struct q2_change *c, uint64_t l1_index)
{
  struct q2_writer *const w = c->w;
  struct q2_sharing *const s = &w->sharing;
  const uint64_t table =
    q2_l1e_table (w->geo, q2_tables_l1_entry (w->tables, l1_index));

  q2_mutex_check_held (&s->lock);
  if (s->tables == NULL || l1_index >= s->tables->nr || table == 0 ||
      q2_l1e_table (w->geo, s->tables->l1[l1_index]) != table)
    return;
  if (!is_shared_locked (s, l1_index) && !s->failed)
    share_locked (c, l1_index, table);
  if (!is_shared_locked (s, l1_index))
    regain_locked (w, l1_index);
}

void
q2_sharing_meet (struct q2_change *c, uint64_t l1_index)
{
  struct q2_sharing *const s = &c->w->sharing;

  if (!atomic_load (&s->active) || Q2_PLANTED (Q2_PLANT_FORGET_SHARING))
    return;
  atomic_fetch_add (&s->waiting, 1);
  q2_change_leave (c);
  q2_mutex_lock (&s->lock);
  q2_change_enter (c);
  atomic_fetch_sub (&s->waiting, 1);
  meet_locked (c, l1_index);
  q2_mutex_unlock (&s->lock);
}
