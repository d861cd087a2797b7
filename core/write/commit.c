/* SPDX-License-Identifier: BSD-3-Clause */
/* commit.c - making changes durable, in an order that survives a crash.
 *
 * Owns      the numbered commits; what they let go is in batches.c.
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
 *           entry exposes it.
 *
 *           One commit runs at a time.  Whoever wants one joins the one that
 *           has not begun yet, and waits or runs it himself.  If it fails,
 *           everything it had copied counts as changed again, and each of
 *           those who waited tries himself.
 * Locks     commit_lock guards the numbers, link_lock the entries while they
 *           are copied; neither is held over I/O.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#include <errno.h>
#include <stdlib.h>

/* When to commit without being asked. */
#define MAX_UNLINKED 65536

struct commit {
  struct q2_refcounts_dirty refcounts;
  struct q2_tables_dirty tables;
  struct q2_frees frees;
  struct q2_batch *batch;       /* for them: afterwards it is too late to
                                   find that there is no memory */
};

static bool
has_tables (const struct commit *c)
{
  return c->tables.l1.nr > 0 || c->tables.l2.nr > 0;
}

/* ---- Steps ---------------------------------------------------------- */

/* Entries first: the refcounts that they rely on went up before they were
 * linked, so they are among those copied afterwards.
 */
static int
step_1 (struct q2_writer *w, struct commit *c, struct qcow2_error *err)
{
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
  }
  q2_mutex_unlock (&w->link_lock);
  if (r == 0)
    r = q2_space_gather (w->space, &c->refcounts, err);
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
  if (!written)
    q2_frees_move (&w->unlinked, &c->frees);
  else if (Q2_PLANTED (Q2_PLANT_RELEASE_GATHERING))
    q2_frees_move (&c->frees, &w->unlinked);
  q2_mutex_unlock (&w->link_lock);
  q2_writer_add_batch (w, &c->frees, take_batch (c));
  q2_check (c->batch == NULL && c->frees.nr == 0);
  atomic_store (&w->nr_committing, 0);
}

static int
run (struct q2_writer *w, const struct q2_io *io, struct qcow2_error *err)
{
  enum q2_commit_progress progress = Q2_PROGRESS_NONE;
  struct commit c;
  int r;

  q2_writer_assert (w);
  atomic_fetch_add_explicit (&w->commits, 1, memory_order_relaxed);
  r = step_1 (w, &c, err);
  if (r == 0)                   /* before anything is written */
    r = q2_check_end (err);
  if (r == 0) {
    if (Q2_PLANTED (Q2_PLANT_EARLY_RELEASE))
      q2_writer_add_batch (w, &c.frees, take_batch (&c));
    if (Q2_PLANTED (Q2_PLANT_EARLY_RELEASE) &&
        q2_writer_release (w, io, 0, err) == -1)
      r = -1;
  }
  if (r == 0 && (r = step_2a (w, io, &c, err)) == 0)
    progress = Q2_PROGRESS_2A;
  if (r == 0 && (r = step_2b (w, io, &c, err)) == 0)
    progress = Q2_PROGRESS_2B;
  if (r == 0 && (r = step_3 (w, io, &c, err)) == 0)
    progress = Q2_PROGRESS_ALL;
  /* Before somebody else begins one. */
  if (r == -1 && err->kind == QCOW2_ERR_BUG)
    q2_writer_note_error (w, io, err);
  end_steps (w, &c, progress);
  return r;
}

/* ---- Commits -------------------------------------------------------- */

/* All that the commit has copied waits for the next one, and is not lost. */
static int
run_with_reserve (struct q2_writer *w, const struct q2_io *io,
                  struct qcow2_error *err)
{
  const struct qcow2_io *const host = io->host;
  const int r = run (w, io, err);

  if (r == 0 || err->kind != QCOW2_ERR_NO_SPACE ||
      w->state == Q2_WRITER_FAILED ||
      host->ops->spend == NULL || host->ops->spend (host->opaque) != 0)
    return r;
  return run (w, io, err);
}

/* Numbers and list are as they must be. */
static void
check_commits_locked (const struct q2_writer *w)
{
  q2_mutex_check_held (&w->commit_lock);
  q2_check (w->finished < w->gathering);
  q2_check (!w->committing || w->finished + 1 < w->gathering);
  q2_check ((w->first_batch == NULL) == (w->last_batch == &w->first_batch));
}

