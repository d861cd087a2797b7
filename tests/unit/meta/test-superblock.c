/* SPDX-License-Identifier: BSD-3-Clause */
/* test-superblock.c - the header changes atomically, for readers and in the
 * file, even after failures.
 */
#include "config.h"

#include "meta/superblock.h"

#include "memory_disk.h"
#include "unit.h"

#include <errno.h>
#include <pthread.h>

#define CLUSTER 4096u

/* A header whose extensions reach into the second sector. */
static void
make_image (unsigned char *p)
{
  memset (p, 0, CLUSTER);
  put_be (p, 4, 0x514649fb);
  put_be (p + 4, 4, 3);
  put_be (p + 20, 4, 12);
  put_be (p + 24, 8, 1 << 20);
  put_be (p + 36, 4, 1);
  put_be (p + 40, 8, 3 * CLUSTER);
  put_be (p + 48, 8, CLUSTER);
  put_be (p + 56, 4, 1);
  put_be (p + 96, 4, 4);
  put_be (p + 100, 4, 112);
  put_be (p + 112, 4, 0x6803f857);
  put_be (p + 116, 4, 480);
  memset (p + 120, 1, 480);
  put_be (p + 8, 8, 700);
  put_be (p + 16, 4, 9);
  memcpy (p + 700, "base.qcow", 9);
}

static const struct qcow2_info none;

struct fixture {
  struct memory_disk disk;
  struct q2_superblock sb;
};

static void
fixture_init (struct fixture *f)
{
  static unsigned char p[CLUSTER];
  struct q2_header h;
  struct q2_geometry geo;
  struct qcow2_error err;

  make_image (p);
  memory_disk_init (&f->disk, p, sizeof p);
  REQUIRE (q2_header_decode (p, sizeof p, &h, &geo, &err) == 0);
  q2_superblock_init (&f->sb, &h, &none);
}

static void
fixture_free (struct fixture *f)
{
  q2_superblock_destroy (&f->sb);
  memory_disk_free (&f->disk);
}

/* Fields that belong together, and a name that needs other sectors. */
static int
set_generation (void *opaque, struct q2_header_parts *parts,
                struct qcow2_error *err)
{
  const unsigned n = *(const unsigned *) opaque;
  char name[32];
  const int len = snprintf (name, sizeof name, "base-%u.qcow2", n);

  parts->fields.nr_snapshots = n;
  parts->fields.snapshots_offset = (uint64_t) n * CLUSTER;
  parts->fields.autoclear = (uint64_t) n << 8;
  return q2_header_set_backing_file (parts, name, (size_t) len, err);
}

static int
refuse (void *opaque, struct q2_header_parts *parts, struct qcow2_error *err)
{
  (void) opaque;
  parts->fields.nr_snapshots = 77;
  err->kind = QCOW2_ERR_UNSUPPORTED;
  return -1;
}

static bool
is_generation (struct q2_header h, unsigned n)
{
  return h.nr_snapshots == n && h.snapshots_offset == (uint64_t) n * CLUSTER
    && h.autoclear == (uint64_t) n << 8;
}

/* What the file says: which generation, and that its name belongs to it. */
static unsigned
generation_in (const unsigned char *p)
{
  struct q2_header h;
  struct q2_geometry geo;
  struct qcow2_error err;
  char name[32] = "base.qcow";

  REQUIRE (q2_header_decode (p, CLUSTER, &h, &geo, &err) == 0);
  CHECK (is_generation (h, h.nr_snapshots));
  if (h.nr_snapshots > 0)
    snprintf (name, sizeof name, "base-%u.qcow2", h.nr_snapshots);
  CHECK (h.backing_file.len == strlen (name) &&
         memcmp (p + h.backing_file.offset, name, strlen (name)) == 0);
  return h.nr_snapshots;
}

static int
change (struct fixture *f, unsigned n, struct qcow2_error *err)
{
  return q2_superblock_change (&f->sb, &f->disk.io, set_generation, &n, 0,
                               err);
}

static void
changes_are_durable (void)
{
  struct fixture f;
  struct qcow2_error err;

  fixture_init (&f);
  for (unsigned n = 1; n <= 5; ++n) {
    REQUIRE (change (&f, n, &err) == 0);
    CHECK (is_generation (q2_superblock_header (&f.sb), n));
    CHECK_EQ (generation_in (f.disk.durable), n);
  }
  CHECK (q2_superblock_change (&f.sb, &f.disk.io, refuse, NULL, 0, &err)
         == -1);
  CHECK (err.kind == QCOW2_ERR_UNSUPPORTED);
  CHECK (is_generation (q2_superblock_header (&f.sb), 5));
  CHECK_EQ (generation_in (f.disk.bytes), 5);
  fixture_free (&f);
}

