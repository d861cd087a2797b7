/* SPDX-License-Identifier: BSD-3-Clause */
/* test-view-snapshots.c - listing snapshots and opening them: descriptions,
 * contents, hostile tables, and the number of requests.
 */
#include "config.h"

#include "image_inside.h"
#include "memory_io.h"
#include "views.h"
#include "base/bits.h"

#include <time.h>

#define CLUSTER UINT64_C (4096)

static const struct image_spec small_spec = {
  .version = 3, .cluster_bits = 12, .refcount_order = 4,
  .virtual_size = 100 * CLUSTER,
};

static struct qcow2_image *
open_image (struct memory_io *m, const struct image_builder *b,
            uint64_t readahead)
{
  const struct qcow2_options options = {
    .readahead = readahead, .cluster_cache_size = 1 << 20, .count = true,
  };
  struct qcow2_error err;
  struct qcow2_image *image;

  memory_io_init (m, b->bytes, b->size);
  image = qcow2_open (&m->io, &options, &err);
  if (!unit_check (image != NULL, __FILE__, __LINE__, "%s",
                   image ? "" : err.text))
    exit (unit_finish ());
  return image;
}

static void
put_cluster (struct image_builder *b, uint64_t guest_cluster, int byte)
{
  unsigned char *const cluster = malloc (b->cluster_size);

  REQUIRE (cluster != NULL);
  memset (cluster, byte, b->cluster_size);
  builder_data (b, guest_cluster, cluster);
  free (cluster);
}

static void
check_cluster (struct qcow2_image *view, const struct qcow2_io *io,
               uint64_t guest_cluster, int byte)
{
  unsigned char expected[CLUSTER], buf[CLUSTER];
  struct qcow2_error err;

  memset (expected, byte, sizeof expected);
  if (!unit_check (qcow2_pread (view, io, buf, sizeof buf,
                                guest_cluster * CLUSTER, &err) == 0,
                   __FILE__, __LINE__, "%s", err.text))
    return;
  CHECK_BYTES (buf, expected, sizeof buf);
}

/* ---- Listing ------------------------------------------------------------ */

static char long_name[60000];

static const struct inside_snapshot listed[] = {
  { .id = "1", .id_len = 1, .name = "one", .name_len = 3, .extra_len = 24,
    .disk_size = 100 * CLUSTER },
  { .id = "", .id_len = 0, .name = "", .name_len = 0, .extra_len = 16,
    .disk_size = 3 },
  { .id = "i\0d", .id_len = 3, .name = "n\0\nme", .name_len = 5,
    .extra_len = 100, .disk_size = 0 },
  { .id = "9", .id_len = 1, .name = long_name, .name_len = sizeof long_name,
    .extra_len = 24, .disk_size = 200 * CLUSTER, .more_l1 = 2 },
  { .id = "1", .id_len = 1, .name = "one", .name_len = 3, .extra_len = 0,
    .disk_size = 100 * CLUSTER },
};
#define NR_LISTED (sizeof listed / sizeof listed[0])

struct listing {
  unsigned n, stop_after;
};

static int
see_snapshot (void *opaque, const struct qcow2_snapshot *s)
{
  struct listing *const l = opaque;
  const struct inside_snapshot *const e = &listed[l->n];

  if (!CHECK (l->n < NR_LISTED))
    return 1;
  CHECK (s->id.len == e->id_len && memcmp (s->id.bytes, e->id, e->id_len)
         == 0);
  CHECK (s->name.len == e->name_len &&
         memcmp (s->name.bytes, e->name, e->name_len) == 0);
  CHECK_EQ (s->disk_size, e->disk_size);
  CHECK_EQ (s->vm_state_size, e->more_l1 ? 4711 : 0);
  CHECK_EQ (s->date_sec, 1700000000);
  CHECK_EQ (s->date_nsec, 123456789);
  CHECK_EQ (s->vm_clock_ns, 42);
  l->n++;
  return l->n == l->stop_after;
}

