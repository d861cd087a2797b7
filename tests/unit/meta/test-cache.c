/* SPDX-License-Identifier: BSD-3-Clause */
/* test-cache.c - the table cache against the bytes of the file it caches.
 *
 * After any evictions, shared loads, reading ahead and failures, the cache
 * returns the bytes of the file.
 */
#include "config.h"

#include "meta/cache.h"

#include "memory_io.h"
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#define FILE_SIZE (256 << 10)

static unsigned char file[FILE_SIZE];
static struct memory_io m;
static const struct q2_io io = { .host = &m.io, .file_size = FILE_SIZE };

/* Read 'ahead' bytes from the slice's start on a miss. */
static struct q2_cache_span
span (size_t ahead)
{
  return (struct q2_cache_span) { .ahead = ahead };
}

/* The same for a scan. */
static struct q2_cache_span
scan (size_t ahead)
{
  return (struct q2_cache_span) { .ahead = ahead, .scan = true };
}

static struct q2_cache *
new_cache (uint64_t max_bytes, size_t slice_size)
{
  struct qcow2_error err;
  struct q2_cache *const c = q2_cache_new (max_bytes, slice_size, &err);

  REQUIRE (c != NULL);
  CHECK_EQ (q2_cache_slice_size (c), slice_size);
  return c;
}

/* ---- One thread --------------------------------------------------------- */

static void
one_operation (struct q2_cache *c, struct rng *rng, uint64_t first_off)
{
  const size_t slice = q2_cache_slice_size (c);
  const uint64_t nr = (FILE_SIZE - first_off) / slice;
  const uint64_t start = first_off + rng_below (rng, nr) * slice;
  const size_t skip = rng_below (rng, slice / 8) * 8;
  const size_t len = 8 + rng_below (rng, (slice - skip) / 8) * 8;
  const uint64_t end_of_slices = first_off + nr * slice;
  size_t ahead = slice * (1 + rng_below (rng, 4));
  struct qcow2_error err;
  unsigned char buf[4096 + 1];
  unsigned long reads;

  if (ahead > end_of_slices - start)
    ahead = end_of_slices - start;
  buf[len] = 0x77;
  switch (rng_below (rng, 4)) {
  case 0:
    if (q2_cache_lookup (c, start + skip, skip, buf, len))
      CHECK_BYTES (buf, file + start + skip, len);
    break;
  case 1:
    q2_cache_preload (c, &io, start, slice, rng_below (rng, 2));
    CHECK (q2_cache_contains (c, start));
    CHECK (q2_cache_lookup (c, start + skip, skip, buf, len));
    CHECK_BYTES (buf, file + start + skip, len);
    break;
  default:
    reads = m.reads[QCOW2_IO_L2];
    CHECK_EQ (q2_cache_read (c, &io, start + skip, skip, buf, len, span (ahead),
                             &err), 0);
    CHECK_BYTES (buf, file + start + skip, len);
    CHECK (m.reads[QCOW2_IO_L2] - reads <= 1);
  }
  CHECK_EQ (buf[len], 0x77);
}

static void
test_model (void)
{
  struct rng rng = { 11 };

  for (size_t slice = 512; slice <= 4096; slice *= 2)
    for (unsigned slots = 0; slots <= 200; slots = slots * 5 + 1) {
      struct q2_cache *const c = new_cache (slots * slice, slice);

      memory_io_reset (&m);
      for (unsigned i = 0; i < 3000; ++i) {
        unit_context ("slice %zu, %u slots, step %u", slice, slots, i);
        one_operation (c, &rng, 0);
      }
      q2_cache_free (c);
    }
  /* Tables of version 1 need not be aligned to anything. */
  for (uint64_t off = 1; off < 512; off += 101) {
    struct q2_cache *const c = new_cache (16 * 512, 512);

    for (unsigned i = 0; i < 1000; ++i)
      one_operation (c, &rng, off);
    q2_cache_free (c);
  }
  q2_cache_free (NULL);
}

