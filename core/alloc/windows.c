/* SPDX-License-Identifier: BSD-3-Clause */
/* windows.c - what is reserved for streams.
 *
 * Owns      the notes of which clusters those are.
 * Method    a stream is somebody who fills the disk cluster after cluster,
 *           with several requests at once, so nearly in order.  When it
 *           comes back for more, a larger window of the file is reserved
 *           for it, so that several streams do not interleave, and each
 *           cluster has its place there, so that it does not matter who
 *           comes first:
 *
 *             disk  ... | 40 | 41 | 42 | 43 | ...     stream 40, size 4
 *                         |    |    |    |
 *             file  ... | 90 | 91 | 92 | 93 | ...     start 90
 *                         x         x                 taken, left 2
 *
 *           A reservation is only a note here: its refcounts are still 0.
 * Locks     space.lock is the caller's.
 */
#include "config.h"

#include "alloc/space_impl.h"

#include "base/assume.h"
#include "base/bits.h"

static bool
is_taken (const struct q2_space_window *w, uint64_t i)
{
  if (!q2_check (i < Q2_SPACE_MAX_WINDOW))
    return true;
  return w->taken[i / 64] >> i % 64 & 1;
}

uint64_t
q2_space_next_taken (const struct q2_space_window *w, uint64_t i, bool taken)
{
  while (i < w->size && is_taken (w, i) != taken)
    ++i;
  return i;
}

static uint64_t
count_taken (const struct q2_space_window *w)
{
  uint64_t n = 0;

  for (size_t i = 0; i < Q2_SPACE_MAX_WINDOW / 64; ++i)
    n += (uint64_t) __builtin_popcountll (w->taken[i]);
  return n;
}

struct q2_space_window *
q2_space_find_window_locked (struct q2_space *s, uint64_t stream,
                             uint64_t *ret_i)
{
  q2_mutex_check_held (&s->lock);
  for (size_t n = 0; n < Q2_SPACE_WINDOWS; ++n) {
    struct q2_space_window *const w = &s->windows[n];

    if (w->left == 0 || stream < w->stream || stream - w->stream >= w->size)
      continue;
    /* Tables all have the number of the first. */
    *ret_i = stream == Q2_SPACE_TABLES ? q2_space_next_taken (w, 0, false)
      : stream - w->stream;
    if (!is_taken (w, *ret_i))
      return w;
  }
  return NULL;
}

void
q2_space_drop_window_locked (struct q2_space *s, struct q2_space_window *w)
{
  q2_mutex_check_held (&s->lock);
  q2_check (w->size <= Q2_SPACE_MAX_WINDOW && w->left <= w->size);
  q2_check (count_taken (w) == w->size - w->left);
  if (w->left > 0)
    q2_space_note_freed_locked
      (s, w->start + q2_space_next_taken (w, 0, false), 1);
  *w = (struct q2_space_window) { .size = 0 };
}

struct q2_space_window *
q2_space_oldest_window_locked (struct q2_space *s)
{
  struct q2_space_window *oldest = &s->windows[0];

  q2_mutex_check_held (&s->lock);
  for (size_t i = 1; i < Q2_SPACE_WINDOWS; ++i)
    if (s->windows[i].last_use < oldest->last_use)
      oldest = &s->windows[i];
  return oldest;
}

uint64_t
q2_space_avoid_windows_locked (const struct q2_space *s, uint64_t first,
                               uint64_t *nr)
{
  q2_mutex_check_held (&s->lock);
  for (size_t n = 0; n < Q2_SPACE_WINDOWS; ++n) {
    const struct q2_space_window *const w = &s->windows[n];
    uint64_t i;

    if (w->left == 0 || w->start >= first + *nr ||
        w->start + w->size <= first)
      continue;
    i = q2_space_next_taken (w, first > w->start ? first - w->start : 0,
                             false);
    if (w->start + i == first)
      return w->start + q2_space_next_taken (w, i, true);
    if (i < w->size)
      *nr = q2_min (*nr, w->start + i - first);
  }
  return 0;
}

bool
q2_space_drop_windows (struct q2_space *s)
{
  bool any;

  q2_mutex_lock (&s->lock);
  any = s->lowest_skipped != Q2_SPACE_NONE;
  s->lowest_freed = q2_min (s->lowest_freed, s->lowest_skipped);
  s->lowest_skipped = Q2_SPACE_NONE;
  for (size_t i = 0; i < Q2_SPACE_WINDOWS; ++i) {
    any |= s->windows[i].left > 0;
    q2_space_drop_window_locked (s, &s->windows[i]);
  }
  q2_mutex_unlock (&s->lock);
  return any;
}