static void
test_list (void)
{
  struct inside in = { .nr_snapshots = 0 };
  struct image_builder b;
  struct memory_io m;
  struct qcow2_image *image;
  struct qcow2_error err;

  unit_context ("%s", "listing");
  memset (long_name, 'x', sizeof long_name);
  builder_init (&b, &small_spec);
  for (size_t i = 0; i < NR_LISTED; ++i)
    inside_snapshot (&in, &b, &listed[i]);
  inside_finish (&in, &b);
  builder_finish (&b);
  image = open_image (&m, &b, 0);
  CHECK_EQ (qcow2_get_info (image).nr_snapshots, NR_LISTED);
  for (unsigned stop = 0; stop <= NR_LISTED; ++stop) {
    struct listing l = { 0, stop };

    CHECK (qcow2_list_snapshots (image, &m.io, see_snapshot, &l, &err) == 0);
    CHECK_EQ (l.n, stop ? stop : NR_LISTED);
  }
  qcow2_close (image);
  builder_free (&b);

  builder_init (&b, &small_spec);
  builder_finish (&b);
  image = open_image (&m, &b, 0);
  {
    struct listing l = { 0, 0 };

    CHECK (qcow2_list_snapshots (image, &m.io, see_snapshot, &l, &err) == 0);
    CHECK_EQ (l.n, 0);
  }
  view_refuse (image, &m.io, QCOW2_VIEW_SNAPSHOT, "one", QCOW2_ERR_NOT_FOUND,
               "'one'");
  qcow2_close (image);
  builder_free (&b);
}

/* ---- Opening ------------------------------------------------------------ */

/* Cluster n of the disk is full of '0' + n in the first snapshot, and of
 * 'A' + n in the second.
 */
static void
build_two (struct image_builder *b, struct inside *in)
{
  const struct inside_snapshot one = {
    .id = "7", .id_len = 1, .name = "same", .name_len = 4, .extra_len = 24,
    .disk_size = 10 * CLUSTER - 1000,
  };
  const struct inside_snapshot two = {
    .id = "8", .id_len = 1, .name = "same", .name_len = 4, .extra_len = 24,
    .disk_size = 20 * CLUSTER + 77, .more_l1 = 1,
  };

  builder_init (b, &small_spec);
  for (unsigned i = 0; i < 50; ++i)
    put_cluster (b, i, '0' + (int) i);
  inside_snapshot (in, b, &one);
  for (unsigned i = 0; i < 50; ++i)
    put_cluster (b, i, 'A' + (int) i);
  inside_snapshot (in, b, &two);
  for (unsigned i = 0; i < 50; ++i)
    put_cluster (b, i, 0x80 + (int) i);
}

static void
check_outside (struct qcow2_image *view, const struct qcow2_io *io)
{
  const uint64_t size = qcow2_get_info (view).virtual_size;
  struct qcow2_error err;
  char c = 0x11;

  CHECK (qcow2_pread (view, io, &c, 1, size, &err) == -1);
  CHECK_EQ (err.kind, QCOW2_ERR_RANGE);
  CHECK (qcow2_pread (view, io, &c, 1, size + (CLUSTER << 20), &err) == -1);
  CHECK_EQ (c, 0x11);
  CHECK (qcow2_pread (view, io, &c, 1, size - 1, &err) == 0);
}

static void
check_read_only (struct qcow2_image *view, const struct qcow2_io *io)
{
  const struct qcow2_info info = qcow2_get_info (view);
  struct qcow2_error err;

  CHECK (!info.writable && info.why_read_only != NULL);
  CHECK_EQ (info.nr_snapshots, 0);
  CHECK_EQ (info.nr_bitmaps, 0);
  CHECK_EQ (info.cluster_size, CLUSTER);
  CHECK_EQ (info.version, 3);
  CHECK (qcow2_pwrite (view, io, "x", 1, 0, false, &err) == -1);
  CHECK_EQ (err.kind, QCOW2_ERR_READ_ONLY);
  CHECK (qcow2_zero (view, io, 1, 0, 0, &err) == -1);
  CHECK_EQ (err.kind, QCOW2_ERR_READ_ONLY);
  CHECK (qcow2_trim (view, io, 1, 0, false, &err) == -1);
  CHECK_EQ (err.kind, QCOW2_ERR_READ_ONLY);
  CHECK (qcow2_flush (view, io, &err) == 0);
  /* There is nothing inside. */
  view_refuse (view, io, QCOW2_VIEW_SNAPSHOT, "same", QCOW2_ERR_NOT_FOUND,
               "'same'");
  view_refuse (view, io, QCOW2_VIEW_DIFF, "same..", QCOW2_ERR_NOT_FOUND,
               "same..");
  view_refuse (view, io, QCOW2_VIEW_BITMAP, "b", QCOW2_ERR_NOT_FOUND, "'b'");
}

