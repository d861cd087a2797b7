/* SPDX-License-Identifier: BSD-3-Clause */
/* states.c - what may be done to an image that is open for writing.
 *
 * Owns      w->state, and what is told to those who may not do it.
 * Method    one function for each edge of the diagram in states.h.  Any thread
 *           may find that a flush has failed at any moment, so an edge is a
 *           compare and exchange that only ever moves on to what is worse.
 * Locks     none; the state is an atomic.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/error.h"


/* ---- Edges ---------------------------------------------------------- */

static bool
move (struct q2_writer *w, enum q2_writer_state from, enum q2_writer_state to)
{
  return atomic_compare_exchange_strong (&w->state, &from, to);
}

/* From anything that is better, but not from the end. */
static bool
worsen (struct q2_writer *w, enum q2_writer_state to)
{
  enum q2_writer_state now = atomic_load (&w->state);

  while (now < to) {
    if (atomic_compare_exchange_weak (&w->state, &now, to))
      return true;
  }
  return false;
}

void
q2_writer_begin_activating (struct q2_writer *w)
{
  q2_check (move (w, Q2_WRITER_OPEN, Q2_WRITER_ACTIVATING) ||
            atomic_load (&w->state) >= Q2_WRITER_BUGGY);
}

void
q2_writer_end_activating (struct q2_writer *w, bool prepared)
{
  if (prepared)
    atomic_store (&w->prepared, true);
  q2_check (move (w, Q2_WRITER_ACTIVATING,
                  prepared ? Q2_WRITER_ACTIVE : Q2_WRITER_OPEN) ||
            atomic_load (&w->state) >= Q2_WRITER_BUGGY);
  q2_writer_assert (w);
}

bool
q2_writer_become_corrupt (struct q2_writer *w)
{
  q2_writer_assert (w);
  return move (w, Q2_WRITER_ACTIVE, Q2_WRITER_CORRUPT);
}

bool
q2_writer_become_buggy (struct q2_writer *w)
{
  q2_writer_assert (w);
  return worsen (w, Q2_WRITER_BUGGY);
}

void
q2_writer_become_failed (struct q2_writer *w)
{
  q2_writer_assert (w);
  worsen (w, Q2_WRITER_FAILED);
}

void
q2_writer_become_ended (struct q2_writer *w)
{
  q2_writer_assert (w);
  q2_check (move (w, Q2_WRITER_ACTIVE, Q2_WRITER_ENDED));
}

/* ---- Questions ------------------------------------------------------ */

static int
fail_flushed (struct qcow2_error *err)
{
  return q2_fail_advise (err, QCOW2_ERR_IO, QCOW2_ADVICE_REOPEN,
                         QCOW2_NO_OFFSET,
                         "a flush of the image file has failed, so it is not "
                         "known what is in there, and nothing is written any "
                         "more");
}

int
q2_writer_fail_bug (struct qcow2_error *err)
{
  return q2_fail_advise (err, QCOW2_ERR_IO, QCOW2_ADVICE_REOPEN,
                         QCOW2_NO_OFFSET,
                         "nothing is written any more because of a bug of "
                         "this program, which was logged before");
}

int
q2_writer_check_committable (struct q2_writer *w, struct qcow2_error *err)
{
  const enum q2_writer_state state = atomic_load (&w->state);

  if (state == Q2_WRITER_FAILED)
    return fail_flushed (err);
  return state == Q2_WRITER_BUGGY ? q2_writer_fail_bug (err) : 0;
}

int
q2_writer_check_usable (struct q2_writer *w, struct qcow2_error *err)
{
  const enum q2_writer_state state = atomic_load (&w->state);

  q2_writer_assert (w);
  if (!q2_assume (state != Q2_WRITER_ENDED, err) ||
      q2_writer_check_committable (w, err) == -1)
    return -1;
  if (state == Q2_WRITER_CORRUPT)
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                           QCOW2_NO_OFFSET,
                           "nothing is written since the image was found to "
                           "be corrupt");
  return 0;
}

/* In this order: what is true from a moment on is looked at after it. */
#ifdef DEBUG_ASSERTIONS
void
q2_writer_assert (struct q2_writer *w)
{
  const enum q2_writer_state state = atomic_load (&w->state);
  const bool prepared = atomic_load (&w->prepared);

  q2_check (state <= Q2_WRITER_ENDED);
  q2_check (w->geo != NULL && w->superblock != NULL && w->tables != NULL);
  /* Nobody who is active, or was, loses what he has. */
  if (state == Q2_WRITER_ACTIVE || state == Q2_WRITER_CORRUPT ||
      state == Q2_WRITER_ENDED)
    q2_check (prepared);
  if (!prepared)
    return;
  q2_check (w->overlap != NULL && w->space != NULL);
  q2_check (w->repair == NULL);
  q2_check (w->unclosed == Q2_UNCLOSED_CLEAN);
}
#endif
