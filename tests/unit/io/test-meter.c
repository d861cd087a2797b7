/* SPDX-License-Identifier: BSD-3-Clause */
/* test-meter.c - the estimate of the host's latency.
 *
 * A local file taken for slow costs copies and threads; a slow host taken for
 * fast costs round trips.  So one odd sample must not change the estimate, but
 * several must; and a fast host must still be measured with all kinds of
 * reads.
 */
#include "config.h"

#include "io/io.h"

#include "memory_io.h"
#include "unit.h"

#include <errno.h>

#define KiB UINT32_C (1024)
#define MiB (KiB * KiB)

#define FAST_US 20
#define SLOW_US 20000

static struct q2_meter
meter_that_knows (uint32_t us)
{
  struct q2_meter meter;

  memset (&meter, 0, sizeof meter);
  meter.latency_us = us;
  return meter;
}

/* How many such samples it takes to change its mind. */
static unsigned
samples_until (struct q2_meter *meter, bool slow, uint64_t us, uint32_t count)
{
  unsigned n;

  for (n = 0; n < 100 && q2_meter_is_slow (meter) != slow; ++n)
    q2_meter_sample (meter, us, count);
  return n;
}

/* ---- Samples ------------------------------------------------------------ */

static void
test_first (void)
{
  struct q2_meter meter = meter_that_knows (0);

  unit_context ("nothing is known");
  CHECK (!q2_meter_is_slow (&meter));
  q2_meter_sample (&meter, SLOW_US, 512);
  CHECK_EQ (meter.latency_us, SLOW_US);

  unit_context ("the first one is long because it is large");
  meter = meter_that_knows (0);
  q2_meter_sample (&meter, 60 + 512 / 4, 512 * KiB);
  CHECK (!q2_meter_is_slow (&meter));
  unit_context ("the first one is as large, but the host is slow");
  meter = meter_that_knows (0);
  q2_meter_sample (&meter, Q2_SLOW_US + 512 / 4, 512 * KiB);
  CHECK (q2_meter_is_slow (&meter));

  unit_context ("no time at all");
  meter = meter_that_knows (0);
  q2_meter_sample (&meter, 0, 512 * KiB);
  CHECK_EQ (meter.latency_us, 1); /* 0 would be: not known */
}

static void
test_one_is_not_enough (void)
{
  struct q2_meter meter = meter_that_knows (FAST_US);

  unit_context ("a fast host");
  q2_meter_sample (&meter, SLOW_US, 512);
  CHECK (!q2_meter_is_slow (&meter));
  q2_meter_sample (&meter, FAST_US, 512);
  CHECK_EQ (meter.latency_us, FAST_US);

  unit_context ("a slow host");
  meter = meter_that_knows (SLOW_US);
  q2_meter_sample (&meter, FAST_US, 512);
  CHECK (q2_meter_is_slow (&meter));
  meter = meter_that_knows (Q2_SLOW_US * 4);
  q2_meter_sample (&meter, 0, 512);
  CHECK (q2_meter_is_slow (&meter));
}

static void
test_several_are (void)
{
  struct q2_meter meter = meter_that_knows (1);
  unsigned n;

  n = samples_until (&meter, true, SLOW_US, 512);
  unit_context ("the fastest host became slow with %u samples", n);
  CHECK (n >= 4 && n <= 20);

  meter = meter_that_knows (SLOW_US);
  n = samples_until (&meter, false, FAST_US, 512);
  unit_context ("a host of 20 ms became fast with %u samples", n);
  CHECK (n >= 2 && n <= 5);

  meter = meter_that_knows (UINT32_MAX);
  n = samples_until (&meter, false, FAST_US, 512);
  unit_context ("a host that hung became fast with %u samples", n);
  CHECK (n <= 20);
  unit_context ("a host that hangs longer than we can count");
  meter = meter_that_knows (0);
  q2_meter_sample (&meter, (UINT64_C (1) << 32) + 7, 512);
  CHECK_EQ (meter.latency_us, UINT32_MAX);
}

