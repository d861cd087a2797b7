/* SPDX-License-Identifier: BSD-3-Clause */
/* test-zones.c - whatever threads do, a bitmap that is kept true has each bit
 * in the file, durably, when a request may go on.
 *
 * The host knows of each byte what a crash could leave there at worst: the AND
 * of what was flushed and of all that was written since.
 */
#include "config.h"

#include "track/tracked.h"

#include "io/io.h"

#include "threads.h"
#include "unit.h"

#include <errno.h>

#define CLUSTER 512
#define ENTRIES 16
#define FIRST (UINT64_C (64) * CLUSTER) /* where the bits are */
#define NR_WRITERS 4

struct file {
  pthread_mutex_t lock;
  unsigned char now[ENTRIES * CLUSTER], worst[ENTRIES * CLUSTER];
  unsigned long writes, flushes, fail_at;
};

static int
file_pwrite (void *opaque, const void *buf, uint32_t count, uint64_t host_off,
             enum qcow2_io_class io_class)
{
  struct file *const f = opaque;
  const unsigned char *const p = buf;
  const uint64_t at = host_off - FIRST;
  int r;

  (void) io_class;
  REQUIRE (host_off >= FIRST && at + count <= sizeof f->now);
  pthread_mutex_lock (&f->lock);
  for (uint32_t i = 0; i < count; ++i) {
    f->now[at + i] = p[i];
    f->worst[at + i] &= p[i];
  }
  r = ++f->writes == f->fail_at ? EIO : 0;
  pthread_mutex_unlock (&f->lock);
  return r;
}

static int
file_flush (void *opaque)
{
  struct file *const f = opaque;

  pthread_mutex_lock (&f->lock);
  memcpy (f->worst, f->now, sizeof f->now);
  ++f->flushes;
  pthread_mutex_unlock (&f->lock);
  return 0;
}

static int
file_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
            enum qcow2_io_class io_class)
{
  (void) opaque;
  (void) host_off;
  (void) io_class;
  memset (buf, 0, count);
  return 0;
}

static const struct qcow2_io_ops ops = {
  .pread = file_pread, .pwrite = file_pwrite, .flush = file_flush,
};

struct fixture {
  struct file file;
  struct qcow2_io host;
  struct q2_io_shared shared;
  struct q2_io io;
  struct q2_geometry geo;
  struct q2_track track;
  struct q2_gate gate;
  uint64_t disk;
  atomic_uint writing;          /* threads */
  unsigned long seed;
};

/* The disk that these bits are enough for. */
static void
fixture_init (struct fixture *f, unsigned granularity_bits)
{
  struct q2_tracked *t;
  struct qcow2_error err;

  memset (f, 0, sizeof *f);
  pthread_mutex_init (&f->file.lock, NULL);
  f->host = (struct qcow2_io) {
    .ops = &ops, .opaque = &f->file, .min_block = 1, .concurrent = true,
    .size = FIRST + sizeof f->file.now,
  };
  q2_io_shared_init (&f->shared);
  f->io = (struct q2_io) {
    .host = &f->host, .file_size = f->host.size, .shared = &f->shared,
  };
  f->disk = (ENTRIES * CLUSTER * UINT64_C (8) - 5) << granularity_bits;
  f->geo = (struct q2_geometry) {
    .version = 3, .virtual_size = f->disk, .cluster_bits = 9,
    .cluster_size = CLUSTER,
  };
  q2_gate_init (&f->gate);
  q2_track_init (&f->track);
  f->track.mode = QCOW2_BITMAPS_DURABLE;
  f->track.geo = &f->geo;
  f->track.overlap = q2_overlap_new (9, NULL, &err);
  REQUIRE (f->track.overlap != NULL);
  REQUIRE (q2_overlap_add (f->track.overlap, FIRST, sizeof f->file.now,
                           Q2_META_BITMAP_BITS, &err) == 0);

  t = calloc (1, sizeof *t);
  REQUIRE (t != NULL);
  t->len = sizeof f->file.now;
  t->nr_bits = f->disk >> granularity_bits;
  t->granularity_bits = granularity_bits;
  t->zone_bits = granularity_bits < 22 ? 22 - granularity_bits : 0;
  t->nr_zones = (t->nr_bits + (1u << t->zone_bits) - 1) >> t->zone_bits;
  t->table_entries = ENTRIES;
  t->bits = calloc (t->len, 1);
  t->durable = calloc (t->len, 1);
  t->fresh = calloc (t->nr_zones, 1);
  t->clusters = calloc (ENTRIES, sizeof *t->clusters);
  REQUIRE (t->bits && t->durable && t->fresh && t->clusters);
  for (unsigned i = 0; i < ENTRIES; ++i)
    t->clusters[i] = FIRST + i * CLUSTER;
  f->track.first = t;
}

