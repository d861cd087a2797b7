/* SPDX-License-Identifier: BSD-3-Clause */
/* ahead.c - read-ahead buffers.
 *
 * Owns      the buffers: tens of them, in a list (ahead_list.c).
 * Method    a claim fills the first gap of its range with a new, loading
 *           buffer.  If the buffers would have too many bytes it evicts others
 *           (ahead_room.c).  Threads that wait for a buffer or use its bytes
 *           pin it.  A buffer whose read has failed is spoiled, as is one
 *           whose range the file has changed meanwhile (ahead_changes.c): it
 *           leaves the list when the read has ended, and the waiting threads
 *           read for themselves.  The last one who pins a buffer that has left
 *           the list frees it.
 * Locks     ahead.lock guards the list and all of a buffer but its bytes; it
 *           is not held while bytes are read or copied.  The bytes belong to
 *           the claimer while the buffer is loading, and are constant
 *           afterwards.
 * Does not  read anything, or decide what to read.
 */
#include "config.h"

#include "io/ahead_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct q2_ahead *
q2_ahead_new (uint64_t max_bytes, struct qcow2_budget *budget,
              struct qcow2_error *err)
{
  struct q2_ahead *ahead = calloc (1, sizeof *ahead);

  if (ahead == NULL) {
    q2_fail_nomem (err, "reading ahead");
    return NULL;
  }
  ahead->max_bytes = max_bytes;
  ahead->budget = budget;
  q2_mutex_init (&ahead->lock, 7, "ahead.lock");
  pthread_cond_init (&ahead->loaded, NULL);
  return ahead;
}

void
q2_ahead_free (struct q2_ahead *ahead)
{
  uint64_t bytes = 0;

  if (ahead == NULL)
    return;
  for (const struct q2_ahead_buf *buf = ahead->first; buf; buf = buf->next) {
    if (!q2_check (!buf->loading && buf->pins == 0))
      return;                   /* leaked: it is in use */
    bytes += buf->room;
  }
  if (!q2_check (bytes == ahead->bytes && ahead->changes == NULL &&
                 atomic_load (&ahead->unlisted) == 0))
    return;
  q2_budget_give (ahead->budget, ahead->bytes);
  q2_ahead_free_list (ahead->first);
  pthread_cond_destroy (&ahead->loaded);
  q2_mutex_destroy (&ahead->lock);
  free (ahead);
}

bool
q2_ahead_any (const struct q2_ahead *ahead)
{
  return atomic_load_explicit (&ahead->nr_bufs, memory_order_relaxed) > 0;
}

/* ---- The list ------------------------------------------------------- */

static struct q2_ahead_buf *
find_locked (const struct q2_ahead *ahead, uint64_t host_off)
{
  struct q2_ahead_buf *buf = ahead->max_bytes > 0 ? ahead->first : NULL;

  q2_mutex_check_held (&ahead->lock);
  while (buf && buf->end <= host_off)
    buf = buf->next;
  return buf && buf->start <= host_off && !buf->spoiled ? buf : NULL;
}

/* ---- Claims --------------------------------------------------------- */

/* Narrow [*start, *end) to its first part that is in no buffer. */
static bool
find_gap_locked (const struct q2_ahead *ahead, uint64_t *start,
                 uint64_t *end)
{
  const struct q2_ahead_buf *buf = ahead->first;

  q2_mutex_check_held (&ahead->lock);
  for (; buf && buf->start <= *start; buf = buf->next)
    *start = q2_max (*start, buf->end);
  if (buf)
    *end = q2_min (*end, buf->start);
  return *start < *end;
}

static struct q2_ahead_buf *
buf_new (uint64_t start, uint64_t end)
{
  struct q2_ahead_buf *buf = calloc (1, sizeof *buf);

  if (buf == NULL)
    return NULL;
  buf->bytes = q2_buffer_alloc (end - start);
  if (buf->bytes == NULL) {
    free (buf);
    return NULL;
  }
  buf->start = buf->base = start;
  buf->end = end;
  buf->room = end - start;
  buf->loading = true;
  return buf;
}

struct q2_ahead_buf *
q2_ahead_claim (struct q2_ahead *ahead, uint64_t start, uint64_t end)
{
  struct q2_ahead_buf *buf = NULL, *gone = NULL;
  uint64_t gap_start = start, gap_end = end;

  q2_mutex_lock (&ahead->lock);
  if (ahead->max_bytes > 0 &&
      find_gap_locked (ahead, &gap_start, &gap_end)) {
    const uint64_t len = q2_min (gap_end - gap_start, ahead->max_bytes);

    if (q2_ahead_arm_locked (ahead, gap_start, gap_start + len) &&
        q2_ahead_make_room_locked (ahead, len, start, end, &gone) &&
        q2_budget_try (ahead->budget, len)) {
      buf = buf_new (gap_start, gap_start + len);
      if (buf)
        q2_ahead_list_locked (ahead, buf);
      else
        q2_budget_give (ahead->budget, len);
    }
  }
  q2_mutex_unlock (&ahead->lock);
  q2_ahead_free_list (gone);
  return buf;
}

/* ---- Users ---------------------------------------------------------- */

static void
unpin_locked (struct q2_ahead *ahead, struct q2_ahead_buf *buf,
              struct q2_ahead_buf **gone)
{
  q2_mutex_check_held (&ahead->lock);
  if (!q2_check (buf->pins > 0))
    return;
  buf->pins--;
  buf->last_use = q2_ahead_now ();
  if (buf->pins == 0 && !buf->listed)
    q2_ahead_let_go_locked (ahead, buf, gone);
}

