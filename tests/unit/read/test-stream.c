/* SPDX-License-Identifier: BSD-3-Clause */
/* test-stream.c - the sequential stream detector.
 *
 * Every request of a test goes through note (), which checks the rules for all
 * advice: it lies inside the disk, within the window, and, for a reader in
 * order, is given once and without gaps.
 */
#include "config.h"

#include "threads.h"

#include "read/stream.h"

#define KiB UINT64_C (1024)
#define MiB (KiB * 1024)
#define GiB (MiB * 1024)
#define MAX_WINDOW (16 * MiB)

struct client {
  struct q2_streams streams;
  uint64_t disk, max_window;
  bool waits;
  uint64_t requests, sequential, advised; /* advised: bytes */
  uint64_t from, to;            /* of the last advice */
};

static void
client_init (struct client *c, uint64_t disk, uint64_t max_window, bool waits)
{
  *c = (struct client) {
    .disk = disk, .max_window = max_window, .waits = waits,
  };
  q2_streams_init (&c->streams, max_window);
}

static struct q2_stream_advice
note (struct client *c, uint64_t guest_off, uint64_t count)
{
  const struct q2_stream_advice a =
    q2_streams_note (&c->streams, guest_off, count, c->disk, c->max_window,
                     c->waits);

  c->requests++;
  c->sequential += a.sequential;
  if (a.from >= a.to)
    return a;
  CHECK (a.sequential);
  CHECK (a.to <= c->disk);
  CHECK (a.to - a.from <= c->max_window);
  c->advised += a.to - a.from;
  c->from = a.from;
  c->to = a.to;
  return a;
}

/* ---- Sequential readers ------------------------------------------------- */

/* In order: sequential from the third request, everything is advised once,
 * in order, and before it is asked for.
 */
static void
test_in_order (uint64_t count, uint64_t base)
{
  const uint64_t nr = 128 * MiB / count;
  const uint64_t disk = base + nr * count;
  uint64_t frontier = 0;
  struct client c;

  unit_context ("in order, requests of %" PRIu64 " at 0x%" PRIx64, count,
                base);
  client_init (&c, disk, MAX_WINDOW, false);
  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t at = base + i * count;
    const struct q2_stream_advice a = note (&c, at, count);

    CHECK_EQ (a.sequential, i >= 2);
    if (a.from < a.to) {
      CHECK_EQ (a.from, frontier && frontier > at + count
                ? frontier : at + count);
      frontier = a.to;
    }
    CHECK (i < 2 || frontier >= at + count);
    CHECK (frontier <= at + count + MAX_WINDOW);
  }
  CHECK_EQ (frontier, disk);
  q2_streams_destroy (&c.streams);
}

/* The first window is small, each one at most twice the one before, up to
 * the maximum.  It is not widened before the reader has used some of the
 * last, so that one who stops early has cost little; and how far ahead we
 * are never falls below a quarter of it.  Of one who does not stop it is
 * kept three quarters full, in steps that are worth a request.
 */
static void
test_window (uint64_t max_window)
{
  const uint64_t step =
    max_window <= 1 * MiB ? max_window / 4 * 3 :
    max_window <= 4 * MiB ? 1 * MiB : max_window / 4;
  uint64_t frontier = 0, last = 0, most = 0;
  struct client c;

  unit_context ("window up to %" PRIu64, max_window);
  client_init (&c, 4 * GiB, max_window, false);
  for (uint64_t at = 0; at < 256 * MiB; at += 64 * KiB) {
    const struct q2_stream_advice a = note (&c, at, 64 * KiB);

    if (a.from < a.to) {
      const uint64_t window = a.to - (at + 64 * KiB);

      CHECK (window <= max_window);
      CHECK (window <= 2 * last || last == 0);
      CHECK (window >= last);
      CHECK (last != 0 || window <= 1 * MiB);
      last = window;
      most = window > most ? window : most;
      frontier = a.to;
      CHECK (frontier <= 4 * (at + 64 * KiB) + 1 * MiB);
      if (at >= 2 * max_window)
        CHECK (a.to - a.from >= step);
    }
    if (at >= 2 * max_window)
      CHECK (frontier >= at + 64 * KiB + max_window - step);
    if (frontier)
      CHECK (frontier >= at + last / 4);
  }
  CHECK_EQ (most, max_window);
  q2_streams_destroy (&c.streams);
}

