/* SPDX-License-Identifier: BSD-3-Clause */
/* ahead_changes.c - what changes of the file do to the ahead buffers.
 *
 * Owns      the list of changes that are under way.
 * Method    before the host is asked to change a range, the buffers lose what
 *           they have of it, buffers that are loading and overlap it are
 *           spoiled, and the range is listed until the host has answered, well
 *           or not: a failed write may have reached the file.  What is listed
 *           cannot be claimed.  So a buffer was never read while its range
 *           changed, and has the bytes that the file has.
 *
 *           As long as nobody reads ahead, changes are not listed but only
 *           counted, without the lock.  Who claims says that changes have to
 *           be listed, and then looks whether one is counted; a change counts
 *           itself and then looks whether it has to be listed.  All of that is
 *           sequentially consistent, so at least one of two sees the other: it
 *           gives the claim up, or takes itself off the count and is listed.
 *           Those that were counted end, so the next claims succeed.
 *           tests/models/ahead.py has every interleaving.
 *
 *           Buffers are cut rather than dropped, where the longer part that is
 *           left is worth it: a client that reads and writes back what it has
 *           read goes on with the rest.  A pinned buffer, or one that others
 *           are copying from, is cut like any: its bytes stay where they are,
 *           and who had found them began before the change.
 * Locks     ahead.lock, for a few comparisons; none while the host is asked.
 */
#include "config.h"

#include "io/ahead_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/plant.h"

/* A rest of a buffer that is smaller is not kept. */
#define MIN_REST 4096u

static bool
overlap (uint64_t a_start, uint64_t a_end, uint64_t b_start, uint64_t b_end)
{
  return a_start < b_end && b_start < a_end;
}

/* ---- Claims ---------------------------------------------------------- */

bool
q2_ahead_arm_locked (struct q2_ahead *ahead, uint64_t start, uint64_t end)
{
  q2_mutex_check_held (&ahead->lock);
  atomic_store (&ahead->armed, true);
  if (Q2_PLANTED (Q2_PLANT_READ_CHANGING))
    return true;
  if (atomic_load (&ahead->unlisted) > 0)
    return false;
  for (const struct q2_ahead_change *c = ahead->changes; c; c = c->next)
    if (overlap (start, end, c->start, c->end))
      return false;
  return true;
}

/* ---- Changes --------------------------------------------------------- */

/* The client has likely used what it changes now. */
static void
cut_locked (struct q2_ahead *ahead, struct q2_ahead_buf *buf, uint64_t start,
            uint64_t end)
{
  const uint64_t cut = q2_ahead_size_of (buf) - (end - start);

  q2_mutex_check_held (&ahead->lock);
  buf->start = start;
  buf->end = end;
  buf->consumed = q2_min (buf->consumed - q2_min (buf->consumed, cut),
                          end - start);
}

/* Returns true if the buffer is to leave the list. */
static bool
drop_range_locked (struct q2_ahead *ahead, struct q2_ahead_buf *buf,
                   uint64_t start, uint64_t end)
{
  const uint64_t before = start - q2_min (start, buf->start);
  const uint64_t after = buf->end - q2_min (buf->end, end);

  q2_mutex_check_held (&ahead->lock);
  if (q2_max (before, after) < MIN_REST)
    return true;
  if (before > after)
    cut_locked (ahead, buf, buf->start, start);
  else
    cut_locked (ahead, buf, end, buf->end);
  return false;
}

static void
drop_locked (struct q2_ahead *ahead, uint64_t start, uint64_t end,
             struct q2_ahead_buf **gone)
{
  struct q2_ahead_buf *next;

  q2_mutex_check_held (&ahead->lock);
  for (struct q2_ahead_buf *buf = ahead->first; buf && buf->start < end;
       buf = next) {
    next = buf->next;
    if (!overlap (start, end, buf->start, buf->end))
      continue;
    if (buf->loading)
      buf->spoiled = !Q2_PLANTED (Q2_PLANT_KEEP_LOADING);
    else if (Q2_PLANTED (Q2_PLANT_KEEP_AHEAD))
      continue;
    else if (drop_range_locked (ahead, buf, start, end)) {
      q2_ahead_unlist_locked (ahead, buf);
      if (buf->pins == 0)
        q2_ahead_let_go_locked (ahead, buf, gone);
    }
  }
}

/* Returns true if the change is counted and need not be listed. */
static bool
count (struct q2_ahead *ahead)
{
  if (atomic_load (&ahead->armed))
    return false;
  atomic_fetch_add (&ahead->unlisted, 1);
  if (!atomic_load (&ahead->armed))
    return true;
  (void) q2_check (atomic_fetch_sub (&ahead->unlisted, 1) > 0);
  return false;
}

void
q2_ahead_begin_change (struct q2_ahead *ahead, uint64_t start, uint64_t end,
                       struct q2_ahead_change *change)
{
  struct q2_ahead_buf *gone = NULL;

  change->start = start;
  change->end = end;
  change->listed = !count (ahead);
  if (!change->listed)
    return;
  q2_mutex_lock (&ahead->lock);
  drop_locked (ahead, start, end, &gone);
  change->next = ahead->changes;
  ahead->changes = change;
  q2_mutex_unlock (&ahead->lock);
  q2_ahead_free_list (gone);
}

void
q2_ahead_end_change (struct q2_ahead *ahead, struct q2_ahead_change *change)
{
  struct q2_ahead_change **link = &ahead->changes;

  if (!change->listed) {
    (void) q2_check (atomic_fetch_sub (&ahead->unlisted, 1) > 0);
    return;
  }
  q2_mutex_lock (&ahead->lock);
  while (*link != NULL && *link != change)
    link = &(*link)->next;
  if (q2_check (*link == change))
    *link = change->next;
  q2_mutex_unlock (&ahead->lock);
}