static uint64_t
count_cached (struct q2_cache *c)
{
  const size_t slice = q2_cache_slice_size (c);
  uint64_t nr = 0;
  unsigned char b;

  for (uint64_t off = 0; off < FILE_SIZE; off += slice)
    nr += q2_cache_lookup (c, off, 0, &b, 1);
  return nr;
}

/* Holds what it may, and no more. */
static void
test_bounds (void)
{
  struct qcow2_error err;
  unsigned char b;

  for (unsigned slots = 8; slots <= 256; slots *= 2) {
    struct q2_cache *const c = new_cache (slots * 1024, 1024);

    unit_context ("%u slots", slots);
    for (uint64_t off = 0; off < FILE_SIZE; off += 1024)
      CHECK_EQ (q2_cache_read (c, &io, off, 0, &b, 1, span (1024), &err), 0);
    CHECK (count_cached (c) <= slots);
    /* Spread over the shards evenly enough to be of use. */
    CHECK (count_cached (c) >= slots / 2);
    q2_cache_free (c);
  }
  unit_context ("%s", "");
}

/* What somebody uses survives a scan, whether or not it is used meanwhile,
 * as long as there are scanned slices to throw out.
 */
static void
test_scan (void)
{
  struct q2_cache *const c = new_cache (8 * 512, 512);
  struct qcow2_error err;
  unsigned char b;

  for (uint64_t off = 0; off < 4 * 512; off += 512)
    CHECK_EQ (q2_cache_read (c, &io, off, 0, &b, 1, span (512), &err), 0);
  for (uint64_t off = 4 * 512; off < FILE_SIZE; off += 512)
    CHECK_EQ (q2_cache_read (c, &io, off, 0, &b, 1, scan (512), &err), 0);
  for (uint64_t off = 0; off < 4 * 512; off += 512)
    CHECK (q2_cache_contains (c, off));
  q2_cache_free (c);
}

/* A scan that is read ahead of does not lose what it has not come to. */
static void
test_scan_ahead (void)
{
  struct q2_cache *const c = new_cache (32 * 512, 512);
  const uint64_t distance = 8 * 512;
  struct qcow2_error err;
  unsigned long reads;
  unsigned char b;

  for (uint64_t off = 0; off < distance; off += 512)
    q2_cache_preload (c, &io, off, 512, true);
  reads = m.reads[QCOW2_IO_L2];
  for (uint64_t off = 0; off + distance < FILE_SIZE; off += 512) {
    q2_cache_preload (c, &io, off + distance, 512, true);
    CHECK_EQ (q2_cache_read (c, &io, off, 0, &b, 1, scan (512), &err), 0);
  }
  CHECK_EQ (m.reads[QCOW2_IO_L2] - reads, (FILE_SIZE - distance) / 512);
  q2_cache_free (c);
}

/* A miss in the middle brings in what lies in front of it too. */
static void
test_behind (void)
{
  struct q2_cache *const c = new_cache (1 << 16, 512);
  const struct q2_cache_span both = { .behind = 1024, .ahead = 1536 };
  struct qcow2_error err;
  unsigned char buf[8];

  CHECK_EQ (q2_cache_read (c, &io, 4096 + 16, 16, buf, 8, both, &err), 0);
  CHECK_BYTES (buf, file + 4096 + 16, 8);
  for (uint64_t off = 0; off < 16384; off += 512)
    CHECK_EQ (q2_cache_contains (c, off),
              off >= 4096 - 1024 && off < 4096 + 1536);
  q2_cache_free (c);
}

