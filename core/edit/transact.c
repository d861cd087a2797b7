/* SPDX-License-Identifier: BSD-3-Clause */
/* transact.c - changes of bitmaps, and snapshots, of one or several images at
 * one point in time.
 *
 * Owns      qcow2_transact, and what it is for one image alone:
 *           qcow2_edit_bitmaps and qcow2_snapshot_create.
 * Method    the gates of all images are claimed, then closed; so no change of
 *           any disk runs.  Then everything is made ready for each image, to
 *           which nothing points yet; a failure up to here takes all of it
 *           back.  Then the header of one image after the other is switched:
 *           the bitmaps of an image and its snapshot become its own in one
 *           step.  If that fails, those not yet switched are taken back.
 *           Last, what is not needed any more is let go, and the gates open.
 *           With snapshots they are closed for a moment only, in which nothing
 *           is read or written: that is the point in time of all actions.  The
 *           snapshots are made ready beside changes.  If there are bitmaps the
 *           gates are closed once more for those, which takes long only if
 *           there are many bits; what changes in between is in those that are
 *           enabled.
 * Locks     gates, in the order of their addresses.  They are only tried, so
 *           that nobody waits for ever.
 */
#include "config.h"

#include "edit/transact_impl.h"

#include "base/assume.h"
#include "base/error.h"

#include <stdlib.h>

/* ---- Checks ------------------------------------------------------------- */

static int
check_sources (const struct qcow2_part *p, struct qcow2_error *err)
{
  for (size_t i = 0; i < p->nr_actions; ++i)
    for (size_t s = 0; s < p->actions[i].nr_sources; ++s) {
      const struct qcow2_bitmap_source *const from = &p->actions[i].sources[s];

      if (from->image != NULL && from->image != p->image)
        return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                        "a bitmap of another image cannot be merged while "
                        "several images are changed");
    }
  return 0;
}

/* Nothing has been written, and no gate is closed. */
static int
check (const struct q2_group *g, const struct q2_member *m,
       struct qcow2_error *err)
{
  const struct qcow2_part *const p = m->part;

  if (q2_edit_check (p->image, m->what, err) == -1 ||
      (p->nr_actions > 0 && q2_bitmaps_check_possible (p->image, err) == -1) ||
      (p->snapshot != NULL &&
       q2_taking_check (p->image, p->snapshot, err) == -1))
    return -1;
  return g->nr > 1 ? check_sources (p, err) : 0;
}

static int
compare (const void *x, const void *y)
{
  const struct q2_member *const *const a = x, *const *const b = y;
  const uintptr_t i = (uintptr_t) (*a)->part->image;
  const uintptr_t j = (uintptr_t) (*b)->part->image;

  return i < j ? -1 : i > j;
}

static int
check_all (struct q2_group *g, struct qcow2_error *err)
{
  for (size_t i = 0; i < g->nr; ++i) {
    g->failed = i;
    g->order[i] = &g->members[i];
    if (check (g, &g->members[i], err) == -1)
      return -1;
  }
  qsort (g->order, g->nr, sizeof (void *), compare);
  for (size_t i = 1; i < g->nr; ++i) {
    g->failed = (size_t) (g->order[i] - g->members);
    if (compare (&g->order[i - 1], &g->order[i]) == 0)
      return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                      "an image can only be changed once in a transaction");
  }
  return 0;
}

/* ---- Gates -------------------------------------------------------------- */

/* As long as flushing takes, which has no limit, nobody is held back. */
static int
commit_ahead (struct q2_group *g, struct qcow2_error *err)
{
  for (size_t i = 0; i < g->nr; ++i) {
    const struct q2_member *const m = &g->members[i];

    g->failed = i;
    if (q2_edit_commit_ahead (m->part->image, m->part->io, err) == -1)
      return -1;
  }
  return 0;
}

static int
claim_all (struct q2_group *g, struct qcow2_error *err)
{
  const uint64_t deadline = q2_now_ms () + Q2_WRITER_PATIENCE_MS;

  for (size_t i = 0; i < g->nr; ++i) {
    struct q2_member *const m = g->order[i];

    g->failed = (size_t) (m - g->members);
    if (!q2_assume (m->stage == WAITING, err) ||
        /* Their order is what keeps two transactions from waiting. */
        !q2_assume (i == 0 || compare (&g->order[i - 1], &g->order[i]) < 0,
                    err))
      return -1;
    if (q2_gate_claim (&m->part->image->gate, q2_ms_left (deadline)) != 0)
      return q2_fail (err, QCOW2_ERR_BUSY, QCOW2_NO_OFFSET,
                      "%s: another change of it has not ended for more than "
                      "%u seconds", m->what, Q2_WRITER_PATIENCE_MS / 1000);
    m->stage = CLAIMED;
  }
  return 0;
}

