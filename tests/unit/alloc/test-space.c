/* SPDX-License-Identifier: BSD-3-Clause */
/* test-space.c - exact runs, more references, and packed streams, for every
 * width of refcounts, against a list of what was handed out.
 */
#include "config.h"

#include "alloc/space_impl.h"
#include "base/bits.h"

#include "image_builder.h"
#include "memory_disk.h"
#include "unit.h"

#include <errno.h>

#define MAX_CLUSTERS (1u << 18)

struct fixture {
  struct image_builder builder;
  struct memory_disk disk;
  struct q2_geometry geo;
  struct q2_overlap *overlap;
  struct q2_flight flight;
  struct q2_space *space;
  struct q2_superblock superblock;
  uint64_t *counts;             /* of each cluster, as they should be; of those
                                   that nobody here has asked for, 0 */
};

static void
fixture_init (struct fixture *f, unsigned cluster_bits, unsigned order)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = cluster_bits, .refcount_order = order,
    .virtual_size = 1 << 20,
  };
  const struct qcow2_info none = { .version = 0 };
  struct q2_header h;
  struct qcow2_error err;

  memset (f, 0, sizeof *f);
  builder_init (&f->builder, &spec);
  builder_finish (&f->builder);
  memory_disk_init (&f->disk, f->builder.bytes, f->builder.size);
  REQUIRE (q2_header_decode (f->disk.bytes, f->disk.size, &h, &f->geo, &err)
           == 0);
  q2_superblock_init (&f->superblock, &h, &none);
  f->overlap = q2_overlap_new (cluster_bits, NULL, &err);
  REQUIRE (f->overlap);
  f->space = q2_space_new (&f->geo, &h, f->overlap, &f->flight, &f->disk.io,
                           &err);
  REQUIRE (f->space);
  f->counts = calloc (MAX_CLUSTERS, sizeof *f->counts);
  REQUIRE (f->counts);
}

static void
fixture_free (struct fixture *f)
{
  free (f->counts);
  q2_space_free (f->space);
  q2_overlap_free (f->overlap);
  q2_superblock_destroy (&f->superblock);
  memory_disk_free (&f->disk);
  builder_free (&f->builder);
}

/* What a commit does with refcounts. */
static void
commit (struct fixture *f)
{
  struct q2_refcounts_dirty dirty;
  struct q2_frees frees = { .nr = 0 };
  struct q2_superblock_edit edit;
  struct qcow2_error err;

  REQUIRE (q2_space_gather (f->space, &f->disk.io, Q2_AHEAD_KEEP, &dirty,
                            &err) == 0);
  REQUIRE (q2_space_write (f->space, &dirty, &f->disk.io, &err) == 0);
  q2_superblock_begin (&f->superblock, &edit);
  REQUIRE (q2_refcounts_write_links (&dirty, &edit, &f->disk.io, &err) == 0);
  q2_superblock_end (&edit, true);
  q2_space_end_gather (f->space, &dirty, true, &frees);
  q2_frees_destroy (&frees);
}

static uint64_t
count (struct fixture *f, uint64_t cluster)
{
  struct qcow2_error err;
  uint64_t value = 0;
  int r;

  while ((r = q2_space_get (f->space, &f->disk.io, cluster, &value, &err))
         == Q2_SPACE_COMMIT_FIRST)
    commit (f);
  CHECK_EQ (r, 0);
  return value;
}

static void
check_counts (struct fixture *f)
{
  for (uint64_t c = 0; c < MAX_CLUSTERS; ++c) {
    if (f->counts[c] > 0 && !CHECK_EQ (count (f, c), f->counts[c]))
      return;
  }
}

static void
take (struct fixture *f, uint64_t cluster, uint64_t nr)
{
  REQUIRE (cluster + nr <= MAX_CLUSTERS);
  CHECK ((cluster + nr) << f->geo.cluster_bits <= f->disk.size);
  for (uint64_t c = cluster; c < cluster + nr; ++c) {
    CHECK_EQ (f->counts[c], 0);
    f->counts[c] = 1;
  }
}