/* One read brings in all that was announced. */
static void
test_ahead (void)
{
  struct q2_cache *const c = new_cache (1 << 20, 512);
  struct qcow2_error err;
  unsigned char b;

  memory_io_reset (&m);
  CHECK_EQ (q2_cache_read (c, &io, 8192 + 7, 7, &b, 1, span (65536), &err), 0);
  CHECK_EQ (b, file[8192 + 7]);
  CHECK_EQ (m.reads[QCOW2_IO_L2], 1);
  CHECK_EQ (m.read_bytes, 65536);
  CHECK_EQ (count_cached (c), 128);
  for (uint64_t off = 8192; off < 8192 + 65536; off += 512) {
    CHECK (q2_cache_lookup (c, off + 9, 9, &b, 1));
    CHECK_EQ (b, file[off + 9]);
  }
  q2_cache_free (c);
}

static void
test_faults (void)
{
  struct q2_cache *const c = new_cache (1 << 20, 512);
  struct qcow2_error err;
  unsigned char buf[8];

  for (unsigned n = 1; n < 50; ++n) {
    const uint64_t off = n * 512;

    memory_io_reset (&m);
    m.fail_at = 1;
    m.fail_errnum = ENXIO;
    CHECK_EQ (q2_cache_read (c, &io, off, 0, buf, 8, span (512), &err), -1);
    CHECK_ERROR (&err, QCOW2_ERR_IO, off);
    CHECK_EQ (err.errnum, ENXIO);
    /* Nothing of a failed read is kept. */
    CHECK (!q2_cache_lookup (c, off, 0, buf, 8));
    m.fail_at = 0;
    CHECK_EQ (q2_cache_read (c, &io, off, 0, buf, 8, span (512), &err), 0);
    CHECK_BYTES (buf, file + off, 8);
  }
  q2_cache_free (c);
}

/* What cannot be read beside a slice is not missed. */
static void
test_bad_neighbour (void)
{
  struct q2_cache *const c = new_cache (1 << 20, 512);
  const struct q2_cache_span both = { .behind = 1024, .ahead = 1536 };
  struct qcow2_error err;
  unsigned char b;

  m.bad_start = 4096;
  m.bad_end = 4097;
  for (uint64_t off = 2048; off < 8192; off += 512) {
    const int wanted = off == 4096 ? -1 : 0;

    unit_context ("offset %" PRIu64, off);
    CHECK_EQ (q2_cache_read (c, &io, off, 0, &b, 1, both, &err), wanted);
    if (wanted == 0)
      CHECK_EQ (b, file[off]);
  }
  unit_context ("%s", "");
  m.bad_end = 0;
  q2_cache_free (c);
}

/* ---- Sweeps ------------------------------------------------------------- */

/* Bytes of memory that the process has. */
static uint64_t
resident (void)
{
  FILE *const f = fopen ("/proc/self/statm", "r");
  unsigned long size, pages;

  if (f == NULL)
    return 0;
  REQUIRE (fscanf (f, "%lu %lu", &size, &pages) == 2);
  fclose (f);
  return (uint64_t) pages * (uint64_t) sysconf (_SC_PAGESIZE);
}

/* What was used since the last one stays, and what is to be written. */
static void
test_sweep (void)
{
  struct q2_cache *const c = new_cache (1 << 20, 512);
  const unsigned char dirty[512] = "dirty";
  struct qcow2_error err;
  unsigned char b;

  for (uint64_t off = 0; off < FILE_SIZE; off += 512)
    CHECK_EQ (q2_cache_read (c, &io, off, 0, &b, 1, span (512), &err), 0);
  CHECK (q2_cache_insert (c, FILE_SIZE, dirty, true));
  CHECK (q2_cache_update (c, 512, 0, dirty, 5));
  qcow2_forget_unused_tables ();
  CHECK_EQ (count_cached (c), FILE_SIZE / 512);

  /* Counting them has used them. */
  qcow2_forget_unused_tables ();
  for (uint64_t off = 8192; off < 16384; off += 512)
    CHECK (q2_cache_lookup (c, off, 0, &b, 1));
  qcow2_forget_unused_tables ();
  for (uint64_t off = 0; off <= FILE_SIZE; off += 512) {
    unit_context ("offset %" PRIu64, off);
    CHECK_EQ (q2_cache_contains (c, off), off == 512 || off == FILE_SIZE ||
              (off >= 8192 && off < 16384));
  }
  unit_context ("%s", "");
  qcow2_forget_unused_tables ();
  CHECK_EQ (q2_cache_nr_dirty (c), 2);
  CHECK (q2_cache_lookup (c, 512, 0, &b, 1));
  CHECK_EQ (b, 'd');
  CHECK (!q2_cache_contains (c, 8192));

  /* The places are of use again. */
  for (uint64_t off = 1024; off < FILE_SIZE; off += 512) {
    CHECK_EQ (q2_cache_read (c, &io, off + 3, 3, &b, 1, span (512), &err), 0);
    CHECK_EQ (b, file[off + 3]);
  }
  q2_cache_free (c);
}