static void
test_open (void)
{
  struct inside in = { .nr_snapshots = 0 };
  struct image_builder b;
  struct memory_io m;
  struct qcow2_image *image, *one, *two;

  unit_context ("%s", "opening");
  build_two (&b, &in);
  inside_finish (&in, &b);
  builder_finish (&b);
  image = open_image (&m, &b, 0);
  one = view_open (image, &m.io, QCOW2_VIEW_SNAPSHOT, "same");
  two = view_open (image, &m.io, QCOW2_VIEW_SNAPSHOT_ID, "8");
  CHECK_EQ (qcow2_get_info (one).virtual_size, 10 * CLUSTER - 1000);
  CHECK_EQ (qcow2_get_info (two).virtual_size, 20 * CLUSTER + 77);
  for (unsigned i = 0; i < 9; ++i)
    check_cluster (one, &m.io, i, '0' + (int) i);
  for (unsigned i = 0; i < 20; ++i) {
    check_cluster (two, &m.io, i, 'A' + (int) i);
    check_cluster (image, &m.io, i, 0x80 + (int) i);
  }
  check_outside (one, &m.io);
  check_outside (two, &m.io);
  check_read_only (one, &m.io);
  qcow2_idle (one);
  qcow2_close (one);
  check_cluster (two, &m.io, 3, 'A' + 3);
  one = view_open (image, &m.io, QCOW2_VIEW_DIFF, "same..");
  check_read_only (one, &m.io);
  check_outside (one, &m.io);
  CHECK_EQ (qcow2_get_info (one).virtual_size, 100 * CLUSTER);
  qcow2_idle (one);
  qcow2_close (one);
  view_refuse (image, &m.io, QCOW2_VIEW_SNAPSHOT, "8", QCOW2_ERR_NOT_FOUND,
               "name '8'");
  view_refuse (image, &m.io, QCOW2_VIEW_SNAPSHOT_ID, "same",
               QCOW2_ERR_NOT_FOUND, "id 'same'");
  view_refuse (image, &m.io, QCOW2_VIEW_SNAPSHOT, "", QCOW2_ERR_NOT_FOUND,
               "name ''");
  qcow2_close (two);
  qcow2_close (image);
  builder_free (&b);
}

/* A view's requests are counted with the image's, and clusters that one has
 * decompressed need not be again.
 */
static void
test_shared (void)
{
  const struct inside_snapshot s = {
    .id = "1", .id_len = 1, .name = "s", .name_len = 1, .extra_len = 24,
    .disk_size = 50 * CLUSTER,
  };
  struct inside in = { .nr_snapshots = 0 };
  unsigned char cluster[CLUSTER], buf[100];
  struct image_builder b;
  struct memory_io m;
  struct qcow2_image *image, *view;
  struct qcow2_error err;
  struct qcow2_stats before, after, own;
  uint64_t host_off, csize;

  unit_context ("%s", "what is shared");
  builder_init (&b, &small_spec);
  memset (cluster, 'c', sizeof cluster);
  if (!builder_compressed (&b, 3, cluster, &host_off, &csize)) {
    builder_free (&b);
    return;
  }
  inside_snapshot (&in, &b, &s);
  inside_finish (&in, &b);
  builder_finish (&b);
  image = open_image (&m, &b, 0);
  view = view_open (image, &m.io, QCOW2_VIEW_SNAPSHOT, "s");
  CHECK (qcow2_pread (image, &m.io, buf, sizeof buf, 3 * CLUSTER, &err)
         == 0);
  qcow2_get_stats (image, &before);
  CHECK_EQ (before.cluster_misses, 1);
  CHECK (qcow2_pread (view, &m.io, buf, sizeof buf, 3 * CLUSTER + 500, &err)
         == 0);
  CHECK_BYTES (buf, cluster, sizeof buf);
  qcow2_get_stats (image, &after);
  qcow2_get_stats (view, &own);
  CHECK_EQ (after.cluster_misses, 1);
  CHECK_EQ (after.cluster_hits, before.cluster_hits + 1);
  CHECK_EQ (after.io[QCOW2_IO_L2].requests,
            before.io[QCOW2_IO_L2].requests + 1);
  CHECK_EQ (own.io[QCOW2_IO_L2].requests, after.io[QCOW2_IO_L2].requests);
  CHECK_EQ (own.table_misses, 1);
  qcow2_close (view);
  qcow2_close (image);
  builder_free (&b);
}

