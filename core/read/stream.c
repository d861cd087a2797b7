/* SPDX-License-Identifier: BSD-3-Clause */
/* stream.c - the sequential stream detector.
 *
 * Owns      the table of streams of an image.
 * Method    a request belongs to the stream whose position it is near, else it
 *           starts a new one in the least recently used slot.  A stream is
 *           sequential from its third request on, while at least half of the
 *           bytes it has passed over were asked for: random requests that
 *           happen to fall near each other pass over much more.  The window
 *           doubles each time it is used up, so that a reader that stops early
 *           has cost little.  For a persistent reader it is kept nearly full,
 *           so that some request is always in flight.
 * Locks     streams.lock guards the table; held for a few comparisons.
 */
#include "config.h"

#include "read/stream.h"

#include "base/bits.h"

#include <string.h>

#define FIRST_WINDOW (UINT64_C (1) << 20)
#define MIN_REQUESTS 3

/* The window is topped up in steps that are worth a request. */
#define MIN_STEP (UINT64_C (1) << 20)

/* How far from its stream's position a request may be: the spread of a client
 * with 32 requests in flight.
 */
#define MAX_IN_FLIGHT 32
#define MIN_NEAR (UINT64_C (128) << 10)
#define MAX_NEAR (UINT64_C (64) << 20)

void
q2_streams_init (struct q2_streams *streams, uint64_t max_window)
{
  memset (streams, 0, sizeof *streams);
  q2_mutex_init (&streams->lock, 3, "streams.lock");
  streams->max_window = max_window;
}

void
q2_streams_destroy (struct q2_streams *streams)
{
  q2_mutex_destroy (&streams->lock);
}

/* How far from its stream's position a request may be. */
static uint64_t
nearness (uint64_t count)
{
  count = q2_min (count, MAX_NEAR);     /* no overflow */
  return q2_min (q2_max (MAX_IN_FLIGHT * count, MIN_NEAR), MAX_NEAR);
}

/* The stream of the request, or the slot for a new one. */
static struct q2_stream *
find_locked (struct q2_streams *streams, uint64_t guest_off, uint64_t count)
{
  const uint64_t near = nearness (count);
  struct q2_stream *oldest = &streams->streams[0];

  q2_mutex_check_held (&streams->lock);
  for (size_t i = 0; i < Q2_STREAMS; ++i) {
    struct q2_stream *const s = &streams->streams[i];

    if (s->last_use != 0 && guest_off + near >= s->pos &&
        guest_off <= s->pos + near)
      return s;
    if (s->last_use < oldest->last_use)
      oldest = s;
  }
  oldest->last_use = 0;
  return oldest;
}

static void
restart (struct q2_stream *s, uint64_t guest_off, uint64_t max_window)
{
  *s = (struct q2_stream) {
    .start = guest_off, .pos = guest_off, .frontier = guest_off,
    .window = q2_min (FIRST_WINDOW, max_window),
  };
}

/* Read more when less than this is left of the window.  At first it is half of
 * the last read, since the window has doubled since.  For a persistent reader
 * it is three quarters: a client with many requests in flight asks for much at
 * once, and would then wait for all of it.
 */
static uint64_t
low_water (const struct q2_stream *s, uint64_t max_window)
{
  const uint64_t quarter = s->window / 4;

  if (s->bytes < max_window)
    return quarter;
  return s->window - q2_min (q2_max (quarter, MIN_STEP), 3 * quarter);
}

/* Advise to read the rest of the window, and widen it. */
static void
advise_locked (struct q2_stream *s, uint64_t from, uint64_t disk_size,
               uint64_t max_window, struct q2_stream_advice *advice)
{
  const uint64_t to = q2_min (from + s->window, disk_size);

  s->window = q2_min (s->window * 2, max_window);
  if (to <= s->frontier)
    return;
  advice->from = q2_max (from, s->frontier);
  advice->to = to;
  s->frontier = to;
}

struct q2_stream_advice
q2_streams_note (struct q2_streams *streams, uint64_t guest_off,
                 uint64_t count, uint64_t disk_size, uint64_t max_window,
                 bool waits)
{
  struct q2_stream_advice advice = { false, 0, 0, 0 };
  struct q2_stream *s;
  uint64_t passed, pos;

  q2_mutex_lock (&streams->lock);
  s = find_locked (streams, guest_off, count);
  if (s->last_use == 0)
    restart (s, guest_off, max_window);
  advice.stream = (size_t) (s - streams->streams);
  s->last_use = ++streams->clock;
  pos = s->pos;
  s->requests++;
  s->bytes += count;
  s->start = q2_min (s->start, guest_off);
  s->pos = q2_max (s->pos, guest_off + count);

  passed = s->pos - s->start;
  if (s->bytes < passed / 2) {
    /* The first of many requests in flight leave gaps for the next ones. */
    if (passed > 2 * nearness (count)) {
      restart (s, guest_off + count, max_window);
      s->last_use = streams->clock;
    }
  }
  else if (s->requests >= MIN_REQUESTS) {
    advice.sequential = true;
    if (waits && s->frontier < guest_off + count)
      advise_locked (s, guest_off, disk_size, max_window, &advice);
    else if (!waits && s->pos > pos &&
             s->frontier <= s->pos + low_water (s, max_window))
      advise_locked (s, s->pos, disk_size, max_window, &advice);
  }
  q2_mutex_unlock (&streams->lock);
  return advice;
}

void
q2_streams_fell_short (struct q2_streams *streams,
                       const struct q2_stream_advice *advice, uint64_t done)
{
  q2_mutex_lock (&streams->lock);
  /* Unless the stream has moved on, or its slot has been reused. */
  if (streams->streams[advice->stream].frontier == advice->to)
    streams->streams[advice->stream].frontier = done;
  q2_mutex_unlock (&streams->lock);
}