/* A crash now leaves some generation. */
static void
crash (struct memory_disk *disk, void *opaque)
{
  (void) opaque;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    struct rng rng = { seed };
    struct memory_disk crashed;

    memory_disk_crash (disk, &rng, &crashed);
    generation_in (crashed.bytes);
    memory_disk_free (&crashed);
  }
}

/* Each write and flush fails once; after that a crash, or another try. */
static void
failures_leave_one_or_the_other (void)
{
  struct qcow2_error err;
  bool failed = true;
  unsigned at;

  for (at = 1; failed; ++at) {
    struct fixture f;

    unit_context ("change %u of the file fails", at);
    fixture_init (&f);
    REQUIRE (change (&f, 1, &err) == 0);
    f.disk.fail_at = f.disk.changes + at;
    f.disk.fail_errnum = EIO;
    failed = change (&f, 2, &err) == -1;
    for (uint64_t seed = 0; seed < 20; ++seed) {
      struct rng rng = { seed };
      struct memory_disk crashed;
      unsigned n;

      memory_disk_crash (&f.disk, &rng, &crashed);
      n = generation_in (crashed.bytes);
      CHECK (n == 2 || (failed && n == 1));
      memory_disk_free (&crashed);
    }
    CHECK (is_generation (q2_superblock_header (&f.sb), failed ? 1 : 2));
    f.disk.fail_at = 0;
    /* After a failed flush the host is not asked again. */
    if (!f.disk.shared.flush_failed) {
      f.disk.before_change = crash;
      CHECK (change (&f, 3, &err) == 0);
      CHECK_EQ (generation_in (f.disk.durable), 3);
    }
    fixture_free (&f);
  }
  unit_context ("%s", "");
  CHECK (at > 5);               /* four writes and four flushes */
}

/* Whatever the host says, the file may have the new header once something was
 * written: who has failed must know.
 */
static void
failures_leave_no_wrong_doubt (void)
{
  unsigned long at = 0;
  struct qcow2_error err;
  int r;

  do {
    struct fixture f;

    fixture_init (&f);
    CHECK (!f.sb.in_doubt);
    f.disk.fail_at = f.disk.changes + ++at;
    f.disk.fail_errnum = ENOSPC;
    r = change (&f, 1, &err);
    CHECK_EQ (f.sb.in_doubt, r == -1);
    f.disk.fail_at = 0;
    CHECK (f.disk.shared.flush_failed ||
           (change (&f, 2, &err) == 0 && !f.sb.in_doubt));
    fixture_free (&f);
  } while (r == -1);
  CHECK (at > 5);
}

/* ---- In place ----------------------------------------------------------- */

/* Set or clear the dirty bit; 0, or -1 and nothing has changed for readers. */
static int
set_dirty (struct fixture *f, bool dirty, struct qcow2_error *err)
{
  struct q2_superblock_edit edit;
  int r;

  q2_superblock_begin (&f->sb, &edit);
  edit.header.incompatible = dirty ? Q2_INCOMPAT_DIRTY : 0;
  r = q2_superblock_write (&edit, &f->disk.io, Q2_SPAN_FEATURES, err);
  if (r == 0)
    r = q2_io_flush (&f->disk.io, err);
  q2_superblock_end (&edit, r == 0);
  return r;
}

static void
spans_are_written_in_place (void)
{
  struct fixture f;
  struct qcow2_error err;
  unsigned char before[CLUSTER];
  uint64_t number;

  fixture_init (&f);
  memcpy (before, f.disk.bytes, CLUSTER);
  number = q2_superblock_header (&f.sb).number;
  CHECK (!q2_superblock_info (&f.sb).dirty);
  for (unsigned i = 1; i <= 100; ++i) {
    const unsigned long writes = f.disk.writes, reads = f.disk.reads;

    REQUIRE (set_dirty (&f, i & 1, &err) == 0);
    CHECK_EQ (f.disk.writes, writes + 1);
    CHECK_EQ (f.disk.reads, reads);
    CHECK_EQ (q2_superblock_info (&f.sb).dirty, i & 1);
    CHECK_EQ (f.disk.durable[79], i & 1);
  }
  /* Nothing else has changed, and each header has a number of its own. */
  CHECK_BYTES (f.disk.durable, before, CLUSTER);
  CHECK_EQ (q2_superblock_header (&f.sb).number, number + 100);
  REQUIRE (change (&f, 1, &err) == 0 && set_dirty (&f, true, &err) == 0 &&
           set_dirty (&f, false, &err) == 0);
  CHECK (is_generation (q2_superblock_header (&f.sb), 1));
  CHECK_EQ (q2_superblock_header (&f.sb).number, number + 103);
  fixture_free (&f);
}

