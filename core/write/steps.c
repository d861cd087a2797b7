/* SPDX-License-Identifier: BSD-3-Clause */
/* steps.c - making changes durable, in an order that survives a crash.
 *
 * Owns      the steps of one commit.
 * Method    docs/ORDERING.md has the rules; the steps have its numbers.
 *
 *             1   copy what has changed                        (memory only)
 *             2a  write refcounts, moved refcount table; flush ORDER-1, -3
 *             2b  link new refcount blocks, or that table; flush    ORDER-2
 *             3   write L2 entries and L1 entries; flush            ORDER-4
 *             4   release what the entries have let go      ORDER-5, ORDER-6
 *
 *           A step with nothing to write is left out, with its flush.  The
 *           flush of 2a is also what makes guest data durable before an
 *           entry exposes it.  If no entry needs that, nor a refcount that is
 *           not durable, the commit is "short": 2a has no flush of its own,
 *           and that of step 3 makes durable what both have written.
 * Locks     link_lock guards the entries while they are copied; it is not held
 *           over I/O.  One commit at a time is for commit.c to see to.
 * Model     tests/models/commit.py.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#include <stdlib.h>

struct commit {
  struct q2_refcounts_dirty refcounts;
  struct q2_tables_dirty tables;
  struct q2_frees frees;
  struct q2_batch *batch;       /* for them: afterwards it is too late to
                                   find that there is no memory */
  bool data_first;              /* w->data_first, of these tables */
  bool is_short;                /* one flush is enough */
};

static bool
has_tables (const struct commit *c)
{
  return c->tables.l1.nr > 0 || c->tables.l2.nr > 0;
}

/* Refcounts may be written late: whoever opens the image after a crash counts
 * anew (ORDER-8).
 */
static bool
are_refcounts_repaired (const struct q2_writer *w)
{
  bool marked = q2_writer_is_marked (w);

  marked |= Q2_PLANTED (Q2_PLANT_LAZY_CLEAN);
  marked |= Q2_PLANTED (Q2_PLANT_LAZY_UNMARKED);
  return marked && q2_writer_is_lazy (w);
}

/* ORDER-1, -2 and -3 hold without a flush before step 3. */
static bool
is_short (const struct q2_writer *w, const struct commit *c, bool exact)
{
  return has_tables (c) && !c->data_first &&
    (!exact || Q2_PLANTED (Q2_PLANT_LAZY_CLEAN)) &&
    c->refcounts.table == NULL && !q2_refcounts_dirty_links (&c->refcounts) &&
    (!c->refcounts.urgent || are_refcounts_repaired (w));
}

/* Entries first: the refcounts that they rely on went up before they were
 * linked, so they are among those copied afterwards.
 */
static int
step_1 (struct q2_writer *w, const struct q2_io *io, struct commit *c,
        struct qcow2_error *err)
{
  const bool exact = atomic_load (&w->exact) > 0;
  enum q2_ahead_way way = exact ? Q2_AHEAD_NONE : Q2_AHEAD_KEEP;
  int r;

  *c = (struct commit) { .batch = malloc (sizeof *c->batch) };
  if (c->batch == NULL)
    return q2_fail_nomem (err, "a commit");
  q2_mutex_lock (&w->link_lock);
  q2_check (atomic_load (&w->nr_committing) == 0);      /* one at a time */
  r = q2_tables_gather (w->tables, &c->tables, err);
  if (r == 0) {
    c->frees = w->unlinked;
    atomic_store (&w->nr_committing, c->frees.nr);
    w->unlinked = (struct q2_frees) { .nr = 0 };
    c->data_first = w->data_first;
    if (w->ahead && w->hopeful && !exact && !are_refcounts_repaired (w))
      way = Q2_AHEAD_MORE;
    w->data_first = w->hopeful = false;
  }
  q2_mutex_unlock (&w->link_lock);
  if (r == 0)
    r = q2_space_gather (w->space, io, way, &c->refcounts, err);
  if (r == 0)
    c->is_short = is_short (w, c, exact);
  /* Old tables: counted until they are in a batch, see may_get_space. */
  if (r == 0)
    atomic_fetch_add (&w->nr_committing, c->refcounts.nr_old);
  return r;
}

