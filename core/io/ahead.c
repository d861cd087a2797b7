/* SPDX-License-Identifier: BSD-3-Clause */
/* ahead.c - read-ahead buffers.
 *
 * Owns      the buffers: tens of them, in a list in ascending order, without
 *           overlaps.
 * Method    a claim fills the first gap of its range with a new, loading
 *           buffer.  If the buffers would have too many bytes it evicts
 *           others: those consumed in full first, then those unused for a
 *           while, the least recently used first.  Threads that wait for a
 *           buffer or use its bytes pin it.  A buffer whose read has failed
 *           leaves the list at once and loses its bytes, which tells the
 *           waiting threads; the last one frees it.
 * Locks     ahead.lock guards the list and all of a buffer but its bytes; it
 *           is not held while bytes are read or copied.  The bytes belong to
 *           the claimer while the buffer is loading, and are constant
 *           afterwards.
 * Does not  read anything, or decide what to read.
 */
#include "config.h"

#include "io/ahead.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/lock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How many evicted bytes are remembered when judging whether reading ahead
 * pays.
 */
#define JUDGE_BYTES (UINT64_C (16) << 20)

/* How long, in nanoseconds, a buffer with unread bytes is kept after its last
 * use; and one that was mostly read, whose rest is likely never needed.
 */
#define FRESH UINT64_C (1000000000)
#define FRESH_REST UINT64_C (40000000)

struct q2_ahead {
  uint64_t max_bytes;
  struct qcow2_budget *budget;  /* or NULL; has all of 'bytes' */
  struct q2_mutex lock;
  pthread_cond_t loaded;        /* some buffer has been committed */
  struct q2_ahead_buf *first;
  uint64_t bytes;               /* of all buffers in the list */
  atomic_uint nr_bufs;          /* in the list; written under the lock */

  uint64_t requests, read_bytes, used_bytes;    /* ever, without failures */
  uint64_t gone_bytes, gone_used;       /* evicted lately; used ones of
                                           those */
  atomic_bool useless;          /* written under the lock */
};

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
  q2_mutex_init (&ahead->lock, 3, "ahead.lock");
  pthread_cond_init (&ahead->loaded, NULL);
  return ahead;
}

static uint64_t
size_of (const struct q2_ahead_buf *buf)
{
  return buf->end - buf->start;
}

static void
free_list (struct q2_ahead_buf *buf)
{
  while (buf) {
    struct q2_ahead_buf *const next = buf->next;

    q2_buffer_free (buf->bytes, size_of (buf));
    free (buf);
    buf = next;
  }
}

void
q2_ahead_free (struct q2_ahead *ahead)
{
  if (ahead == NULL)
    return;
  for (const struct q2_ahead_buf *buf = ahead->first; buf; buf = buf->next)
    if (!q2_check (!buf->loading && buf->pins == 0))
      return;                   /* leaked: it is in use */
  q2_budget_give (ahead->budget, ahead->bytes);
  free_list (ahead->first);
  pthread_cond_destroy (&ahead->loaded);
  q2_mutex_destroy (&ahead->lock);
  free (ahead);
}

bool
q2_ahead_any (const struct q2_ahead *ahead)
{
  return atomic_load_explicit (&ahead->nr_bufs, memory_order_relaxed) > 0;
}

static uint64_t
now (void)
{
  struct timespec ts;

#ifdef CLOCK_MONOTONIC_COARSE
  clock_gettime (CLOCK_MONOTONIC_COARSE, &ts);
#else
  clock_gettime (CLOCK_MONOTONIC, &ts);
#endif
  return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

/* ---- The list ------------------------------------------------------- */

static void
insert_locked (struct q2_ahead *ahead, struct q2_ahead_buf *buf)
{
  struct q2_ahead_buf **link = &ahead->first;

  q2_mutex_check_held (&ahead->lock);
  while (*link && (*link)->start < buf->start)
    link = &(*link)->next;
  buf->next = *link;
  *link = buf;
  ahead->bytes += size_of (buf);
  atomic_fetch_add_explicit (&ahead->nr_bufs, 1, memory_order_relaxed);
}

static void
remove_locked (struct q2_ahead *ahead, struct q2_ahead_buf *buf)
{
  struct q2_ahead_buf **link = &ahead->first;

  q2_mutex_check_held (&ahead->lock);
  while (*link != NULL && *link != buf)
    link = &(*link)->next;
  if (!q2_check (*link == buf))
    return;
  *link = buf->next;
  buf->next = NULL;
  ahead->bytes -= size_of (buf);
  q2_budget_give (ahead->budget, size_of (buf));
  atomic_fetch_sub_explicit (&ahead->nr_bufs, 1, memory_order_relaxed);
}

static struct q2_ahead_buf *
find_locked (const struct q2_ahead *ahead, uint64_t host_off)
{
  struct q2_ahead_buf *buf = ahead->max_bytes > 0 ? ahead->first : NULL;

  q2_mutex_check_held (&ahead->lock);
  while (buf && buf->end <= host_off)
    buf = buf->next;
  return buf && buf->start <= host_off ? buf : NULL;
}

/* ---- Making room ---------------------------------------------------- */

static bool
is_consumed (const struct q2_ahead_buf *buf, uint64_t time)
{
  return buf->consumed == size_of (buf) ||
    (buf->consumed >= size_of (buf) / 4 * 3 &&
     time - buf->last_use >= FRESH_REST);
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
  ahead->gone_bytes += size_of (buf);
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

/* Move buffers that do not overlap [start, end) from the list to *ret_gone
 * until there is room for 'len' bytes; or none if that is impossible.
 */
static bool
make_room_locked (struct q2_ahead *ahead, uint64_t len, uint64_t start,
                  uint64_t end, struct q2_ahead_buf **ret_gone)
{
  const uint64_t time = now ();
  uint64_t left = ahead->bytes;

  q2_mutex_check_held (&ahead->lock);
  for (const struct q2_ahead_buf *buf = ahead->first; buf; buf = buf->next)
    if (may_go (buf, start, end, time))
      left -= size_of (buf);
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
    remove_locked (ahead, worst);
    judge_locked (ahead, worst);
    worst->next = *ret_gone;
    *ret_gone = worst;
  }
  return true;
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
  buf->start = start;
  buf->end = end;
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

    if (make_room_locked (ahead, len, start, end, &gone) &&
        q2_budget_try (ahead->budget, len)) {
      buf = buf_new (gap_start, gap_start + len);
      if (buf)
        insert_locked (ahead, buf);
      else
        q2_budget_give (ahead->budget, len);
    }
  }
  q2_mutex_unlock (&ahead->lock);
  free_list (gone);
  return buf;
}