/* The memory is the system's again; caches that come and go do not matter. */
static void
test_sweep_memory (void)
{
  static unsigned char slice[4096];
  struct q2_cache *const c = new_cache (32 << 20, sizeof slice);
  struct q2_cache *const other = new_cache (1 << 20, sizeof slice);
  uint64_t full;

  memset (slice, 1, sizeof slice);
  for (uint64_t i = 0; i < q2_cache_capacity (c); ++i)
    CHECK (q2_cache_insert (c, i * sizeof slice, slice, false));
  full = resident ();
  q2_cache_free (other);
  qcow2_forget_unused_tables ();
  CHECK (resident () + (16 << 20) > full);
  qcow2_forget_unused_tables ();
  if (full != 0)
    CHECK (resident () + (16 << 20) < full);
  CHECK (!q2_cache_contains (c, 0));
  q2_cache_free (c);
  qcow2_forget_unused_tables ();
}

/* ---- Many threads ------------------------------------------------------- */

#define NR_THREADS 8

struct crowd {
  struct q2_cache *c;
  uint64_t host_off;
  pthread_barrier_t start;
  atomic_uint failed;
};

static void *
read_in_crowd (void *opaque)
{
  struct crowd *const crowd = opaque;
  struct qcow2_error err;
  unsigned char buf[16];

  pthread_barrier_wait (&crowd->start);
  if (q2_cache_read (crowd->c, &io, crowd->host_off, 0, buf, sizeof buf,
                     span (512), &err) == -1) {
    CHECK_EQ (err.errnum, ENXIO);
    crowd->failed++;
  }
  else
    CHECK_BYTES (buf, file + crowd->host_off, sizeof buf);
  return NULL;
}

static unsigned
run_crowd (struct q2_cache *c, uint64_t host_off)
{
  struct crowd crowd = { .c = c, .host_off = host_off };
  pthread_t threads[NR_THREADS];

  pthread_barrier_init (&crowd.start, NULL, NR_THREADS);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    REQUIRE (pthread_create (&threads[i], NULL, read_in_crowd, &crowd) == 0);
  for (unsigned i = 0; i < NR_THREADS; ++i)
    pthread_join (threads[i], NULL);
  pthread_barrier_destroy (&crowd.start);
  return crowd.failed;
}

static void
test_single_flight (void)
{
  struct q2_cache *const c = new_cache (1 << 20, 512);

  m.delay_us = 5000;
  for (unsigned round = 0; round < 10; ++round) {
    const uint64_t host_off = 4096 + round * 512;

    unit_context ("single flight, round %u", round);
    memory_io_reset (&m);
    CHECK_EQ (run_crowd (c, host_off), 0);
    CHECK_EQ (m.reads[QCOW2_IO_L2], 1);
  }
  /* One fails: only its own request. */
  for (unsigned round = 0; round < 10; ++round) {
    unit_context ("failing flight, round %u", round);
    memory_io_reset (&m);
    m.fail_at = 1;
    m.fail_errnum = ENXIO;
    CHECK_EQ (run_crowd (c, 65536 + round * 512), 1);
    CHECK (m.reads[QCOW2_IO_L2] >= 2);
    CHECK (m.reads[QCOW2_IO_L2] <= NR_THREADS);
  }
  /* All fail, and each has tried. */
  unit_context ("%s", "all fail");
  memory_io_reset (&m);
  m.fail_at = 1;
  m.fail_on = true;
  CHECK_EQ (run_crowd (c, 131072), NR_THREADS);
  CHECK_EQ (m.reads[QCOW2_IO_L2], NR_THREADS);
  m.fail_at = 0;
  m.fail_on = false;
  m.delay_us = 0;
  CHECK_EQ (run_crowd (c, 131072), 0);
  q2_cache_free (c);
  unit_context ("%s", "");
}