static int
close_all (struct q2_group *g, struct qcow2_error *err)
{
  const uint64_t deadline = q2_now_ms () + Q2_WRITER_PATIENCE_MS;

  for (size_t i = 0; i < g->nr; ++i) {
    struct q2_member *const m = g->order[i];

    g->failed = (size_t) (m - g->members);
    if (q2_gate_close_claimed (&m->part->image->gate, q2_ms_left (deadline))
        != 0)
      return q2_edit_fail_busy (m->what, err);
  }
  return 0;
}

/* ---- Each image --------------------------------------------------------- */

static int
prepare_all (struct q2_group *g, struct qcow2_error *err)
{
  for (size_t i = 0; i < g->nr; ++i) {
    struct q2_member *const m = &g->members[i];
    const struct qcow2_part *const p = m->part;

    g->failed = i;
    if (!q2_assume (m->stage == CLAIMED, err) ||
        q2_edit_begin_closed (&m->edit, p->image, p->io, Q2_EDIT_IMAGE,
                              m->what, err) == -1)
      return -1;
    m->stage = BEGUN;
    if (p->nr_actions > 0 && q2_transact_prepare_set (m, err) == -1)
      return -1;
    m->is_ready = true;
  }
  return 0;
}

/* ---- Switching ---------------------------------------------------------- */

/* Of several images none is switched before what the others need is durable:
 * a medium may be full, or fail.
 */
static int
commit_all (struct q2_group *g, struct qcow2_error *err)
{
  for (size_t i = 0; g->nr > 1 && i < g->nr; ++i) {
    g->failed = i;
    if (!q2_assume (g->members[i].is_ready, err) ||
        q2_edit_commit (&g->members[i].edit, err) == -1)
      return -1;
  }
  return 0;
}

static int
edit_header (void *opaque, struct q2_header_parts *parts,
             struct qcow2_error *err)
{
  struct q2_member *const m = opaque;

  if (m->has_set && q2_bitmap_set_edit_header (&m->set, parts, err) == -1)
    return -1;
  return m->has_taking ? q2_taking_edit_header (&m->taking, parts, err) : 0;
}

static int
switch_header (struct q2_member *m, struct qcow2_error *err)
{
  int r = 0;

  if (!q2_assume (m->stage == BEGUN && m->is_ready && !m->edit.switched, err))
    return -1;
  if (m->has_set && m->set.changed)
    r = q2_bitmap_set_switch (&m->set, edit_header, m, err);
  else if (m->has_taking)
    r = q2_edit_switch (&m->edit, edit_header, m, 0, err);
  if (r == 0)
    m->stage = SWITCHED;
  m->part->outcome = m->edit.outcome;   /* NOT_DONE: there was nothing to do */
  return r;
}

static int
switch_all (struct q2_group *g, struct qcow2_error *err)
{
  for (size_t i = 0; i < g->nr; ++i) {
    g->failed = i;
    if (switch_header (&g->members[i], err) == -1)
      return -1;
  }
  return 0;
}

/* ---- The end ------------------------------------------------------------ */

/* The header has it. */
static void
tidy (struct q2_member *m)
{
  q2_check (m->is_ready);
  /* Else nothing was stored, and those that are kept up still have to be. */
  if (m->has_set && m->set.changed) {
    q2_bitmap_set_finish (&m->set);
    if (!m->is_live)
      q2_bitmaps_drop_tracked (&m->edit, m->part);
  }
  if (m->has_taking)
    q2_taking_finish (&m->taking);
}

/* 'r' is what came of it, and *err belongs to it.  Opens the gate. */
static int
end_edit (struct q2_member *m, int r, struct qcow2_error *err)
{
  q2_check (m->stage == BEGUN || m->stage == SWITCHED);
  q2_transact_end_live (m);     /* before anything of it is released */
  if (m->stage == SWITCHED)
    tidy (m);
  else if (m->has_taking && !m->edit.switched)
    q2_taking_undo (&m->taking);
  if (m->has_set)
    q2_bitmap_set_destroy (&m->set);
  q2_transact_end_since (m);
  m->edit.done = "the image is changed";
  r = q2_edit_end (&m->edit, r, err);
  if (m->has_taking)
    q2_taking_free (&m->taking);
  return r;
}

/* One whose own steps have not failed. */
static int
end_other (struct q2_member *m, struct qcow2_error *ret_err)
{
  if (m->stage == SWITCHED)
    return end_edit (m, 0, ret_err);
  q2_fail (ret_err, QCOW2_ERR_CANCELLED, QCOW2_NO_OFFSET,
           "another image could not be changed");
  (void) end_edit (m, -1, ret_err);
  return 0;
}

