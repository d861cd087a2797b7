/* SPDX-License-Identifier: BSD-3-Clause */
/* transact_beside.c - a transaction with snapshots, while the disks change.
 *
 * Owns      the moment that all actions are of, and what changes after it.
 * Method    the gates of all images are closed for that moment, in which
 *           nothing is read or written; then the snapshots are made ready, and
 *           writers take care of them (write/sharing.h).  Bitmaps need that no
 *           change runs, so last the gates of images with bitmaps are closed
 *           until the header has them.  What has changed since the moment is
 *           recorded in memory (track/since.h), and added to bitmaps that are
 *           enabled.  Others may have a little more than they should: what one
 *           that is disabled has got since then.
 * Locks     gates, claimed before; a change never waits for two of them, so
 *           their order does not matter any more.
 */
#include "config.h"

#include "edit/transact_impl.h"

#include "base/assume.h"
#include "base/error.h"

/* What is wrong with names of bitmaps is found before a snapshot is taken. */
static int
rehearse (struct q2_member *m, struct qcow2_error *err)
{
  struct q2_bitmap_set set;

  if (q2_bitmap_set_init (&set, &m->edit, err) == -1)
    return -1;
  if (q2_bitmaps_rehearse (&set, m->part, err) == 0)
    m->since = q2_since_new (m->edit.w->geo, q2_bitmap_set_finest (&set),
                             q2_io_budget (&m->edit.io), err);
  m->has_pinned = set.has_pinned;
  q2_bitmap_set_destroy (&set);
  if (m->since == NULL)
    return -1;
  m->edit.aside = false;        /* what is read next is the disk's */
  return 0;
}

static int
begin_all_beside (struct q2_group *g, struct qcow2_error *err)
{
  for (size_t i = 0; i < g->nr; ++i) {
    struct q2_member *const m = &g->members[i];
    const struct qcow2_part *const p = m->part;

    g->failed = i;
    if (!q2_assume (m->stage == CLAIMED, err) ||
        q2_edit_begin_beside (&m->edit, p->image, p->io, m->what, err) == -1)
      return -1;
    m->stage = BEGUN;
    if ((p->nr_actions > 0 && rehearse (m, err) == -1) ||
        (p->snapshot != NULL && q2_transact_begin_taking (m, err) == -1))
      return -1;
  }
  return 0;
}

/* It has bitmaps, and they are made with the gate closed. */
static bool
is_held (const struct q2_member *m)
{
  return m->part->nr_actions > 0 && !m->is_live;
}

/* Those that are held, or all. */
static int
freeze (struct q2_group *g, bool all, struct qcow2_error *err)
{
  const uint64_t deadline = q2_now_ms () + Q2_WRITER_PATIENCE_MS;

  for (size_t i = 0; i < g->nr; ++i) {
    struct q2_member *const m = g->order[i];

    if (!all && !is_held (m))
      continue;
    g->failed = (size_t) (m - g->members);
    if (q2_edit_freeze (&m->edit, m->what, q2_ms_left (deadline), err) == -1)
      return -1;
    m->is_frozen = true;
  }
  return 0;
}

static void
thaw (struct q2_member *m)
{
  if (m->is_frozen)
    q2_edit_thaw (&m->edit);
  m->is_frozen = false;
}

/* The point in time of all actions. */
static int
capture_all (struct q2_group *g, struct qcow2_error *err)
{
  const int r = freeze (g, true, err);

  for (size_t i = 0; r == 0 && i < g->nr; ++i) {
    struct q2_member *const m = &g->members[i];

    if (m->part->snapshot != NULL)
      q2_taking_capture (&m->taking);
    if (m->part->nr_actions > 0) {
      q2_transact_swap_since (m);
      /* If changes could not be held back when it was to end. */
      q2_since_free (m->since);
      m->since = NULL;
      q2_transact_choose_live (m);
    }
  }
  for (size_t i = 0; i < g->nr; ++i)
    thaw (&g->members[i]);
  return r;
}

/* The gates stay closed until the end. */
static int
prepare_sets (struct q2_group *g, struct qcow2_error *err)
{
  if (freeze (g, false, err) == -1)
    return -1;
  for (size_t i = 0; i < g->nr; ++i) {
    struct q2_member *const m = &g->members[i];

    g->failed = i;
    if (!is_held (m))
      continue;
    q2_transact_swap_since (m);
    if (q2_edit_commit (&m->edit, err) == -1 ||
        q2_transact_prepare_set (m, err) == -1)
      return -1;
  }
  return 0;
}

/* Writers of those with bitmaps are going to wait for a commit. */
static int
commit_ahead_of_sets (struct q2_group *g, struct qcow2_error *err)
{
  for (size_t i = 0; i < g->nr; ++i) {
    const struct qcow2_part *const p = g->members[i].part;

    g->failed = i;
    if (is_held (&g->members[i]) &&
        q2_edit_commit_ahead (p->image, p->io, err) == -1)
      return -1;
  }
  return 0;
}

int
q2_transact_prepare_beside (struct q2_group *g, struct qcow2_error *err)
{
  if (begin_all_beside (g, err) == -1 || capture_all (g, err) == -1)
    return -1;
  for (size_t i = 0; i < g->nr; ++i) {
    struct q2_member *const m = &g->members[i];

    g->failed = i;
    if (m->part->snapshot != NULL && q2_taking_prepare (&m->taking, err) == -1)
      return -1;
    m->is_ready = m->part->nr_actions == 0;
    if (m->is_live && q2_transact_prepare_live (m, err) == -1)
      return -1;
  }
  return commit_ahead_of_sets (g, err) == -1 ? -1 : prepare_sets (g, err);
}

void
q2_transact_let_on (struct q2_group *g)
{
  for (size_t i = 0; i < g->nr; ++i) {
    struct q2_member *const m = &g->members[i];

    if (m->stage == BEGUN && m->is_frozen) {
      q2_transact_end_since (m);
      thaw (m);
    }
  }
}