/* As clients with many requests in flight do it: any of the 'flight' that
 * come next.
 */
static void
test_shuffled (uint64_t count, unsigned flight, uint64_t seed)
{
  const uint64_t nr = count < 64 * KiB ? 64 * MiB / count : 4096;
  struct rng rng = { seed };
  bool done[64] = { false };    /* of the requests from 'oldest' on */
  uint64_t oldest = 0, frontier = 0, late = 0;
  struct client c;

  unit_context ("%u requests of %" PRIu64 " in flight, seed %" PRIu64,
                flight, count, seed);
  client_init (&c, 16 * GiB, MAX_WINDOW, false);
  while (c.requests < nr) {
    struct q2_stream_advice a;
    uint64_t i, at;

    do
      i = oldest + rng_below (&rng, flight);
    while (done[i % 64]);
    at = i * count;
    a = note (&c, at, count);
    if (a.from < a.to)
      frontier = a.to > frontier ? a.to : frontier;
    late += c.requests > nr / 2 && frontier < at + count;
    for (done[i % 64] = true; done[oldest % 64]; ++oldest)
      done[oldest % 64] = false;
  }
  CHECK (c.sequential >= c.requests * 95 / 100);
  CHECK_EQ (late, 0);
  /* Once each, give or take what lies ahead in the end. */
  CHECK (c.advised <= nr * count + flight * count * 4 + MAX_WINDOW);
  if (flight * count <= MAX_WINDOW / 2)
    CHECK (c.advised >= nr * count * 9 / 10);
  q2_streams_destroy (&c.streams);
}

static void
test_interleaved (unsigned nr, bool random_turns)
{
  uint64_t pos[Q2_STREAMS] = { 0 }, frontier[Q2_STREAMS] = { 0 };
  struct rng rng = { nr };
  struct client c;

  unit_context ("%u streams%s", nr, random_turns ? " in any order" : "");
  client_init (&c, 1024 * GiB, MAX_WINDOW, false);
  for (unsigned turn = 0; turn < nr * 200; ++turn) {
    const uint64_t s = random_turns ? rng_below (&rng, nr) : turn % nr;
    const uint64_t at = s * GiB + pos[s];
    const struct q2_stream_advice a = note (&c, at, 64 * KiB);

    CHECK_EQ (a.sequential, pos[s] >= 128 * KiB);
    if (a.from < a.to) {
      CHECK (a.from / GiB == s);
      CHECK (frontier[s] == 0 || a.from == frontier[s]);
      frontier[s] = a.to;
    }
    CHECK (!a.sequential || frontier[s] >= at + 64 * KiB);
    pos[s] += 64 * KiB;
  }
  q2_streams_destroy (&c.streams);
}

/* Random readers beside a sequential one do not stop it, as long as it is
 * not the one that waited longest.
 */
static void
test_beside_random (void)
{
  struct rng rng = { 5 };
  uint64_t sequential = 0;
  struct client c;

  unit_context ("%s", "beside random requests");
  client_init (&c, 1024 * GiB, MAX_WINDOW, false);
  for (uint64_t i = 0; i < 2000; ++i) {
    sequential += note (&c, i * 64 * KiB, 64 * KiB).sequential;
    for (unsigned k = 0; k < 8; ++k)
      note (&c, 512 * GiB + rng_below (&rng, 256 * GiB), 4 * KiB);
  }
  CHECK_EQ (sequential, 1998);
  q2_streams_destroy (&c.streams);
}

/* ---- Readers that are not ----------------------------------------------- */

static void
test_random (uint64_t range, uint64_t count, bool aligned, uint64_t base)
{
  struct rng rng = { range + count };
  struct client c;

  unit_context ("random %" PRIu64 " bytes of %" PRIu64 " MiB%s at 0x%"
                PRIx64, count, range / MiB, aligned ? " aligned" : "", base);
  client_init (&c, base + range, MAX_WINDOW, false);
  for (unsigned i = 0; i < 50000; ++i) {
    const uint64_t at = rng_below (&rng, range - count);

    note (&c, base + (aligned ? at / count * count : at), count);
  }
  /* A few that fall next to each other by chance. */
  CHECK (c.sequential * 200 <= c.requests);
  CHECK (c.advised <= c.requests * count / 4);
  q2_streams_destroy (&c.streams);
}