/* Take one reference from each. */
static void
release (struct fixture *f, uint64_t cluster, uint64_t nr)
{
  struct q2_frees frees = { .nr = 0 };
  struct qcow2_error err;
  int r;

  REQUIRE (q2_frees_reserve (&frees, 1));
  q2_frees_add (&frees, cluster, nr);
  while ((r = q2_space_release (f->space, &f->disk.io, &frees, false, &err))
         == Q2_SPACE_COMMIT_FIRST)
    commit (f);
  CHECK_EQ (r, 0);
  q2_frees_destroy (&frees);
  for (uint64_t c = cluster; c < cluster + nr; ++c)
    --f->counts[c];
}

/* ---- Exact runs --------------------------------------------------------- */

static uint64_t
alloc_run (struct fixture *f, uint64_t nr)
{
  struct qcow2_error err;
  uint64_t cluster = 0;
  int r;

  while ((r = q2_space_alloc_run (f->space, &f->disk.io, nr, &cluster, &err))
         == Q2_SPACE_COMMIT_FIRST)
    commit (f);
  if (!CHECK_EQ (r, 0))
    printf ("%s\n", err.text);
  return cluster;
}

static void
alloc_stream (struct fixture *f, uint64_t guest_cluster)
{
  struct q2_space_run one;
  struct qcow2_error err;
  int r;

  while ((r = q2_space_alloc (f->space, &f->disk.io, guest_cluster, 1, &one,
                              &err)) == Q2_SPACE_COMMIT_FIRST)
    commit (f);
  REQUIRE (r == 0);
  take (f, one.cluster, one.nr);
}

static void
exact_runs (unsigned bits, unsigned order)
{
  static const uint64_t lengths[] = { 1, 3, 1, 200, 2, 5000, 7, 64, 1000 };
  const size_t nr = sizeof lengths / sizeof lengths[0];
  struct fixture f;
  uint64_t at[sizeof lengths / sizeof lengths[0]];

  fixture_init (&f, bits, order);
  for (size_t i = 0; i < nr; ++i) {
    unit_context ("run %zu, clusters 2^%u, width 2^%u", i, bits, order);
    at[i] = alloc_run (&f, lengths[i]);
    take (&f, at[i], lengths[i]);
    /* Somebody else's window in between, of which a part is not used yet. */
    for (uint64_t n = 0; n < 4; ++n)
      alloc_stream (&f, 100 * i + n);
  }
  /* Runs that do not fit where something became free, before windows. */
  for (size_t i = 0; i < nr; ++i) {
    release (&f, at[i], lengths[i]);
    at[i] = alloc_run (&f, lengths[i] + 1);
    take (&f, at[i], lengths[i] + 1);
  }
  for (size_t i = 0; i < nr; ++i) {
    for (uint64_t n = 4; n < 12; ++n)
      alloc_stream (&f, 100 * i + n);
  }
  check_counts (&f);
  check_counts (&f);
  fixture_free (&f);
}

/* Where the file cannot grow, a run is found behind the cursor, too. */
static void
runs_in_fixed_room (void)
{
  struct fixture f;
  struct qcow2_error err;
  uint64_t first, second, cluster;

  unit_context ("%s", "fixed room");
  fixture_init (&f, 12, 4);
  memory_disk_resize (&f.disk, 200 << 12);
  f.disk.capacity = 200 << 12;
  first = alloc_run (&f, 60);
  second = alloc_run (&f, 100);
  take (&f, first, 60);
  take (&f, second, 100);
  CHECK (q2_space_alloc_run (f.space, &f.disk.io, 61, &cluster, &err) == -1);
  CHECK (err.kind == QCOW2_ERR_NO_SPACE);
  release (&f, first, 60);
  CHECK (q2_space_alloc_run (f.space, &f.disk.io, 100, &cluster, &err) == -1);
  CHECK_EQ (alloc_run (&f, 60), first);
  fixture_free (&f);
}

/* ---- Tables ------------------------------------------------------------- */

static int
alloc (struct fixture *f, uint64_t stream, uint64_t want,
       struct q2_space_run *run)
{
  struct qcow2_error err;
  int r;

  while ((r = q2_space_alloc (f->space, &f->disk.io, stream, want, run, &err))
         == Q2_SPACE_COMMIT_FIRST)
    commit (f);
  CHECK (r != -1);
  return r;
}