static int
flush (struct q2_writer *w, const struct q2_io *io, bool data,
       struct qcow2_error *err)
{
  if ((!data || Q2_PLANTED (Q2_PLANT_SKIP_DATA_FLUSH) ||
       q2_store_flush (w->store, err) == 0) &&
      q2_io_flush (io, err) == 0)
    return 0;
  /* What was written may be lost although a later flush succeeds. */
  q2_writer_become_failed (w);
  return -1;
}

/* Nothing of a table is written to what is something else. */
static int
check_dirty (struct q2_writer *w, const struct q2_dirty *d,
             enum q2_meta_class class, struct qcow2_error *err)
{
  for (size_t i = 0; i < d->nr; ++i)
    if (q2_overlap_check (w->overlap, d->host_off[i], 1, class, err) == -1)
      return -1;
  return 0;
}

static int
check_tables (struct q2_writer *w, const struct commit *c,
              struct qcow2_error *err)
{
  return check_dirty (w, &c->tables.l2, Q2_META_L2, err) == -1 ||
    check_dirty (w, &c->tables.l1, Q2_META_L1, err) == -1 ? -1 : 0;
}

static int
check_refcounts (struct q2_writer *w, const struct commit *c,
                 struct qcow2_error *err)
{
  const struct q2_refcounts_dirty *const d = &c->refcounts;
  const uint64_t bytes =
    (uint64_t) d->table_clusters << w->geo->cluster_bits;

  if (check_dirty (w, &d->slices, Q2_META_REFCOUNT_BLOCK, err) == -1 ||
      check_dirty (w, &d->sectors, Q2_META_REFCOUNT_TABLE, err) == -1)
    return -1;
  return d->table == NULL ? 0
    : q2_overlap_check (w->overlap, d->table_host_off, bytes,
                        Q2_META_REFCOUNT_TABLE, err);
}

static int
step_2a (struct q2_writer *w, const struct q2_io *io, const struct commit *c,
         struct qcow2_error *err)
{
  if (check_refcounts (w, c, err) == -1 ||
      q2_space_write (w->space, &c->refcounts, io, err) == -1)
    return -1;
  if (Q2_PLANTED (Q2_PLANT_EARLY_L1) &&
      q2_tables_write_l1 (w->tables, &c->tables, io, err) == -1)
    return -1;
  if (Q2_PLANTED (Q2_PLANT_SKIP_FLUSH_2A) && has_tables (c))
    return 0;
  /* Guest data is where the entries of step 3 will say (ORDER-3). */
  return flush (w, io, true, err);
}

static int
write_links (struct q2_writer *w, const struct q2_io *io,
             const struct commit *c, struct q2_superblock_edit *edit,
             struct qcow2_error *err)
{
  if (q2_refcounts_write_links (&c->refcounts, edit, io, err) == -1)
    return -1;
  if (Q2_PLANTED (Q2_PLANT_SKIP_FLUSH_2B) && has_tables (c))
    return 0;
  return flush (w, io, false, err);
}

static int
step_2b (struct q2_writer *w, const struct q2_io *io, const struct commit *c,
         struct qcow2_error *err)
{
  struct q2_superblock_edit edit = { .sb = NULL };
  int r;

  if (!q2_refcounts_dirty_links (&c->refcounts))
    return 0;
  if (c->refcounts.header)
    q2_superblock_begin (w->superblock, &edit);
  r = write_links (w, io, c, &edit, err);
  if (c->refcounts.header)
    q2_superblock_end (&edit, r == 0);
  return r;
}

static int
step_3 (struct q2_writer *w, const struct q2_io *io, const struct commit *c,
        struct qcow2_error *err)
{
  if (!has_tables (c))
    return 0;
  if (check_tables (w, c, err) == -1 ||
      q2_tables_write_l2 (w->tables, &c->tables, io, err) == -1 ||
      q2_tables_write_l1 (w->tables, &c->tables, io, err) == -1)
    return -1;
  return flush (w, io, false, err);
}