/* Moving the bytes is not latency. */
static void
test_large (void)
{
  struct q2_meter meter = meter_that_knows (FAST_US);

  unit_context ("large requests to a fast host");
  CHECK_EQ (samples_until (&meter, true, 2000 + FAST_US, 2 * MiB), 100);
  CHECK (meter.latency_us < 100);
  unit_context ("large requests to a slow host");
  CHECK (samples_until (&meter, true, 2000 + SLOW_US, 2 * MiB) <= 10);
}

/* ---- Which requests are timed ------------------------------------------- */

static void
test_wants (void)
{
  struct q2_meter fast = meter_that_knows (FAST_US);
  const struct q2_meter slow = meter_that_knows (SLOW_US);
  unsigned small = 0;

  for (unsigned class = 0; class < QCOW2_IO_NR_CLASSES; ++class)
    for (uint64_t off = 0; off < MiB; off += 512) {
      unit_context ("class %u, offset %" PRIu64, class, off);
      CHECK (q2_meter_wants_sample (&slow, class, off));
      if (class != QCOW2_IO_DATA)
        CHECK (q2_meter_wants_sample (&fast, class, off));
    }
  for (uint64_t off = 0; off < MiB; off += 4 * KiB)
    small += q2_meter_wants_sample (&fast, QCOW2_IO_DATA, off);
  unit_context ("%u of 256 small reads of a fast host are timed", small);
  CHECK (small >= 4 && small <= 32);
  /* Whatever the cluster size, and wherever the first cluster lies. */
  for (unsigned bits = 12; bits <= 21; ++bits)
    for (uint64_t first = 0; first < 16; ++first) {
      bool any = false;

      unit_context ("clusters of 2^%u from the %" PRIu64 "th", bits, first);
      for (uint64_t i = first; i < first + 64; ++i)
        any |= q2_meter_wants_sample (&fast, QCOW2_IO_DATA, i << bits);
      CHECK (any);
    }
}

/* ---- What is asked of the host ------------------------------------------ */

static unsigned char file[256 * 1024];

struct host {
  struct memory_io m;
  struct q2_io_shared shared;
  struct q2_io io;
};

static void
host_init (struct host *h, uint32_t us)
{
  memset (h, 0, sizeof *h);
  memory_io_init (&h->m, file, sizeof file);
  h->shared.meter.counting = true;
  h->shared.meter.latency_us = us;
  h->io = (struct q2_io) {
    .host = &h->m.io, .file_size = sizeof file, .shared = &h->shared,
  };
}

static int
read_host (struct host *h, uint64_t off, enum qcow2_io_class class)
{
  static unsigned char buf[512];
  struct qcow2_error err;

  return q2_io_read (&h->io, buf, sizeof buf, off, class, &err);
}

static void
test_requests (void)
{
  struct host h;

  unit_context ("a fast host that has become slow");
  host_init (&h, FAST_US);
  h.m.delay_us = 2000;
  for (unsigned i = 0; i < 20; ++i)
    CHECK_EQ (read_host (&h, 0, QCOW2_IO_DATA), 0);
  CHECK (q2_meter_is_slow (&h.shared.meter));
  CHECK_EQ (h.shared.meter.io[QCOW2_IO_DATA].requests, 20);
  CHECK_EQ (h.shared.meter.io[QCOW2_IO_DATA].bytes, 20 * 512);

  unit_context ("failures come at once, and say nothing about it");
  h.m.fail_every = 1;
  h.m.delay_us = 0;
  h.m.fail_errnum = EIO;
  for (unsigned i = 0; i < 20; ++i)
    CHECK_EQ (read_host (&h, 0, QCOW2_IO_L2), -1);
  CHECK (q2_meter_is_slow (&h.shared.meter));

  unit_context ("a slow host that has become fast");
  h.m.fail_every = 0;
  for (unsigned i = 0; i < 200 && q2_meter_is_slow (&h.shared.meter); ++i)
    CHECK_EQ (read_host (&h, 4096 + i, QCOW2_IO_DATA), 0);
  CHECK (!q2_meter_is_slow (&h.shared.meter));
}

int
main (void)
{
  test_first ();
  test_one_is_not_enough ();
  test_several_are ();
  test_large ();
  test_wants ();
  test_requests ();
  return unit_finish ();
}