/* A file of so many clusters, all of which were in use some time. */
static void
used_file_init (struct fixture *f, uint64_t clusters)
{
  fixture_init (f, 12, 4);
  memory_disk_resize (&f->disk, clusters << 12);
  f->space->never_used = clusters;
}

/* Who waits for others to leave before he gets a table finds the cluster that
 * was chosen for it, although others have reserved a lot in the meantime.
 */
static void
table_keeps_its_place (void)
{
  static struct qcow2_io_ops fixed;
  struct fixture f;
  struct q2_space_run run;
  unsigned token;
  uint64_t first;

  unit_context ("%s", __func__);
  used_file_init (&f, 2000);
  fixed = *f.disk.host.ops;
  fixed.grow = NULL;
  f.disk.host.ops = &fixed;
  first = alloc_run (&f, 10);
  take (&f, first, 10);
  token = q2_flight_enter (&f.flight);
  release (&f, first, 1);
  for (unsigned round = 0; round < 3; ++round) {
    for (uint64_t stream = 1; stream < Q2_SPACE_WINDOWS; ++stream)
      CHECK_EQ (alloc (&f, stream * 1000 + round, 1, &run), 0);
    CHECK_EQ (alloc (&f, Q2_SPACE_NO_STREAM, 1, &run), Q2_SPACE_SETTLE_FIRST);
  }
  CHECK_EQ (alloc (&f, 99000, 1, &run), 0);
  q2_flight_leave (&f.flight, token);
  CHECK (q2_flight_has_passed (&f.flight, 0));
  release (&f, first + 1, 1);
  CHECK_EQ (alloc (&f, Q2_SPACE_NO_STREAM, 1, &run), 0);
  fixture_free (&f);
}

/* A table is put behind what was ever in use: what the search has not come to
 * yet is still there for others.
 */
static void
fresh_table_leaves_the_rest (void)
{
  struct fixture f;
  struct q2_space_run run;
  struct qcow2_error err;
  int r;

  unit_context ("%s", __func__);
  used_file_init (&f, 1000);
  while ((r = q2_space_take_fresh (f.space, &f.disk.io, &err))
         == Q2_SPACE_COMMIT_FIRST)
    commit (&f);
  CHECK_EQ (r, 0);
  CHECK_EQ (alloc (&f, Q2_SPACE_NO_STREAM, 1, &run), 0);
  CHECK (run.cluster >= 1000);
  CHECK_EQ (alloc (&f, 1, 1, &run), 0);
  CHECK (run.cluster < 1000);
  fixture_free (&f);
}

/* ---- References --------------------------------------------------------- */

static void
references (unsigned bits, unsigned order)
{
  const uint64_t max = UINT64_MAX >> (64 - (1u << order));
  const uint64_t rounds = max < 300 ? max - 1 : 300;
  struct fixture f;
  struct qcow2_error err;
  struct q2_free_run run;
  uint64_t first;

  unit_context ("references, clusters 2^%u, width 2^%u", bits, order);
  fixture_init (&f, bits, order);
  first = alloc_run (&f, 150);
  take (&f, first, 150);
  for (uint64_t n = 0; n < rounds; ++n) {
    int r;

    run = (struct q2_free_run) { first + n % 3, 20 };
    while ((r = q2_space_raise (f.space, &f.disk.io, &run, &err))
           == Q2_SPACE_COMMIT_FIRST)
      commit (&f);
    CHECK_EQ (r, 0);
    CHECK_EQ (run.nr, 0);
    for (uint64_t c = first + n % 3; c < first + n % 3 + 20; ++c)
      ++f.counts[c];
  }
  check_counts (&f);

  /* One in the middle is at the limit. */
  REQUIRE (q2_space_set_run (f.space, &f.disk.io, first + 50, 1, max, &err)
           == 0);
  f.counts[first + 50] = max;
  run = (struct q2_free_run) { first + 50, 5 };
  CHECK (q2_space_raise (f.space, &f.disk.io, &run, &err) == -1);
  CHECK_ERROR (&err, QCOW2_ERR_UNSUPPORTED, (first + 50) << bits);
  CHECK_EQ (run.nr, 5);
  release (&f, first + 149, 1);
  run = (struct q2_free_run) { first + 149, 1 };
  CHECK (q2_space_raise (f.space, &f.disk.io, &run, &err) == -1);
  CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, (first + 149) << bits);
  check_counts (&f);
  fixture_free (&f);
}

