/* SPDX-License-Identifier: BSD-3-Clause */
/* ahead_room.c - which ahead buffers go when there is no room.
 *
 * Owns      the order in which they go, and whether reading ahead pays.
 * Method    those consumed in full go first, then those unused for a while,
 *           the least recently used first.  What part of the evicted bytes was
 *           used says whether reading ahead pays.
 * Locks     ahead.lock, which the callers hold.
 */
#include "config.h"

#include "io/ahead_impl.h"

#include "base/assume.h"

/* How many evicted bytes are remembered when judging whether reading ahead
 * pays.
 */
#define JUDGE_BYTES (UINT64_C (16) << 20)

/* How long, in nanoseconds, a buffer with unread bytes is kept after its last
 * use; and one that was mostly read, whose rest is likely never needed.
 */
#define FRESH UINT64_C (1000000000)
#define FRESH_REST UINT64_C (40000000)

static bool
is_consumed (const struct q2_ahead_buf *buf, uint64_t time)
{
  const uint64_t size = q2_ahead_size_of (buf);

  return buf->consumed == size ||
    (buf->consumed >= size / 4 * 3 && time - buf->last_use >= FRESH_REST);
}

/* Buffers that overlap [start, end) stay: the claimer wants those bytes as
 * well, and would have to claim them next.
 */
static bool
may_go (const struct q2_ahead_buf *buf, uint64_t start, uint64_t end,
        uint64_t time)
{
  return !buf->loading && buf->pins == 0 &&
    (buf->end <= start || end <= buf->start) &&
    (is_consumed (buf, time) || time - buf->last_use >= FRESH);
}

static bool
goes_before (const struct q2_ahead_buf *a, const struct q2_ahead_buf *b,
             uint64_t time)
{
  if (is_consumed (a, time) != is_consumed (b, time))
    return is_consumed (a, time);
  return a->last_use < b->last_use;
}

/* Count how much of an evicted buffer was used. */
static void
judge_locked (struct q2_ahead *ahead, const struct q2_ahead_buf *buf)
{
  q2_mutex_check_held (&ahead->lock);
  ahead->gone_bytes += q2_ahead_size_of (buf);
  ahead->gone_used += buf->consumed;
  /* Older evictions count less and less. */
  if (ahead->gone_bytes > JUDGE_BYTES) {
    ahead->gone_bytes /= 2;
    ahead->gone_used /= 2;
  }
  atomic_store_explicit (&ahead->useless,
                         ahead->gone_bytes >= JUDGE_BYTES / 4 &&
                         ahead->gone_used < ahead->gone_bytes / 2,
                         memory_order_relaxed);
}

bool
q2_ahead_make_room_locked (struct q2_ahead *ahead, uint64_t len,
                           uint64_t start, uint64_t end,
                           struct q2_ahead_buf **ret_gone)
{
  const uint64_t time = q2_ahead_now ();
  uint64_t left = ahead->bytes;

  q2_mutex_check_held (&ahead->lock);
  for (const struct q2_ahead_buf *buf = ahead->first; buf; buf = buf->next)
    if (may_go (buf, start, end, time))
      left -= buf->room;
  if (len > ahead->max_bytes - left)
    return false;

  while (len > ahead->max_bytes - ahead->bytes) {
    struct q2_ahead_buf *worst = NULL;

    for (struct q2_ahead_buf *buf = ahead->first; buf; buf = buf->next)
      if (may_go (buf, start, end, time) &&
          (worst == NULL || goes_before (buf, worst, time)))
        worst = buf;
    if (!q2_check (worst != NULL))      /* counted above */
      return false;
    judge_locked (ahead, worst);
    q2_ahead_unlist_locked (ahead, worst);
    q2_ahead_let_go_locked (ahead, worst, ret_gone);
  }
  return true;
}