/* ---- Lies --------------------------------------------------------------- */

/* A disk that its L1 table does not reach: as in QEMU, there is nothing. */
static void
test_short_l1 (void)
{
  struct inside in = { .nr_snapshots = 0 };
  struct image_builder b;
  struct memory_io m;
  struct qcow2_image *image, *view;
  uint64_t table;

  unit_context ("%s", "short L1 table");
  build_two (&b, &in);
  inside_finish (&in, &b);
  builder_finish (&b);
  table = builder_get (&b, 64, 8);
  builder_put (&b, table + 40 + 8, 8, 2000 * CLUSTER);
  image = open_image (&m, &b, 0);
  view = view_open (image, &m.io, QCOW2_VIEW_SNAPSHOT, "same");
  CHECK_EQ (qcow2_get_info (view).virtual_size, 2000 * CLUSTER);
  check_cluster (view, &m.io, 49, '0' + 49);
  check_cluster (view, &m.io, 512, 0);
  check_cluster (view, &m.io, 1999, 0);
  qcow2_close (view);
  /* No entry at all. */
  builder_put (&b, table + 8, 4, 0);
  view = view_open (image, &m.io, QCOW2_VIEW_SNAPSHOT, "same");
  check_cluster (view, &m.io, 49, 0);
  qcow2_close (view);
  qcow2_close (image);
  builder_free (&b);
}

/* The snapshot's place and size, of which the reader makes what it can. */
/* Reads anywhere on the disk of a view work, or call the image corrupt. */
static void
read_here_and_there (struct qcow2_image *view, const struct qcow2_io *io,
                     uint64_t size)
{
  for (uint64_t at = 0; at < size; at += size / 7 + 1) {
    struct qcow2_error err;
    char buf[5000];

    if (qcow2_pread (view, io, buf, q2_min (size - at, sizeof buf), at, &err)
        == -1)
      CHECK_EQ (err.kind, QCOW2_ERR_CORRUPT);
  }
}

static void
test_lies (void)
{
  static const struct {
    uint64_t l1_off, entries, size;
    enum qcow2_error_kind error;        /* QCOW2_ERR_FORMAT: it opens */
    const char *part;
  } cases[] = {
    { 0, 1, 40960, QCOW2_ERR_FORMAT, "" },      /* the header */
    { 4096, 1, 40960, QCOW2_ERR_FORMAT, "" },   /* the active L1 table */
    { UINT64_C (1) << 40, 1, 40960, QCOW2_ERR_FORMAT, "" },
    { UINT64_C (0x7ffffffff0000000), 1, 40960, QCOW2_ERR_FORMAT, "" },
    { 0, 4194304, UINT64_C (1) << 43, QCOW2_ERR_FORMAT, "" },
    { 0, 4194304, (UINT64_C (1) << 43) + 1, QCOW2_ERR_CORRUPT, "cannot be" },
    { 4097, 1, 40960, QCOW2_ERR_CORRUPT, "no table can be" },
    { 512, 1, 40960, QCOW2_ERR_CORRUPT, "no table can be" },
    { UINT64_MAX - 4095, 1, 40960, QCOW2_ERR_CORRUPT, "no table can be" },
    { 0, 4194305, 40960, QCOW2_ERR_CORRUPT, "32 MiB" },
    { 0, UINT32_MAX, 40960, QCOW2_ERR_CORRUPT, "32 MiB" },
    { 0, 1, UINT64_MAX, QCOW2_ERR_CORRUPT, "cannot be" },
    { 0, 1, INT64_MAX, QCOW2_ERR_CORRUPT, "cannot be" },
  };
  struct inside in = { .nr_snapshots = 0 };
  struct image_builder b;
  struct memory_io m;
  struct qcow2_image *image;
  uint64_t table;

  build_two (&b, &in);
  inside_finish (&in, &b);
  builder_finish (&b);
  table = builder_get (&b, 64, 8);
  image = open_image (&m, &b, 0);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    struct qcow2_image *view;

    unit_context ("lie %zu", i);
    builder_put (&b, table, 8, cases[i].l1_off);
    builder_put (&b, table + 8, 4, cases[i].entries);
    builder_put (&b, table + 48, 8, cases[i].size);
    if (cases[i].error != QCOW2_ERR_FORMAT) {
      view_refuse (image, &m.io, QCOW2_VIEW_SNAPSHOT, "same",
                   cases[i].error, cases[i].part);
      view_refuse (image, &m.io, QCOW2_VIEW_DIFF, "same..", cases[i].error,
                   cases[i].part);
      continue;
    }
    view = view_open (image, &m.io, QCOW2_VIEW_SNAPSHOT, "same");
    CHECK_EQ (qcow2_get_info (view).virtual_size, cases[i].size);
    read_here_and_there (view, &m.io, cases[i].size);
    qcow2_close (view);
  }
  qcow2_close (image);
  builder_free (&b);
}

