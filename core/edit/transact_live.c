/* SPDX-License-Identifier: BSD-3-Clause */
/* transact_live.c - bitmaps of an image whose disk changes meanwhile.
 *
 * Owns      the steps of one image, after the moment that its actions are of.
 * Method    the gate is closed once more, in which nothing is read or written.
 *
 *             before   the next set is in the file, and nothing points to it
 *             closed   what has changed since the moment is added to those of
 *                      it that are enabled, in memory; from now on the tracker
 *                      keeps both sets up
 *             after    the next set is made as true in the file as the old
 *                      one; then the header is switched, and the tracker lets
 *                      go of the old set
 *
 *           So no change waits for I/O of this.  It is for a disk that is
 *           being written to: what is enabled is kept up already, and marked
 *           if need be, and remains so.  Otherwise the bitmaps are not to be
 *           marked, and the gate is closed until the header has them
 *           (transact_part.c).
 * Locks     the gate is claimed, and closed as said there.
 */
#include "config.h"

#include "edit/transact_impl.h"

#include "base/assume.h"
#include "base/error.h"
#include "track/following.h"

/* A view reads the table of one that is kept up, and was opened before: with
 * changes held back it need not get another one.
 */
static bool
is_pinned (const struct q2_member *m)
{
  return m->has_pinned && m->edit.w->track.mode == QCOW2_BITMAPS_DURABLE;
}

void
q2_transact_choose_live (struct q2_member *m)
{
  struct q2_writer *const w = m->edit.w;

  q2_check (q2_gate_is_closed (&m->part->image->gate));
  m->is_live = m->part->nr_actions > 0 && q2_writer_is_for_disk (w) &&
    w->track.mode != QCOW2_BITMAPS_INVALIDATE && !is_pinned (m);
  if (m->is_live) {
    q2_track_prepare (&w->track, &m->edit.io, w->overlap);
    q2_track_purge (&w->track);
  }
}

static int
make (struct q2_member *m, struct qcow2_error *err)
{
  if (q2_bitmap_set_init_live (&m->set, &m->edit, err) == -1)
    return -1;
  m->has_set = true;
  return q2_bitmaps_act (&m->set, m->part, err) == -1 ||
    (m->set.changed && q2_bitmap_set_make_next (&m->set, err) == -1) ||
    q2_bitmap_set_prepare (&m->set, err) == -1 ? -1 : 0;
}

/* The second moment. */
static int
follow (struct q2_member *m, struct qcow2_error *err)
{
  if (q2_edit_freeze (&m->edit, m->what, m->edit.w->patience_ms, err) == -1)
    return -1;
  q2_transact_swap_since (m);
  q2_bitmap_set_follow (&m->set, m->since);
  m->is_followed = true;
  q2_edit_thaw (&m->edit);
  q2_since_free (m->since);
  m->since = NULL;
  return q2_bitmap_set_catch_up (&m->set, err);
}

int
q2_transact_prepare_live (struct q2_member *m, struct qcow2_error *err)
{
  if (!q2_assume (m->is_live, err) || make (m, err) == -1 ||
      (m->set.changed && follow (m, err) == -1))
    return -1;
  m->is_ready = true;
  return 0;
}

void
q2_transact_end_live (struct q2_member *m)
{
  const bool switched = m->stage == SWITCHED;

  /* Nothing is written any more if it is not known which header it is. */
  if (!m->is_followed || (m->edit.switched && !switched))
    return;
  q2_bitmap_set_unfollow (&m->set, switched);
  m->is_followed = false;
}