/* ---- Streams ------------------------------------------------------------ */

#define MAX_STREAMS 8

static void
note_streams (struct fixture *f, uint64_t off, const uint32_t *sizes,
              size_t nr)
{
  for (size_t i = 0; i < nr; ++i) {
    const uint64_t first = off >> f->geo.cluster_bits;
    const uint64_t last = (off + sizes[i] - 1) >> f->geo.cluster_bits;

    REQUIRE (last < MAX_CLUSTERS);
    for (uint64_t c = first; c <= last; ++c)
      ++f->counts[c];
    off += sizes[i];
  }
}

/* What has been handed out to packed streams. */
struct streams {
  struct fixture f;
  struct rng rng;
  uint64_t last_end;            /* of the last one; 0: its cluster is gone */
  uint64_t went_on;             /* how often one shared a cluster */
  uint64_t reused;              /* how often a cluster came again */
  uint64_t payload;             /* bytes */
  uint64_t lowest, highest;     /* host offsets */
};

/* Ask for room for a few streams of random sizes, and check where it is. */
static void
add_streams (struct streams *s)
{
  struct fixture *const f = &s->f;
  const uint32_t cluster_size = UINT32_C (1) << f->geo.cluster_bits;
  const size_t nr = 1 + rng_below (&s->rng, MAX_STREAMS);
  uint32_t sizes[MAX_STREAMS];
  struct qcow2_error err;
  size_t fit;
  uint64_t off;
  int r;

  for (size_t i = 0; i < nr; ++i)
    sizes[i] = 1 + (uint32_t) rng_below (&s->rng, rng_below (&s->rng, 2)
                                         ? cluster_size : cluster_size / 8);
  while ((r = q2_space_alloc_bytes (f->space, &f->disk.io, sizes, nr, &fit,
                                    &off, &err)) == Q2_SPACE_COMMIT_FIRST)
    commit (f);
  REQUIRE (r == 0 && fit >= 1 && fit <= nr);
  CHECK_EQ (off % 512, 0);
  s->went_on += off == s->last_end && off % cluster_size != 0;
  if (off % cluster_size != 0)
    CHECK_EQ (off, s->last_end);
  else
    CHECK_EQ (f->counts[off / cluster_size], 0);
  note_streams (f, off, sizes, fit);
  s->last_end = off;
  for (size_t i = 0; i < fit; ++i) {
    s->last_end += sizes[i];
    s->payload += sizes[i];
  }
  s->lowest = q2_min (s->lowest, off);
  s->highest = q2_max (s->highest, s->last_end);
  s->last_end = q2_align_up (s->last_end, 512);
  CHECK (off + 1 <= f->disk.size);
}

/* Release all of the last cluster: streams do not go on in it, least of all
 * when it is in use for something else.
 */
static void
release_last (struct streams *s)
{
  const uint64_t c = (s->last_end - 1) >> s->f.geo.cluster_bits;

  while (s->f.counts[c] > 0)
    release (&s->f, c, 1);
  s->last_end = 0;
  if (rng_below (&s->rng, 2)) {
    const uint64_t other = alloc_run (&s->f, 1);

    take (&s->f, other, 1);
    s->reused += other == c;
  }
}

static void
streams (unsigned bits, unsigned order)
{
  struct streams s = { .rng = { bits * 10 + order }, .lowest = UINT64_MAX };

  fixture_init (&s.f, bits, order);
  for (unsigned n = 0; n < 300; ++n) {
    unit_context ("streams %u, clusters 2^%u, width 2^%u", n, bits, order);
    add_streams (&s);
    if (rng_below (&s.rng, 10) == 0)
      release_last (&s);
    if (rng_below (&s.rng, 10) == 0)
      commit (&s.f);
  }
  check_counts (&s.f);
  CHECK (s.reused > 0);
  if (order > 1 && bits > 9) {
    CHECK (s.went_on > 100);
    /* Packed: not much more than the bytes. */
    CHECK (s.highest - s.lowest < 2 * s.payload);
  }
  fixture_free (&s.f);
}