/* What is not durable is not published, and the file has one or the other. */
static void
failed_spans_are_not_published (void)
{
  struct qcow2_error err;

  for (unsigned at = 1; at <= 2; ++at) {
    struct fixture f;

    fixture_init (&f);
    f.disk.fail_at = f.disk.changes + at;
    f.disk.fail_errnum = EIO;
    CHECK (set_dirty (&f, true, &err) == -1);
    CHECK (!q2_superblock_info (&f.sb).dirty);
    f.disk.fail_at = 0;
    REQUIRE (q2_superblock_reload (&f.sb, &f.disk.io, &err) == 0);
    CHECK_EQ (q2_superblock_info (&f.sb).dirty, f.disk.bytes[79] & 1);
    CHECK_EQ (q2_superblock_header (&f.sb).refcount_table_offset, CLUSTER);
    fixture_free (&f);
  }
}

/* One that is changed in parts keeps what was changed in place. */
static void
both_ways_go_together (void)
{
  struct fixture f;
  struct qcow2_error err;
  struct q2_superblock_edit edit;

  fixture_init (&f);
  q2_superblock_begin (&f.sb, &edit);
  edit.header.refcount_table_offset = 2 * CLUSTER;
  REQUIRE (q2_superblock_write (&edit, &f.disk.io, Q2_SPAN_REFCOUNT_TABLE,
                                &err) == 0 &&
           q2_io_flush (&f.disk.io, &err) == 0);
  q2_superblock_end (&edit, true);
  REQUIRE (change (&f, 1, &err) == 0);
  CHECK_EQ (q2_superblock_header (&f.sb).refcount_table_offset, 2 * CLUSTER);
  CHECK_EQ (f.disk.durable[54], 2 * CLUSTER >> 8);
  fixture_free (&f);
}

/* ---- Threads ------------------------------------------------------------ */

struct race {
  struct fixture f;
  atomic_bool stop;
};

static void *
read_headers (void *opaque)
{
  struct race *const r = opaque;
  unsigned last = 0;

  while (!atomic_load (&r->stop)) {
    const struct q2_header h = q2_superblock_header (&r->f.sb);

    /* What info tells may be of a later one. */
    CHECK (q2_superblock_info (&r->f.sb).nr_snapshots >= h.nr_snapshots);
    CHECK (is_generation (h, h.nr_snapshots));
    CHECK (h.nr_snapshots >= last);
    last = h.nr_snapshots;
  }
  return NULL;
}

static void
readers_see_whole_headers (void)
{
  struct race r = { .stop = false };
  pthread_t threads[3];
  struct qcow2_error err;

  fixture_init (&r.f);
  for (size_t i = 0; i < 3; ++i)
    REQUIRE (pthread_create (&threads[i], NULL, read_headers, &r) == 0);
  for (unsigned n = 1; n <= 300; ++n)
    CHECK (change (&r.f, n, &err) == 0);
  atomic_store (&r.stop, true);
  for (size_t i = 0; i < 3; ++i)
    pthread_join (threads[i], NULL);
  fixture_free (&r.f);
}

/* ---- Where there is no room --------------------------------------------- */

static int
set_long_name (void *opaque, struct q2_header_parts *parts,
               struct qcow2_error *err)
{
  char name[600];

  memset (name, *(const char *) opaque, sizeof name);
  return q2_header_set_backing_file (parts, name, sizeof name, err);
}

static void
torn_changes_are_refused (void)
{
  static unsigned char p[CLUSTER];
  const size_t len = 1024;      /* of a cluster of this image */
  struct memory_disk disk;
  struct q2_superblock sb;
  struct q2_header h;
  struct q2_geometry geo;
  struct qcow2_error err;
  unsigned long writes;
  char letter = 'b';

  make_image (p);
  put_be (p + 20, 4, 10);
  put_be (p + 36, 4, 8);
  put_be (p + 112, 8, 0);
  memset (p + 120, 0, len - 120);
  put_be (p + 8, 8, 400);
  put_be (p + 16, 4, 600);
  memset (p + 400, 'a', 600);
  REQUIRE (q2_header_decode (p, len, &h, &geo, &err) == 0);
  q2_superblock_init (&sb, &h, &none);
  memory_disk_init (&disk, p, len);
  writes = disk.writes;
  CHECK (q2_superblock_change (&sb, &disk.io, set_long_name, &letter, 0, &err)
         == -1);
  CHECK_ERROR (&err, QCOW2_ERR_NO_SPACE, 0);
  CHECK_EQ (disk.writes, writes);
  CHECK_BYTES (disk.bytes, p, len);
  CHECK (q2_superblock_change (&sb, &disk.io, set_long_name, &letter,
                               Q2_SUPERBLOCK_FORCE, &err) == 0);
  CHECK (memchr (disk.durable, 'b', 1024) != NULL);
  q2_superblock_destroy (&sb);
  memory_disk_free (&disk);
}

int
main (void)
{
  changes_are_durable ();
  failures_leave_one_or_the_other ();
  failures_leave_no_wrong_doubt ();
  spans_are_written_in_place ();
  failed_spans_are_not_published ();
  both_ways_go_together ();
  readers_see_whole_headers ();
  torn_changes_are_refused ();
  return unit_finish ();
}
