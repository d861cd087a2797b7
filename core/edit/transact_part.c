/* SPDX-License-Identifier: BSD-3-Clause */
/* transact_part.c - what a transaction does to one image.
 *
 * Owns      the beginning of its snapshot, its set of bitmaps, and the record
 *           of what changes meanwhile.
 * Locks     none of its own: the gate is claimed, or closed, as said there.
 */
#include "config.h"

#include "edit/transact_impl.h"

#include "base/assume.h"
#include "track/following.h"

/* A request that hangs has been waited for already. */
#define SHORT_MS 1000u

int
q2_transact_begin_taking (struct q2_member *m, struct qcow2_error *err)
{
  const int r =
    q2_taking_begin (&m->taking, &m->edit, m->part->snapshot, err);

  m->has_taking = r == 0;
  if (r == -1)
    q2_taking_free (&m->taking);
  return r;
}

/* The gate is closed. */
int
q2_transact_prepare_set (struct q2_member *m, struct qcow2_error *err)
{
  if (q2_bitmap_set_init (&m->set, &m->edit, err) == -1)
    return -1;
  m->has_set = true;
  if (q2_bitmaps_act (&m->set, m->part, err) == -1 ||
      (m->since != NULL &&
       q2_bitmaps_add_since (&m->set, m->part, m->since, err) == -1) ||
      q2_bitmap_set_prepare (&m->set, err) == -1)
    return -1;
  m->is_ready = true;
  return 0;
}

/* The writer's becomes the member's, or the other way round. */
void
q2_transact_swap_since (struct q2_member *m)
{
  struct q2_since *const since = m->edit.w->since;

  q2_check (q2_gate_is_closed (&m->part->image->gate));
  m->edit.w->since = m->since;
  m->since = since;
}

/* Nor is what was let go of bitmaps kept in memory.  If changes cannot be held
 * back the writer keeps both, until the image is closed or changed again.
 */
void
q2_transact_end_since (struct q2_member *m)
{
  const bool beside = m->edit.beside;
  struct qcow2_error why;

  if (m->part->nr_actions > 0 &&
      (m->edit.w->since != NULL ||
       (m->is_live && q2_track_has_gone (&m->edit.w->track)))) {
    q2_since_free (m->since);
    m->since = NULL;
    if (!beside ||
        q2_edit_freeze (&m->edit, m->what, SHORT_MS, &why) == 0) {
      q2_transact_swap_since (m);
      q2_track_purge (&m->edit.w->track);
      if (beside)
        q2_edit_thaw (&m->edit);
    }
  }
  q2_since_free (m->since);
  m->since = NULL;
}
