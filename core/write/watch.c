/* SPDX-License-Identifier: BSD-3-Clause */
/* watch.c - what a check has to know of changes while it counts.
 *
 * Owns      who is told of changes, and the moment in which a suspect is
 *           judged.
 * Method    references change under link_lock (entries.c), refcounts under
 *           space.lock (alloc/refcounts.c); both tell the suspects.  A suspect
 *           is judged with both locks held: what nobody has told of has not
 *           changed.  What was let go before somebody began to watch, and
 *           still has its refcount, is waited for (q2_writer_drain).
 * Locks     link_lock guards w->suspects; space.lock the same pointer of the
 *           refcounts.  Neither is held over I/O.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/error.h"

void
q2_writer_watch (struct q2_writer *w, struct q2_suspects *suspects)
{
  q2_mutex_lock (&w->link_lock);
  q2_check (w->suspects == NULL || suspects == NULL);
  w->suspects = suspects;
  q2_space_watch (w->space, suspects);
  q2_mutex_unlock (&w->link_lock);
}

/* The commit has what was let go until now; its batch, and those before it,
 * are released when all have left that are in flight after it.
 */
static int
begin_drain (struct q2_writer *w, const struct q2_io *io, unsigned ms,
             uint64_t *ret_last, struct qcow2_error *err)
{
  if (q2_writer_commit_only (w, io, err) == -1)
    return -1;
  if (!q2_writer_settle (w, ms))
    return Q2_WRITER_HUNG;
  *ret_last = q2_flight_stamp (&w->flight);
  return 0;
}

int
q2_writer_drain (struct q2_writer *w, const struct q2_io *io, unsigned ms,
                 uint64_t *last, struct qcow2_error *err)
{
  int r = 0;

  if (Q2_PLANTED (Q2_PLANT_FORGET_PENDING))
    return 0;
  if (*last == Q2_DRAIN_BEGIN)
    r = begin_drain (w, io, ms, last, err);
  while (r == 0 &&
         (r = q2_writer_release_gently (w, io, *last, ms, err)) ==
         Q2_SPACE_COMMIT_FIRST)
    r = q2_writer_commit_only (w, io, err);
  if (r == -1)
    q2_writer_note_error (w, io, err);
  return r;
}

/* Returns 0 or -1. */
static int
fetch (struct q2_writer *w, const struct q2_io *io,
       const struct q2_need *need, struct qcow2_error *err)
{
  const int r = q2_space_load (w->space, io, need, err);

  return r == Q2_SPACE_COMMIT_FIRST ? q2_writer_commit (w, io, err) : r;
}

int
q2_writer_judge (struct q2_writer *w, const struct q2_io *io,
                 const struct q2_leak *leak, bool lower,
                 uint64_t *ret_refcount, bool *ret_same,
                 struct qcow2_error *err)
{
  for (;;) {
    struct q2_need need;
    bool known, touched;

    q2_mutex_lock (&w->link_lock);
    known = q2_space_judge (w->space, leak->suspects, leak->i, leak->count,
                            lower, ret_refcount, &touched, &need);
    q2_mutex_unlock (&w->link_lock);
    *ret_same = !touched;
    if (known)
      return 0;
    if (fetch (w, io, &need, err) == -1)
      return -1;
  }
}

int
q2_writer_refcounts (struct q2_writer *w, const struct q2_io *io,
                     uint64_t cluster, uint64_t nr, uint64_t *ret_values,
                     uint64_t *ret_nr, struct qcow2_error *err)
{
  struct q2_need need;

  while (!q2_space_peek (w->space, cluster, nr, ret_values, ret_nr, &need))
    if (fetch (w, io, &need, err) == -1)
      return -1;
  return q2_assume (*ret_nr > 0 && *ret_nr <= nr, err) ? 0 : -1;
}