/* Of the CPU: other tests may run. */
static double
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &ts);
  return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

static int
count_snapshot (void *opaque, const struct qcow2_snapshot *s)
{
  ++*(unsigned *) opaque;
  CHECK_EQ (s->name.len, 8);
  return 0;
}

/* 'nr' snapshots as QEMU writes them, named s0000000 and so on, which all say
 * that their L1 table of 'entries' entries is at l1_off.
 */
static void
put_many (struct image_builder *b, unsigned nr, uint64_t l1_off,
          uint32_t entries, uint64_t disk_size)
{
  const uint64_t table = builder_alloc (b, (nr * 80 + CLUSTER) / CLUSTER);

  builder_put (b, 60, 4, nr);
  builder_put (b, 64, 8, table);
  for (unsigned i = 0; i < nr; ++i) {
    const uint64_t off = table + i * UINT64_C (80);
    char text[32];

    builder_put (b, off, 8, l1_off);
    builder_put (b, off + 8, 4, entries);
    builder_put (b, off + 12, 2, 7);
    builder_put (b, off + 14, 2, 8);
    builder_put (b, off + 36, 4, 24);
    builder_put (b, off + 48, 8, disk_size);
    snprintf (text, sizeof text, "%07us%07u", i, i);
    memcpy (b->bytes + off + 64, text, 15);
  }
}

/* As many as can be, each with the largest L1 table, which is not there. */
static void
test_many (void)
{
  struct image_builder b;
  struct memory_io m;
  struct qcow2_image *image;
  struct qcow2_error err;
  unsigned n = 0;
  double start;

  unit_context ("%s", "65536 snapshots");
  builder_init (&b, &small_spec);
  put_many (&b, 65536, CLUSTER << 20, 4194304, UINT64_C (1) << 43);
  builder_finish (&b);
  image = open_image (&m, &b, 0);
  start = now ();
  memory_io_reset (&m);
  CHECK (qcow2_list_snapshots (image, &m.io, count_snapshot, &n, &err) == 0);
  CHECK_EQ (n, 65536);
  CHECK (memory_io_total_reads (&m) <= 11);
  for (unsigned i = 0; i < 20; ++i) {
    char name[20];
    struct qcow2_image *view;

    snprintf (name, sizeof name, "s%07u", i * 3449);
    view = view_open (image, &m.io, QCOW2_VIEW_SNAPSHOT, name);
    check_cluster (view, &m.io, 12345678, 0);
    qcow2_close (view);
  }
  view_refuse (image, &m.io, QCOW2_VIEW_DIFF, "s0000001..s0065536",
               QCOW2_ERR_NOT_FOUND, "no snapshot 's0065536'");
  unit_check (now () - start < 10, __FILE__, __LINE__, "it took %.1f s",
              now () - start);
  qcow2_close (image);
  builder_free (&b);
}

/* ---- Requests ------------------------------------------------------------ */

/* On a slow host, with the L1 table and the snapshot table where opening does
 * not come by: the list of a thousand takes four requests, with all that comes
 * before it; a name costs one walk.
 */