/* Run the commit that is being gathered.  Called and returns with the lock. */
static int
run_locked (struct q2_writer *w, const struct q2_io *io,
            struct qcow2_error *err)
{
  const uint64_t number = w->gathering++;
  int r;

  q2_mutex_check_held (&w->commit_lock);
  q2_check (!w->committing);
  w->committing = true;
  q2_mutex_unlock (&w->commit_lock);
  r = run_with_reserve (w, io, err);
  q2_mutex_lock (&w->commit_lock);
  q2_check (w->committing && w->finished < number);
  w->committing = false;
  if (r == 0)
    w->finished = number;
  pthread_cond_broadcast (&w->committed);
  return r;
}

/* The commit that is running has ended, or it is too late. */
static bool
wait_locked (struct q2_writer *w, const struct timespec *end)
{
  q2_mutex_check_held (&w->commit_lock);
  if (end == NULL) {
    q2_cond_wait (&w->committed, &w->commit_lock);
    return true;
  }
  return q2_cond_timedwait (&w->committed, &w->commit_lock, end) !=
    ETIMEDOUT;
}

/* 'end', of the monotonic clock, is when to stop waiting for somebody else;
 * NULL: never.  *ret_mine is whether this thread has run the commit.
 */
static int
commit (struct q2_writer *w, const struct q2_io *io,
        const struct timespec *end, bool *ret_mine, struct qcow2_error *err)
{
  uint64_t number;
  int r = 0;

  *ret_mine = false;
  q2_mutex_lock (&w->commit_lock);
  number = w->gathering;
  if (Q2_PLANTED (Q2_PLANT_JOIN_RUNNING) && w->committing)
    number--;
  while (r == 0 && w->finished < number) {
    check_commits_locked (w);
    r = q2_writer_check_committable (w, err);
    if (r == 0 && w->committing)
      r = wait_locked (w, end) ? 0 : Q2_WRITER_HUNG;
    else if (r == 0) {
      r = run_locked (w, io, err);
      *ret_mine = true;
    }
  }
  q2_mutex_unlock (&w->commit_lock);
  return r;
}

static int
commit_and_release (struct q2_writer *w, const struct q2_io *io,
                    const struct timespec *end, struct qcow2_error *err)
{
  bool mine;
  const int r = commit (w, io, end, &mine, err);

  /* The disk is as durable as was asked for; space that could not be
   * released, or that somebody else releases, is released later.
   */
  if (r == 0 && mine) {
    struct qcow2_error why;

    if (q2_writer_release (w, io, 0, &why) == -1) {
      q2_writer_log (w, QCOW2_LOG_DEBUG, why.text, why.advice);
      q2_writer_note_error (w, io, &why);
    }
  }
  return r;
}

int
q2_writer_commit (struct q2_writer *w, const struct q2_io *io,
                  struct qcow2_error *err)
{
  return commit_and_release (w, io, NULL, err);
}

int
q2_writer_commit_only (struct q2_writer *w, const struct q2_io *io,
                       struct qcow2_error *err)
{
  bool mine;

  return commit (w, io, NULL, &mine, err);
}

int
q2_writer_commit_for_space (struct q2_writer *w, const struct q2_io *io,
                            struct qcow2_error *err)
{
  const uint64_t ms = q2_now_ms () + w->patience_ms;
  const struct timespec end = {
    .tv_sec = (time_t) (ms / 1000), .tv_nsec = (long) (ms % 1000) * 1000000,
  };

  return commit_and_release (w, io, &end, err);
}

bool
q2_writer_is_dirty (struct q2_writer *w)
{
  bool dirty;

  if (!w->prepared)
    return false;
  q2_mutex_lock (&w->link_lock);
  dirty = q2_tables_nr_dirty (w->tables) > 0 || w->unlinked.nr > 0;
  q2_mutex_unlock (&w->link_lock);
  /* In this order: space on its way is in at least one of them. */
  return dirty || atomic_load (&w->nr_pending) > 0 ||
    q2_space_is_dirty (w->space);
}

bool
q2_writer_is_pressed (struct q2_writer *w)
{
  bool pressed;

  q2_mutex_lock (&w->link_lock);
  pressed = w->unlinked.nr > MAX_UNLINKED ||
    q2_tables_nr_dirty (w->tables) > q2_tables_capacity (w->tables) / 2;
  q2_mutex_unlock (&w->link_lock);
  return pressed || q2_space_is_pressed (w->space);
}