/* Reading ahead of the end it started from is no use to this one. */
static void
test_backwards (uint64_t count)
{
  struct client c;

  unit_context ("backwards, %" PRIu64, count);
  client_init (&c, GiB, MAX_WINDOW, false);
  for (uint64_t at = GiB / 2; at > GiB / 4; at -= count)
    note (&c, at - count, count);
  CHECK (c.advised <= 2 * MiB);
  q2_streams_destroy (&c.streams);
}

/* Every n-th block: more than every other one is sequential, less is not. */
static void
test_strided (uint64_t count, uint64_t stride, bool expect)
{
  struct client c;

  unit_context ("%" PRIu64 " bytes every %" PRIu64, count, stride);
  client_init (&c, 16 * GiB, MAX_WINDOW, false);
  for (uint64_t i = 0; i < 2000; ++i)
    note (&c, i * stride, count);
  if (expect)
    CHECK (c.sequential >= 1990);
  else {
    CHECK_EQ (c.sequential, 0);
    CHECK_EQ (c.advised, 0);
  }
  q2_streams_destroy (&c.streams);
}

/* Two requests are no stream; nor is one request again and again a reason
 * to read more and more.
 */
static void
test_few (void)
{
  struct client c;

  unit_context ("%s", "few");
  client_init (&c, GiB, MAX_WINDOW, false);
  CHECK (!note (&c, 0, 1 * MiB).sequential);
  CHECK (!note (&c, 1 * MiB, 1 * MiB).sequential);
  for (unsigned i = 0; i < 1000; ++i)
    note (&c, 512 * MiB, 4 * KiB);
  CHECK (c.advised <= 1 * MiB);
  q2_streams_destroy (&c.streams);
}

static void
test_off (void)
{
  struct client c;

  unit_context ("%s", "no window");
  client_init (&c, GiB, 0, false);
  for (uint64_t at = 0; at < 64 * MiB; at += 64 * KiB)
    note (&c, at, 64 * KiB);
  CHECK_EQ (c.advised, 0);
  q2_streams_destroy (&c.streams);
}

/* ---- Those who have to wait --------------------------------------------- */

/* The request itself is part of what is read, and nothing is read before
 * the last of it has been used.
 */
static void
test_waits (uint64_t count)
{
  uint64_t frontier = 0, calls = 0;
  struct client c;

  unit_context ("waits, %" PRIu64, count);
  client_init (&c, 64 * MiB, 2 * MiB, true);
  for (uint64_t at = 0; at + count <= 64 * MiB; at += count) {
    const struct q2_stream_advice a = note (&c, at, count);

    if (a.from < a.to) {
      CHECK (frontier < at + count);
      CHECK_EQ (a.from, frontier > at ? frontier : at);
      frontier = a.to;
      calls++;
    }
    CHECK (!a.sequential || frontier >= at + count || count > 1 * MiB);
  }
  CHECK_EQ (frontier, 64 * MiB);
  CHECK (calls <= (64 * MiB) / (2 * MiB) + 2);
  q2_streams_destroy (&c.streams);
}

/* What was advised but could not be arranged is advised again, from where it
 * went wrong.
 */
static void
test_fell_short (void)
{
  struct q2_stream_advice a, b;
  struct client c;
  uint64_t at = 0;

  unit_context ("%s", "fell short");
  client_init (&c, GiB, MAX_WINDOW, false);
  do {
    a = note (&c, at, 64 * KiB);
    at += 64 * KiB;
  } while (a.from == a.to);
  q2_streams_fell_short (&c.streams, &a, a.from + 128 * KiB);
  b = note (&c, at, 64 * KiB);
  at += 64 * KiB;
  CHECK_EQ (b.from, a.from + 128 * KiB);
  CHECK (b.to > a.to);
  /* Nothing at all could be done. */
  q2_streams_fell_short (&c.streams, &b, b.from);
  a = note (&c, at, 64 * KiB);
  CHECK_EQ (a.from, b.from);
  /* Advice of nobody's stream changes none. */
  q2_streams_fell_short (&c.streams, &(struct q2_stream_advice)
                         { .sequential = true, .to = 77 }, 0);
  b = note (&c, at + 64 * KiB, 64 * KiB);
  CHECK (b.from == b.to || b.from == a.to);
  q2_streams_destroy (&c.streams);
}