/* ---- Users ---------------------------------------------------------- */

/* The buffer may be freed: under the lock, but only after a failed read. */
static void
unpin_locked (struct q2_ahead_buf *buf)
{
  if (!q2_check (buf->pins > 0))
    return;
  buf->pins--;
  buf->last_use = now ();
  if (buf->pins == 0 && buf->bytes == NULL)
    free (buf);
}

void
q2_ahead_commit (struct q2_ahead *ahead, struct q2_ahead_buf *buf, bool ok)
{
  bool waited_for;

  q2_mutex_lock (&ahead->lock);
  if (!q2_check (buf->loading)) {
    q2_mutex_unlock (&ahead->lock);
    return;
  }
  waited_for = buf->pins > 0;   /* most are not */
  buf->loading = false;
  buf->last_use = now ();
  if (ok && ahead->max_bytes > 0) {
    ahead->requests++;
    ahead->read_bytes += size_of (buf);
  }
  else {
    remove_locked (ahead, buf);
    q2_buffer_free (buf->bytes, size_of (buf));
    buf->bytes = NULL;
    if (buf->pins == 0)
      free (buf);
  }
  if (waited_for)
    pthread_cond_broadcast (&ahead->loaded);
  q2_mutex_unlock (&ahead->lock);
}

/* Pin the buffer to use 'count' of its bytes, after waiting for its read;
 * false if that fails.
 */
static bool
pin_locked (struct q2_ahead *ahead, struct q2_ahead_buf *buf, uint64_t count)
{
  q2_mutex_check_held (&ahead->lock);
  buf->pins++;
  while (buf->loading)
    q2_cond_wait (&ahead->loaded, &ahead->lock);
  if (buf->bytes == NULL) {
    unpin_locked (buf);
    return false;
  }
  count = q2_min (count, size_of (buf) - buf->consumed);
  buf->consumed += count;
  ahead->used_bytes += count;
  return true;
}

uint64_t
q2_ahead_copy (struct q2_ahead *ahead, void *out, uint64_t count,
               uint64_t host_off)
{
  unsigned char *const p = out;
  uint64_t done = 0;

  q2_mutex_lock (&ahead->lock);
  while (done < count) {
    const uint64_t pos = host_off + done;
    struct q2_ahead_buf *const buf = find_locked (ahead, pos);
    uint64_t n;

    if (buf == NULL)
      break;
    n = q2_min (count - done, buf->end - pos);
    if (!pin_locked (ahead, buf, n))
      break;
    q2_mutex_unlock (&ahead->lock);
    memcpy (p + done, buf->bytes + (pos - buf->start), n);
    done += n;
    q2_mutex_lock (&ahead->lock);
    unpin_locked (buf);
  }
  q2_mutex_unlock (&ahead->lock);
  return done;
}

const unsigned char *
q2_ahead_pin (struct q2_ahead *ahead, uint64_t count, uint64_t host_off,
              struct q2_ahead_buf **ret_buf)
{
  const unsigned char *bytes = NULL;
  struct q2_ahead_buf *buf;

  q2_mutex_lock (&ahead->lock);
  buf = find_locked (ahead, host_off);
  if (buf && count <= buf->end - host_off &&
      pin_locked (ahead, buf, count)) {
    *ret_buf = buf;
    bytes = buf->bytes + (host_off - buf->start);
  }
  q2_mutex_unlock (&ahead->lock);
  return bytes;
}

void
q2_ahead_unpin (struct q2_ahead *ahead, struct q2_ahead_buf *buf)
{
  q2_mutex_lock (&ahead->lock);
  unpin_locked (buf);
  q2_mutex_unlock (&ahead->lock);
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
    remove_locked (ahead, buf);
    buf->next = gone;
    gone = buf;
  }
  q2_mutex_unlock (&ahead->lock);
  free_list (gone);
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