static void
fixture_destroy (struct fixture *f)
{
  q2_overlap_free (f->track.overlap);
  q2_track_destroy (&f->track);
  q2_gate_destroy (&f->gate);
  q2_io_shared_destroy (&f->shared);
  pthread_mutex_destroy (&f->file.lock);
}

/* Nothing has changed yet. */
static void
fixture_clear (struct fixture *f)
{
  struct q2_tracked *const t = f->track.first;

  for (uint64_t i = 0; i < t->len; ++i)
    t->bits[i] = t->durable[i] = 0;
  for (uint64_t i = 0; i < t->nr_zones; ++i)
    t->fresh[i] = 0;
  memset (f->file.now, 0, sizeof f->file.now);
  memset (f->file.worst, 0, sizeof f->file.worst);
  f->file.writes = f->file.flushes = 0;
  f->track.activations = 0;
}

static bool
has_bit (const unsigned char *bits, uint64_t i)
{
  return bits[i / 8] >> i % 8 & 1;
}

static bool
is_safe (struct fixture *f, uint64_t count, uint64_t off)
{
  const unsigned g = f->track.first->granularity_bits;
  bool safe = true;

  pthread_mutex_lock (&f->file.lock);
  for (uint64_t i = off >> g; i <= (off + count - 1) >> g; ++i)
    safe &= has_bit (f->file.worst, i);
  pthread_mutex_unlock (&f->file.lock);
  return safe;
}

static int
change (struct fixture *f, uint64_t count, uint64_t off)
{
  struct qcow2_error err;

  return q2_track_set (&f->track, count, off) ? 0
    : q2_track_activate (&f->track, &f->io, count, off, &err);
}

static void
retire (struct fixture *f)
{
  struct qcow2_error err;

  /* Each zone is looked at twice. */
  for (unsigned i = 0; i < 2; ++i)
    REQUIRE (q2_track_retire (&f->track, &f->io, &f->gate, &err) == 0);
}

/* ---- One thread --------------------------------------------------------- */

static uint64_t
bits_set (const struct fixture *f)
{
  uint64_t nr = 0;

  for (uint64_t i = 0; i < sizeof f->file.now * 8; ++i)
    nr += has_bit (f->file.now, i);
  return nr;
}

static void
test_zone (unsigned granularity_bits)
{
  struct fixture f;
  const uint64_t g = UINT64_C (1) << granularity_bits;
  const uint64_t zone = g > 4 << 20 ? g : 4 << 20;

  unit_context ("granularity 2^%u", granularity_bits);
  fixture_init (&f, granularity_bits);
  REQUIRE (change (&f, 1, g / 2) == 0);
  CHECK (is_safe (&f, 1, g / 2));
  CHECK_EQ (bits_set (&f), zone / g);
  CHECK (has_bit (f.file.now, 0));
  CHECK_EQ (f.file.flushes, 1);

  /* The rest of the zone costs nothing; the next one is behind it. */
  REQUIRE (change (&f, zone, 0) == 0);
  CHECK_EQ (f.file.flushes, 1);
  CHECK_EQ (f.track.activations, 1);
  REQUIRE (change (&f, 1, zone) == 0);
  CHECK_EQ (bits_set (&f), 3 * zone / g);
  REQUIRE (change (&f, 1, 3 * zone) == 0);
  CHECK_EQ (bits_set (&f), 7 * zone / g);
  CHECK_EQ (f.file.flushes, 3);

  /* Only what has changed is left, and stays. */
  retire (&f);
  CHECK_EQ (bits_set (&f), zone / g + 2);
  CHECK (is_safe (&f, zone, 0));
  REQUIRE (change (&f, 1, 3 * zone) == 0);
  CHECK_EQ (f.file.flushes, 3);
  fixture_destroy (&f);
}