/* ---- Borders ------------------------------------------------------------ */

/* Offsets and counts as far as int64_t goes; what matters is that nothing
 * beyond the disk, or more than the window, is ever advised.
 */
static void
test_huge (void)
{
  const uint64_t disk = (UINT64_C (1) << 63) - 1;
  struct rng rng = { 3 };
  struct client c;

  unit_context ("%s", "near 2^63");
  for (unsigned waits = 0; waits <= 1; ++waits) {
    client_init (&c, disk, MAX_WINDOW, waits);
    for (uint64_t at = disk - 32 * MiB; at < disk; at += 1 * MiB)
      note (&c, at, disk - at < 1 * MiB ? disk - at : 1 * MiB);
    CHECK_EQ (c.to, disk);
    for (unsigned i = 0; i < 20000; ++i) {
      const uint64_t at = disk - 1 - (rng_next (&rng) >> rng_below (&rng, 64))
        % disk;
      const uint64_t most = disk - at;

      note (&c, at, 1 + (rng_next (&rng) >> rng_below (&rng, 64)) % most);
    }
    note (&c, 0, disk);
    note (&c, 1, disk - 1);
    note (&c, 2, disk - 2);
    q2_streams_destroy (&c.streams);
  }
}

static void
hammer (void *arg, unsigned nr)
{
  struct q2_streams *const streams = arg;
  struct rng rng = { nr };

  unit_context ("thread %u", nr);
  for (uint64_t i = 0; i < 5000; ++i) {
    const struct q2_stream_advice a =
      q2_streams_note (streams, i * 64 * KiB + rng_below (&rng, 3) * MiB,
                       64 * KiB, GiB, MAX_WINDOW, nr % 2);

    if (a.from < a.to) {
      CHECK (a.to <= GiB && a.to - a.from <= MAX_WINDOW);
      if (rng_below (&rng, 3) == 0)
        q2_streams_fell_short (streams, &a, a.from);
    }
  }
}

static void
test_threads (void)
{
  struct q2_streams streams;
  struct threads threads;

  q2_streams_init (&streams, MAX_WINDOW);
  threads_start (&threads, 8, hammer, &streams);
  threads_join (&threads);
  q2_streams_destroy (&streams);
}

int
main (void)
{
  static const uint64_t counts[] = {
    512, 4 * KiB, 5000, 64 * KiB, 256 * KiB, 1 * MiB, 2 * MiB,
  };
  static const unsigned flights[] = { 1, 2, 8, 16, 32 };

  threads_watchdog ();
  for (size_t i = 0; i < sizeof counts / sizeof counts[0]; ++i) {
    test_in_order (counts[i], 0);
    test_in_order (counts[i], 7 * GiB + 12345);
    test_waits (counts[i]);
    test_backwards (counts[i]);
    if (counts[i] >= 4 * KiB)
      for (size_t k = 0; k < sizeof flights / sizeof flights[0]; ++k)
        for (uint64_t seed = 1; seed <= 3; ++seed)
          test_shuffled (counts[i], flights[k], seed);
  }
  for (uint64_t window = 1 * MiB; window <= 64 * MiB; window *= 4)
    test_window (window);
  for (unsigned random_turns = 0; random_turns <= 1; ++random_turns) {
    test_interleaved (2, random_turns);
    test_interleaved (Q2_STREAMS, random_turns);
  }
  test_beside_random ();
  for (unsigned aligned = 0; aligned <= 1; ++aligned) {
    test_random (2 * GiB, 4 * KiB, aligned, 0);
    test_random (2 * GiB, 4 * KiB, aligned, 512 * GiB);
    test_random (64 * GiB, 64 * KiB, aligned, 0);
    test_random (16 * MiB, 4 * KiB, aligned, 0);
  }
  test_strided (64 * KiB, 96 * KiB, true);
  test_strided (64 * KiB, 256 * KiB, false);
  test_strided (4 * KiB, 64 * KiB, false);
  test_strided (4 * KiB, 1 * MiB, false);
  test_few ();
  test_off ();
  test_fell_short ();
  test_huge ();
  test_threads ();
  return unit_finish ();
}