/* ---- Streams while others are released ---------------------------------- */

static struct meanwhile {
  struct fixture *f;
  struct qcow2_io_ops ops;
  uint64_t off;                 /* what was handed out; 0: nothing yet */
} meanwhile;

/* The host gives space back, slowly: somebody asks for room meanwhile. */
static int
trim_slowly (void *opaque, uint32_t bytes, uint64_t host_off)
{
  const uint32_t size = 300;
  struct qcow2_error err;
  size_t fit;

  (void) opaque; (void) bytes; (void) host_off;
  REQUIRE (meanwhile.off == 0);
  REQUIRE (q2_space_alloc_bytes (meanwhile.f->space, &meanwhile.f->disk.io,
                                 &size, 1, &fit, &meanwhile.off, &err) == 0);
  return 0;
}

/* The last stream of a cluster is released, while another one is added. */
static void
added_while_released (void)
{
  const uint32_t sizes[] = { 100, 200 };
  struct q2_frees frees = { .nr = 0 };
  struct fixture f;
  struct qcow2_error err;
  uint64_t off, cluster;
  size_t fit;

  unit_context ("added while released");
  fixture_init (&f, 12, 4);
  meanwhile = (struct meanwhile) { .f = &f, .ops = *f.disk.host.ops };
  meanwhile.ops.trim = trim_slowly;
  f.disk.host.ops = &meanwhile.ops;
  REQUIRE (q2_space_alloc_bytes (f.space, &f.disk.io, sizes, 2, &fit, &off,
                                 &err) == 0 && fit == 2);
  cluster = off >> 12;
  REQUIRE (q2_frees_reserve (&frees, 2));
  q2_frees_add (&frees, cluster, 1);
  q2_frees_add (&frees, cluster, 1);
  REQUIRE (q2_space_release (f.space, &f.disk.io, &frees, true, &err) == 0);
  q2_frees_destroy (&frees);
  REQUIRE (meanwhile.off != 0);
  /* Not where the host has just dropped what is there. */
  CHECK (meanwhile.off >> 12 != cluster);
  CHECK_EQ (count (&f, meanwhile.off >> 12), 1);
  CHECK_EQ (count (&f, cluster), 0);
  fixture_free (&f);
}

/* ---- Failures ----------------------------------------------------------- */

/* Each change of the host fails once: nothing is handed out, and no refcount
 * is too low afterwards.
 */
static void
failures (void)
{
  bool failed = true;

  for (unsigned at = 1; failed; ++at) {
    uint32_t sizes[] = { 300, 4000, 4000, 100 };
    struct fixture f;
    struct qcow2_error err;
    uint64_t cluster, off;
    size_t fit;

    unit_context ("change %u fails", at);
    fixture_init (&f, 9, 6);
    f.disk.fail_at = f.disk.changes + at;
    f.disk.fail_errnum = EIO;
    failed = q2_space_alloc_run (f.space, &f.disk.io, 500, &cluster, &err)
      == -1;
    if (!failed)
      take (&f, cluster, 500);
    sizes[1] = sizes[2] = 500;
    if (q2_space_alloc_bytes (f.space, &f.disk.io, sizes, 4, &fit, &off, &err)
        == -1)
      failed = true;
    else
      note_streams (&f, off, sizes, fit);
    f.disk.fail_at = 0;
    cluster = alloc_run (&f, 100);
    take (&f, cluster, 100);
    check_counts (&f);
    fixture_free (&f);
  }
}

int
main (void)
{
  for (unsigned order = 0; order <= 6; ++order) {
    exact_runs (9, order);
    exact_runs (12, order);
    references (9, order);
    references (16, order);
    streams (9, order);
    streams (12, order);
    streams (16, order);
  }
  runs_in_fixed_room ();
  table_keeps_its_place ();
  fresh_table_leaves_the_rest ();
  added_while_released ();
  failures ();
  return unit_finish ();
}
