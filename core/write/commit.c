/* SPDX-License-Identifier: BSD-3-Clause */
/* commit.c - who makes changes durable, and who waits for that.
 *
 * Owns      the numbered commits; their steps are in steps.c, and what they
 *           let go in batches.c.
 * Method    one commit runs at a time.  Whoever wants one joins the one that
 *           has not begun yet, and waits or runs it himself.  If it fails,
 *           everything it had copied counts as changed again, and each of
 *           those who waited tries himself.
 * Locks     commit_lock guards the numbers, and is not held over I/O.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#include <errno.h>

/* When to commit without being asked. */
#define MAX_UNLINKED 65536

/* All that the commit has copied waits for the next one, and is not lost. */
static int
run_with_reserve (struct q2_writer *w, const struct q2_io *io,
                  struct qcow2_error *err)
{
  const struct qcow2_io *const host = io->host;
  const int r = q2_writer_take_steps (w, io, err);

  if (r == 0 || err->kind != QCOW2_ERR_NO_SPACE ||
      w->state == Q2_WRITER_FAILED ||
      host->ops->spend == NULL || host->ops->spend (host->opaque) != 0)
    return r;
  return q2_writer_take_steps (w, io, err);
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