/* Somebody wants the gate closed. */
static void
test_hurry (void)
{
  struct qcow2_error err;
  struct fixture f;

  unit_context ("%s", __func__);
  fixture_init (&f, 16);
  REQUIRE (change (&f, 1, 0) == 0);
  REQUIRE (q2_track_retire (&f.track, &f.io, &f.gate, &err) == 0);
  REQUIRE (q2_gate_close (&f.gate, 0) == 0);
  REQUIRE (q2_track_retire (&f.track, &f.io, &f.gate, &err) == 0);
  CHECK_EQ (bits_set (&f), 64);
  q2_gate_open (&f.gate);
  REQUIRE (q2_track_retire (&f.track, &f.io, &f.gate, &err) == 0);
  CHECK_EQ (bits_set (&f), 1);
  fixture_destroy (&f);
}

/* The end of the disk, and all of it at once. */
static void
test_ends (unsigned granularity_bits)
{
  struct fixture f;

  unit_context ("granularity 2^%u", granularity_bits);
  fixture_init (&f, granularity_bits);
  REQUIRE (change (&f, 1, f.disk - 1) == 0);
  CHECK (is_safe (&f, 1, f.disk - 1));
  REQUIRE (change (&f, f.disk, 0) == 0);
  CHECK (is_safe (&f, f.disk, 0));
  CHECK_EQ (bits_set (&f), f.disk >> granularity_bits);
  fixture_destroy (&f);
}

/* ---- Threads ------------------------------------------------------------ */

/* All zones are retired all the time, fresh ones, too. */
static void
retire_on (struct fixture *f)
{
  struct qcow2_error err;

  while (f->writing > 0)
    REQUIRE (q2_track_settle (&f->track, &f->io, &err) == 0);
}

static void
write_and_look (void *opaque, unsigned nr)
{
  struct fixture *const f = opaque;
  struct rng rng = { f->seed * NR_WRITERS + nr };

  if (nr == NR_WRITERS) {
    retire_on (f);
    return;
  }
  for (unsigned i = 0; i < 40; ++i) {
    const uint64_t off = rng_below (&rng, f->disk - 1);
    const uint64_t len = 1 + rng_below (&rng, (f->disk - off) / 64 + 1);

    REQUIRE (change (f, len, off) == 0);
    CHECK (is_safe (f, len, off));
  }
  f->writing--;
}

static void
test_threads (unsigned granularity_bits)
{
  struct qcow2_error err;
  struct threads threads;
  struct fixture f;

  unit_context ("granularity 2^%u", granularity_bits);
  fixture_init (&f, granularity_bits);
  for (f.seed = 1; f.seed <= 30; ++f.seed) {
    fixture_clear (&f);
    f.writing = NR_WRITERS;
    threads_start (&threads, NR_WRITERS + 1, write_and_look, &f);
    threads_join (&threads);
    REQUIRE (q2_track_settle (&f.track, &f.io, &err) == 0);
    for (uint64_t i = 0; i < sizeof f.file.now; ++i)
      CHECK (f.file.worst[i] == f.track.first->bits[i]);
  }
  fixture_destroy (&f);
}

int
main (void)
{
  threads_watchdog ();
  for (unsigned g = 9; g <= 26; g += 3) {
    test_zone (g);
    test_ends (g);
  }
  test_hurry ();
  test_threads (12);
  test_threads (21);
  test_threads (24);
  return unit_finish ();
}