void
q2_ahead_commit (struct q2_ahead *ahead, struct q2_ahead_buf *buf, bool ok)
{
  struct q2_ahead_buf *gone = NULL;

  q2_mutex_lock (&ahead->lock);
  if (!q2_check (buf->loading)) {
    q2_mutex_unlock (&ahead->lock);
    return;
  }
  buf->loading = false;
  buf->last_use = q2_ahead_now ();
  if (buf->pins > 0)            /* of most nobody does */
    pthread_cond_broadcast (&ahead->loaded);
  if (ok && ahead->max_bytes > 0) {
    ahead->requests++;
    ahead->read_bytes += q2_ahead_size_of (buf);
  }
  else
    buf->spoiled = true;
  if (buf->spoiled) {
    q2_ahead_unlist_locked (ahead, buf);
    if (buf->pins == 0)
      q2_ahead_let_go_locked (ahead, buf, &gone);
  }
  q2_mutex_unlock (&ahead->lock);
  q2_ahead_free_list (gone);
}

/* Pin the buffer to use 'count' of its bytes, after waiting for its read;
 * false if that fails.  Its range may have been cut since, but the bytes were
 * those of the file when the read had ended.
 */
static bool
pin_locked (struct q2_ahead *ahead, struct q2_ahead_buf *buf, uint64_t count,
            struct q2_ahead_buf **gone)
{
  q2_mutex_check_held (&ahead->lock);
  buf->pins++;
  while (buf->loading)
    q2_cond_wait (&ahead->loaded, &ahead->lock);
  if (buf->spoiled) {
    unpin_locked (ahead, buf, gone);
    return false;
  }
  count = q2_min (count, q2_ahead_size_of (buf) - buf->consumed);
  buf->consumed += count;
  ahead->used_bytes += count;
  return true;
}

uint64_t
q2_ahead_copy (struct q2_ahead *ahead, void *out, uint64_t count,
               uint64_t host_off)
{
  unsigned char *const p = out;
  struct q2_ahead_buf *gone = NULL;
  uint64_t done = 0;

  q2_mutex_lock (&ahead->lock);
  while (done < count) {
    const uint64_t pos = host_off + done;
    struct q2_ahead_buf *const buf = find_locked (ahead, pos);
    uint64_t n;

    if (buf == NULL)
      break;
    n = q2_min (count - done, buf->end - pos);
    if (!pin_locked (ahead, buf, n, &gone))
      break;
    q2_mutex_unlock (&ahead->lock);
    memcpy (p + done, buf->bytes + (pos - buf->base), n);
    done += n;
    q2_mutex_lock (&ahead->lock);
    unpin_locked (ahead, buf, &gone);
  }
  q2_mutex_unlock (&ahead->lock);
  q2_ahead_free_list (gone);
  return done;
}

const unsigned char *
q2_ahead_pin (struct q2_ahead *ahead, uint64_t count, uint64_t host_off,
              struct q2_ahead_buf **ret_buf)
{
  const unsigned char *bytes = NULL;
  struct q2_ahead_buf *buf, *gone = NULL;

  q2_mutex_lock (&ahead->lock);
  buf = find_locked (ahead, host_off);
  if (buf && count <= buf->end - host_off &&
      pin_locked (ahead, buf, count, &gone)) {
    *ret_buf = buf;
    bytes = buf->bytes + (host_off - buf->base);
  }
  q2_mutex_unlock (&ahead->lock);
  q2_ahead_free_list (gone);
  return bytes;
}

void
q2_ahead_unpin (struct q2_ahead *ahead, struct q2_ahead_buf *buf)
{
  struct q2_ahead_buf *gone = NULL;

  q2_mutex_lock (&ahead->lock);
  unpin_locked (ahead, buf, &gone);
  q2_mutex_unlock (&ahead->lock);
  q2_ahead_free_list (gone);
}

void
q2_ahead_clear (struct q2_ahead *ahead)
{
  struct q2_ahead_buf *gone = NULL, *buf, *next;

  q2_mutex_lock (&ahead->lock);
  for (buf = ahead->first; buf; buf = next) {
    next = buf->next;
    if (buf->loading || buf->pins > 0)
      continue;
    q2_ahead_unlist_locked (ahead, buf);
    q2_ahead_let_go_locked (ahead, buf, &gone);
  }
  if (ahead->first == NULL)     /* the next claim arms it again */
    atomic_store (&ahead->armed, false);
  q2_mutex_unlock (&ahead->lock);
  q2_ahead_free_list (gone);
}

void
q2_ahead_disable (struct q2_ahead *ahead)
{
  q2_mutex_lock (&ahead->lock);
  ahead->max_bytes = 0;
  q2_mutex_unlock (&ahead->lock);
  q2_ahead_clear (ahead);
}

/* ---- How it goes ---------------------------------------------------- */

bool
q2_ahead_is_useful (const struct q2_ahead *ahead)
{
  return !atomic_load_explicit (&ahead->useless, memory_order_relaxed);
}

void
q2_ahead_get_stats (struct q2_ahead *ahead, uint64_t *ret_requests,
                    uint64_t *ret_bytes, uint64_t *ret_used_bytes)
{
  q2_mutex_lock (&ahead->lock);
  *ret_requests = ahead->requests;
  *ret_bytes = ahead->read_bytes;
  *ret_used_bytes = ahead->used_bytes;
  q2_mutex_unlock (&ahead->lock);
}
