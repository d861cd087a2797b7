/* SPDX-License-Identifier: BSD-3-Clause */
/* following.c - the next set of bitmaps, until the header names it.
 *
 * Owns      which bitmaps are kept up while two sets are, and the next
 *           directory.
 * Method    bitmaps of both sets are in one list, so a request sets its bits
 *           in both, and waits until they are durable in both; a crash may
 *           leave either header.  Entries are told from each other by their
 *           tables.  One that is let go is lost first, with the lock, so no
 *           bits of it are written after that; its memory is free when no
 *           request can look at it any more.
 *           A bitmap that cannot be kept up is marked in both directories, or
 *           when the next one comes: which of them the header names may not be
 *           known in that moment.
 * Locks     track.lock; the list changes with the gate closed only.
 *           tests/models/bitmap_sets.py is the model.
 */
#include "config.h"

#include "track/following.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"
#include "track/tracked.h"

/* Bytes of bits that are written with the lock, which requests may need. */
#define PIECE 1024

/* ---- What is there ---------------------------------------------------- */

uint64_t
q2_track_bytes (const struct q2_track *track, const struct q2_bitmap *b)
{
  const struct q2_tracked *const t = q2_tracked_find (track, b);

  return t == NULL ? 0 : t->len;
}

void
q2_track_copy (const struct q2_track *track, const struct q2_bitmap *b,
               unsigned char *ret_bits)
{
  const struct q2_tracked *t = track->first;

  /* What was lost meanwhile had all bits until then. */
  while (t != NULL && (t->gone || !q2_tracked_is (track, t, b)))
    t = t->next;
  if (q2_check (t != NULL))
    for (uint64_t i = 0; i < t->len; ++i)
      ret_bits[i] = t->bits[i];
}

/* ---- Following -------------------------------------------------------- */

void
q2_track_prepare (struct q2_track *track, const struct q2_io *io,
                  struct q2_overlap *overlap)
{
  track->overlap = overlap;
  track->budget = q2_io_budget (io);
}

/* Bit 'i' of what has changed. */
static void
add_bit (struct q2_tracked *t, const struct q2_since *since, uint64_t i)
{
  const unsigned bits = since->like.granularity_bits;
  const uint64_t first = i << bits >> t->granularity_bits;
  const uint64_t last = (((i + 1) << bits) - 1) >> t->granularity_bits;

  if (first < t->nr_bits)
    (void) q2_tracked_set (t, first, q2_min (last, t->nr_bits - 1));
}

static void
add_byte (struct q2_tracked *t, const struct q2_since *since, uint64_t at)
{
  const unsigned byte =
    atomic_load_explicit (&since->bits[at], memory_order_relaxed);

  for (unsigned bit = 0; byte >> bit != 0; ++bit)
    if (byte >> bit & 1)
      add_bit (t, since, at * 8 + bit);
}

static void
add_since (struct q2_tracked *t, const struct q2_since *since)
{
  for (uint64_t block = 0; block < since->len; block += Q2_SINCE_BLOCK)
    if (since->blocks[block / Q2_SINCE_BLOCK])
      for (uint64_t at = block;
           at < q2_min (block + Q2_SINCE_BLOCK, since->len); ++at)
        add_byte (t, since, at);
}

void
q2_follow (struct q2_track *track, struct q2_tracked *list,
           const struct q2_since *since)
{
  while (list != NULL) {
    struct q2_tracked *const t = list;

    list = t->next;
    if (since != NULL)
      add_since (t, since);
    t->is_next = true;
    t->next = track->first;
    track->first = t;
  }
}

/* ---- In the file ------------------------------------------------------ */

/* Some bytes of the bits: those that memory has, and the file has not. */
static int
write_piece (struct q2_track *track, const struct q2_io *io,
             struct q2_tracked *t, uint64_t at, uint64_t n,
             struct qcow2_error *err)
{
  unsigned char buf[PIECE];
  uint64_t first = n, end = 0;

  for (uint64_t i = 0; i < n; ++i) {
    const unsigned old = t->durable[at + i];

    buf[i] = (unsigned char) (old | t->bits[at + i]);
    if (buf[i] != old) {
      first = q2_min (first, i);
      end = i + 1;
    }
  }
  if (first >= end)
    return 0;
  if (q2_tracked_write (track, io, t, buf + first, at + first, end - first,
                        err) == -1)
    return -1;
  /* They are durable when the header names them, and not looked at before. */
  for (uint64_t i = first; i < end; ++i)
    t->durable[at + i] = buf[i];
  return 0;
}

static int
catch_up (struct q2_track *track, const struct q2_io *io,
          struct q2_tracked *t, struct qcow2_error *err)
{
  int r = 0;

  for (uint64_t at = 0; r == 0 && at < t->len; at += PIECE) {
    q2_mutex_lock (&track->lock);
    if (q2_tracked_is_kept (t))
      r = write_piece (track, io, t, at, q2_min (t->len - at, PIECE), err);
    else if (!t->lost)          /* nobody could mark it since it failed */
      r = q2_track_give_up_locked (track, io, "its bits cannot be written",
                                   err);
    q2_mutex_unlock (&track->lock);
  }
  return r;
}

int
q2_follow_ready (struct q2_track *track, const struct q2_io *io, uint32_t nr,
                 uint64_t dir_offset, uint64_t dir_bytes,
                 struct qcow2_error *err)
{
  int r;

  q2_mutex_lock (&track->lock);
  track->next_dir.is_there = true;
  track->next_dir.nr = nr;
  track->next_dir.offset = dir_offset;
  track->next_dir.bytes = dir_bytes;
  r = q2_track_mark_next_locked (track, io, err);
  q2_mutex_unlock (&track->lock);
  for (struct q2_tracked *t = track->first; r == 0 && t != NULL; t = t->next)
    if (t->is_next && t->durable != NULL)
      r = catch_up (track, io, t, err);
  return r;
}

/* ---- The end ---------------------------------------------------------- */

void
q2_follow_end (struct q2_track *track, q2_follow_fn has, const void *opaque)
{
  q2_mutex_lock (&track->lock);
  track->next_dir.is_there = false;
  for (struct q2_tracked *t = track->first; t != NULL; t = t->next) {
    const bool stays = has != NULL ? has (opaque, track, t) : !t->is_next;

    t->is_next = false;
    if (!stays)
      t->lost = t->gone = true;
  }
  q2_mutex_unlock (&track->lock);
}

bool
q2_track_has_gone (const struct q2_track *track)
{
  const struct q2_tracked *t = track->first;

  while (t != NULL && !t->gone)
    t = t->next;
  return t != NULL;
}

void
q2_track_purge (struct q2_track *track)
{
  struct q2_tracked **p = &track->first;

  while (*p != NULL) {
    struct q2_tracked *const t = *p;

    if (!t->gone)
      p = &t->next;
    else {
      *p = t->next;
      q2_tracked_free (track, t);
    }
  }
}