/* A slow read of one slice must not hold up others, cached or not. */
struct slow {
  struct q2_cache *c;
  atomic_bool done;
};

static void *
read_slowly (void *opaque)
{
  struct slow *const slow = opaque;
  struct memory_io slow_io;
  const struct q2_io way = { .host = &slow_io.io, .file_size = FILE_SIZE };
  struct qcow2_error err;
  unsigned char b;

  memory_io_init (&slow_io, file, FILE_SIZE);
  slow_io.delay_us = 300000;
  CHECK_EQ (q2_cache_read (slow->c, &way, 512, 0, &b, 1, span (512), &err), 0);
  slow->done = true;
  return NULL;
}

static void
test_independence (void)
{
  struct slow slow = { .c = new_cache (1 << 20, 512) };
  struct qcow2_error err;
  pthread_t thread;
  unsigned char b;

  REQUIRE (pthread_create (&thread, NULL, read_slowly, &slow) == 0);
  for (uint64_t off = 1024; off < 65536; off += 512) {
    CHECK_EQ (q2_cache_read (slow.c, &io, off, 0, &b, 1, span (512), &err), 0);
    CHECK (q2_cache_lookup (slow.c, off, 0, &b, 1));
  }
  CHECK (!slow.done);
  pthread_join (thread, NULL);
  q2_cache_free (slow.c);
}

static void *
hammer (void *opaque)
{
  struct q2_cache *const c = opaque;
  static atomic_uint seeds;
  struct rng rng = { ++seeds };

  for (unsigned i = 0; i < unit_scaled (4000); ++i) {
    const uint64_t off = rng_below (&rng, 60) * 512;
    struct qcow2_error err;
    unsigned char buf[512];

    if (i % 3 == 0) {
      if (q2_cache_lookup (c, off, 0, buf, 512))
        CHECK_BYTES (buf, file + off, 512);
    }
    else {
      CHECK_EQ (q2_cache_read (c, &io, off, 0, buf, 512,
                               span (512 * (1 + rng_below (&rng, 3))),
                               &err), 0);
      CHECK_BYTES (buf, file + off, 512);
    }
  }
  return NULL;
}

static void
test_hammer (void)
{
  for (unsigned slots = 8; slots <= 64; slots *= 8) {
    struct q2_cache *const c = new_cache (slots * 512, 512);
    pthread_t threads[NR_THREADS];

    for (unsigned i = 0; i < NR_THREADS; ++i)
      REQUIRE (pthread_create (&threads[i], NULL, hammer, c) == 0);
    for (unsigned i = 0; i < 100; ++i) {
      qcow2_forget_unused_tables ();
      q2_cache_free (new_cache (8 * 512, 512));
    }
    for (unsigned i = 0; i < NR_THREADS; ++i)
      pthread_join (threads[i], NULL);
    q2_cache_free (c);
  }
}

int
main (void)
{
  struct rng rng = { 1 };

  rng_fill (&rng, file, sizeof file);
  memory_io_init (&m, file, sizeof file);
  test_model ();
  test_bounds ();
  test_scan ();
  test_scan_ahead ();
  test_behind ();
  test_ahead ();
  test_faults ();
  test_bad_neighbour ();
  test_sweep ();
  test_sweep_memory ();
  test_single_flight ();
  test_independence ();
  test_hammer ();
  return unit_finish ();
}