/* Steps 2a and 3 at once: nothing that is written relies on anything else of
 * it.
 */
static int
steps_2a_3 (struct q2_writer *w, const struct q2_io *io,
            const struct commit *c, struct qcow2_error *err)
{
  if (check_refcounts (w, c, err) == -1 || check_tables (w, c, err) == -1 ||
      q2_space_write (w->space, &c->refcounts, io, err) == -1 ||
      q2_tables_write_l2 (w->tables, &c->tables, io, err) == -1 ||
      q2_tables_write_l1 (w->tables, &c->tables, io, err) == -1 ||
      flush (w, io, true, err) == -1)
    return -1;
  atomic_fetch_add_explicit (&w->short_commits, 1, memory_order_relaxed);
  return 0;
}

static int
steps_2a_to_3 (struct q2_writer *w, const struct q2_io *io,
               const struct commit *c, enum q2_commit_progress *progress,
               struct qcow2_error *err)
{
  if (c->is_short && steps_2a_3 (w, io, c, err) == -1)
    return -1;
  if (!c->is_short) {
    if (step_2a (w, io, c, err) == -1)
      return -1;
    *progress = Q2_PROGRESS_2A;
    if (step_2b (w, io, c, err) == -1)
      return -1;
    *progress = Q2_PROGRESS_2B;
    if (step_3 (w, io, c, err) == -1)
      return -1;
  }
  *progress = Q2_PROGRESS_ALL;
  return 0;
}

static struct q2_batch *
take_batch (struct commit *c)
{
  struct q2_batch *const b = c->batch;

  c->batch = NULL;
  return b;
}

/* The commit has ended; what it had copied is in the file, or is to be
 * written again.
 */
static void
end_steps (struct q2_writer *w, struct commit *c,
           enum q2_commit_progress progress)
{
  const bool written = progress == Q2_PROGRESS_ALL;

  q2_space_end_gather (w->space, &c->refcounts, progress, &c->frees);
  q2_mutex_lock (&w->link_lock);
  q2_tables_end_gather (w->tables, &c->tables, written);
  if (!written && !Q2_PLANTED (Q2_PLANT_FORGET_FLAGS))
    w->data_first |= c->data_first;
  if (!written)
    q2_frees_move (&w->unlinked, &c->frees);
  else if (Q2_PLANTED (Q2_PLANT_RELEASE_GATHERING))
    q2_frees_move (&c->frees, &w->unlinked);
  q2_mutex_unlock (&w->link_lock);
  q2_writer_add_batch (w, &c->frees, take_batch (c));
  q2_check (c->batch == NULL && c->frees.nr == 0);
  atomic_store (&w->nr_committing, 0);
}

int
q2_writer_take_steps (struct q2_writer *w, const struct q2_io *io,
                      struct qcow2_error *err)
{
  enum q2_commit_progress progress = Q2_PROGRESS_NONE;
  struct commit c;
  int r;

  q2_writer_assert (w);
  atomic_fetch_add_explicit (&w->commits, 1, memory_order_relaxed);
  r = step_1 (w, io, &c, err);
  if (r == 0)                   /* before anything is written */
    r = q2_check_end (err);
  if (r == 0) {
    if (Q2_PLANTED (Q2_PLANT_EARLY_RELEASE))
      q2_writer_add_batch (w, &c.frees, take_batch (&c));
    if (Q2_PLANTED (Q2_PLANT_EARLY_RELEASE) &&
        q2_writer_release (w, io, 0, err) == -1)
      r = -1;
  }
  if (r == 0)
    r = steps_2a_to_3 (w, io, &c, &progress, err);
  /* Before somebody else begins one. */
  if (r == -1 && err->kind == QCOW2_ERR_BUG)
    q2_writer_note_error (w, io, err);
  end_steps (w, &c, progress);
  return r;
}