static int
end_member (struct q2_group *g, size_t i, int r, struct qcow2_error *err)
{
  struct q2_member *const m = &g->members[i];
  struct qcow2_error why;

  if (m->stage == WAITING)
    return r;
  if (m->stage == CLAIMED)
    q2_gate_open (&m->part->image->gate);
  else if (r == -1 && i == g->failed)
    (void) end_edit (m, -1, err);
  else if (end_other (m, &why) == -1) {
    if (r == 0) {
      g->failed = i;
      *err = why;
    }
    else
      q2_writer_log (m->edit.w, QCOW2_LOG_WARNING, why.text, why.advice);
    return -1;
  }
  return r;
}

/* Returns what the caller is to return. */
static int
end_all (struct q2_group *g, int r, struct qcow2_error *err)
{
  if (r == -1)
    q2_transact_let_on (g);
  /* Those that are done need nothing of the others, and their gates may be
   * closed.
   */
  for (size_t i = 0; r == -1 && i < g->nr; ++i)
    if (g->members[i].stage == SWITCHED && i != g->failed) {
      (void) end_member (g, i, -1, err);
      g->members[i].stage = WAITING;
    }
  /* The one that has failed first, whatever else fails now. */
  if (r == -1 && q2_check (g->failed < g->nr)) {
    (void) end_member (g, g->failed, -1, err);
    g->members[g->failed].stage = WAITING;
  }
  for (size_t i = 0; i < g->nr; ++i)
    r = end_member (g, i, r, err);
  return r;
}

static int
run (struct q2_group *g, struct qcow2_error *err)
{
  int r = check_all (g, err);

  if (r == 0 && !g->beside)
    r = commit_ahead (g, err);
  if (r == 0)
    r = claim_all (g, err);
  if (r == 0 && g->beside)
    r = q2_transact_prepare_beside (g, err);
  else if (r == 0) {
    r = close_all (g, err);
    if (r == 0)
      r = prepare_all (g, err);
  }
  if (r == 0)
    r = commit_all (g, err);
  if (r == 0)
    r = switch_all (g, err);
  return end_all (g, r, err);
}

/* ------------------------------------------------------------------------ */

int
qcow2_transact (struct qcow2_part *parts, size_t nr, size_t *ret_failed,
                struct qcow2_error *err)
{
  struct q2_group g = { .nr = nr };
  int r;

  *ret_failed = 0;
  for (size_t i = 0; i < nr; ++i)
    parts[i].outcome = QCOW2_OUTCOME_NOT_DONE;
  if (nr > QCOW2_MAX_PARTS)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "a transaction can have %d images", QCOW2_MAX_PARTS);
  for (size_t i = 0; i < nr; ++i)
    g.beside |= parts[i].snapshot != NULL ||
      q2_writer_is_for_disk (&parts[i].image->writer);
  g.members = calloc (nr + 1, sizeof *g.members);
  g.order = calloc (nr + 1, sizeof (struct q2_member *));
  if (g.members == NULL || g.order == NULL)
    r = q2_fail_nomem (err, "a transaction");
  else {
    for (size_t i = 0; i < nr; ++i)
      g.members[i] = (struct q2_member) {
        .part = &parts[i],
        .what = parts[i].nr_actions > 0 ? "bitmaps cannot be changed"
          : "the snapshot cannot be taken",
      };
    r = run (&g, err);
  }
  *ret_failed = g.failed;
  free (g.members);
  free (g.order);
  return r;
}

static int
transact_one (struct qcow2_part part, struct qcow2_error *err)
{
  size_t ignored;

  if (qcow2_transact (&part, 1, &ignored, err) == 0)
    return 0;
  err->outcome = part.outcome;
  return -1;
}

int
qcow2_edit_bitmaps (struct qcow2_image *image, const struct qcow2_io *host,
                    const struct qcow2_bitmap_action *actions, size_t nr,
                    qcow2_progress_fn progress, void *progress_opaque,
                    struct qcow2_error *err)
{
  const struct qcow2_part part = {
    .image = image, .io = host, .actions = actions, .nr_actions = nr,
    .progress = progress, .progress_opaque = progress_opaque,
  };

  return transact_one (part, err);
}

int
qcow2_snapshot_create (struct qcow2_image *image, const struct qcow2_io *host,
                       const struct qcow2_snapshot_options *options,
                       struct qcow2_error *err)
{
  const struct qcow2_part part = {
    .image = image, .io = host, .snapshot = options,
  };

  return transact_one (part, err);
}