static void
test_round_trips (void)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 16, .refcount_order = 4,
    .virtual_size = UINT64_C (10) << 30,
  };
  const struct qcow2_options options = { .readahead = 8 << 20 };
  struct image_builder b;
  struct memory_io m;
  struct qcow2_image *image, *view;
  struct qcow2_error err;
  uint64_t l1;
  unsigned n = 0;

  unit_context ("%s", "round trips");
  builder_init (&b, &spec);
  builder_alloc (&b, 20);
  l1 = builder_alloc (&b, 1);
  memcpy (b.bytes + l1, b.bytes + b.l1_off, b.l1_entries * 8);
  builder_put (&b, 40, 8, l1);
  b.l1_off = l1;
  builder_alloc (&b, 20);
  put_cluster (&b, 5, 'x');
  builder_alloc (&b, 20);
  put_many (&b, 1000, l1, 20, spec.virtual_size);
  builder_alloc (&b, 100);
  builder_finish (&b);
  memory_io_init (&m, b.bytes, b.size);
  m.delay_us = 400;
  m.io.concurrent = true;
  memory_io_lend (&m, 0);
  image = qcow2_open (&m.io, &options, &err);
  REQUIRE (image != NULL);
  CHECK (qcow2_list_snapshots (image, &m.io, count_snapshot, &n, &err) == 0);
  CHECK_EQ (n, 1000);
  unit_check (memory_io_total_reads (&m) <= 4, __FILE__, __LINE__,
              "%lu requests", memory_io_total_reads (&m));

  memory_io_reset (&m);
  view = view_open (image, &m.io, QCOW2_VIEW_SNAPSHOT, "s0000999");
  CHECK (memory_io_total_reads (&m) <= 2);
  qcow2_close (view);
  memory_io_reset (&m);
  view = view_open (image, &m.io, QCOW2_VIEW_DIFF, "s0000001..s0000999");
  CHECK (memory_io_total_reads (&m) <= 3);
  qcow2_close (view);
  qcow2_close (image);
  CHECK_EQ (m.borrowed, 0);
  builder_free (&b);
}

/* Of twenty L2 tables three differ between A and B: those of A and those of B
 * are all that is read, each in one piece, however fast the host is.
 */
static int
add_data (void *opaque, uint64_t guest_off, uint64_t len,
          enum qcow2_extent_type type)
{
  (void) guest_off;
  if (type == QCOW2_EXTENT_DATA)
    *(uint64_t *) opaque += len;
  return 0;
}

static void
test_diff_round_trips (bool slow)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 16, .refcount_order = 4,
    .virtual_size = UINT64_C (10) << 30,
  };
  const struct qcow2_options options = { .readahead = 8 << 20 };
  struct inside_snapshot s = {
    .id = "1", .id_len = 1, .name = "A", .name_len = 1, .extra_len = 24,
    .disk_size = spec.virtual_size,
  };
  struct inside in = { .nr_snapshots = 0 };
  struct image_builder b;
  struct memory_io m;
  struct qcow2_image *image, *view;
  struct qcow2_error err;
  uint64_t data = 0;

  unit_context ("round trips of a difference, %s", slow ? "slow" : "fast");
  builder_init (&b, &spec);
  builder_alloc (&b, 20);
  for (unsigned i = 0; i < 20; ++i)
    put_cluster (&b, i * 8192, 'a');
  inside_snapshot (&in, &b, &s);
  for (unsigned i = 3; i < 20; i += 7)
    put_cluster (&b, i * 8192 + 5, 'b');
  s.name = "B";
  inside_snapshot (&in, &b, &s);
  builder_alloc (&b, 40);
  inside_finish (&in, &b);
  builder_finish (&b);
  memory_io_init (&m, b.bytes, b.size);
  m.delay_us = slow ? 400 : 0;
  m.io.concurrent = true;
  memory_io_lend (&m, 0);
  image = qcow2_open (&m.io, &options, &err);
  REQUIRE (image != NULL);
  view = view_open (image, &m.io, QCOW2_VIEW_DIFF, "A..B");
  memory_io_reset (&m);
  CHECK (qcow2_extents (view, &m.io, spec.virtual_size, 0, add_data, &data,
                        &err) == 0);
  CHECK_EQ (data, 3 << 16);
  CHECK_EQ (m.reads[QCOW2_IO_L2], 6);
  CHECK_EQ (memory_io_total_reads (&m), 6);
  qcow2_close (view);
  qcow2_close (image);
  CHECK_EQ (m.borrowed, 0);
  builder_free (&b);
}

int
main (void)
{
  test_list ();
  test_open ();
  test_shared ();
  test_short_l1 ();
  test_lies ();
  test_many ();
  test_round_trips ();
  test_diff_round_trips (true);
  test_diff_round_trips (false);
  return unit_finish ();
}
