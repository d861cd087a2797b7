/* SPDX-License-Identifier: BSD-3-Clause */
/* test-transact.c - bitmaps and snapshots of two images that are written to,
 * at one point in time.
 *
 * Owns      nothing.
 * Method    both images are written to, then changed together, and one of the
 *           operations of a host, or an allocation, fails, for each; then both
 *           are written to again, and ended.  What the call has said of each
 *           image must be what its file has: all of the change or nothing, and
 *           bitmaps with just the bits of the writes, since keeping them up
 *           goes on after a failure.
 */
#include "config.h"

#include "alloc_faults.h"
#include "bitmap_set.h"
#include "fsck.h"
#include "hooked_disk.h"
#include "unit.h"

#include "image/image.h"

#include <errno.h>

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (4096 * KiB)
#define DISK (96 * KiB)
#define FIRST 3                 /* granules that are written, before ... */
#define SECOND 7                /* ... and after */
#define NR 2

#define NAME(s) { s, sizeof (s) - 1 }
#define ACT(v, s) { .verb = QCOW2_BITMAP_##v, .name = NAME (s) }

static struct host start;

static const struct qcow2_bitmap_action adds[] = {
  { .verb = QCOW2_BITMAP_ADD, .name = NAME ("b1"), .granularity = 1024 },
  { .verb = QCOW2_BITMAP_ADD, .name = NAME ("kept"), .granularity = 1024 },
};
static const struct qcow2_bitmap_action checkpoint[] = {
  ACT (DISABLE, "b1"),
  { .verb = QCOW2_BITMAP_ADD, .name = NAME ("b2"), .granularity = 1024 },
};
static const struct qcow2_snapshot_options snapshot = {
  .name = NAME ("s"), .unique_name = true,
};

static struct qcow2_image *
open_image (struct host *h)
{
  const struct qcow2_options options = {
    .writable = true, .cache_size = 64 * KiB, .bitmaps = QCOW2_BITMAPS_LAZY,
  };
  struct qcow2_error err;
  struct qcow2_image *image;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  REQUIRE (image != NULL);
  return image;
}

static int
write_granule (struct host *h, struct qcow2_image *image, unsigned granule)
{
  unsigned char buf[1024];
  struct qcow2_error err;

  memset (buf, (int) granule, sizeof buf);
  return qcow2_pwrite (image, &h->io, buf, sizeof buf, granule * 1024, false,
                       &err);
}

static const struct host_spec spec = {
  .capacity = CAPACITY, .grows = true, .trim = HOST_TRIM_ZEROS,
};

static void
make_start (void)
{
  const struct qcow2_create_options create = {
    .virtual_size = DISK, .version = 3, .cluster_size = 1024,
  };
  struct qcow2_image *image;
  struct qcow2_error err;

  host_init (&start, &spec, "", 0);
  REQUIRE (qcow2_create (&start.io, &create, &err) == 0);
  image = open_image (&start);
  for (unsigned g = 20; g < 40; ++g)
    REQUIRE (write_granule (&start, image, g) == 0);
  REQUIRE (qcow2_edit_bitmaps (image, &start.io, adds, 2, NULL, NULL, &err)
           == 0);
  REQUIRE (qcow2_end (image, &start.io, &err) == 0);
  qcow2_close (image);
}

/* ---- What a file must have --------------------------------------------- */

static bool
has_bits (struct bitmap_set *set, const char *name, bool enabled,
          const unsigned *granules, size_t nr)
{
  const struct bitmap_seen *const b = bitmap_set_find (set, name);
  size_t set_bits = 0;

  if (b == NULL || b->flags != (enabled ? BITMAP_AUTO : 0))
    return false;
  for (uint64_t g = 0; g < b->nr_bits; ++g)
    set_bits += b->bits[g / 8] >> g % 8 & 1;
  for (size_t i = 0; i < nr; ++i)
    if (!(b->bits[granules[i] / 8] >> granules[i] % 8 & 1))
      return false;
  return set_bits == nr;
}

static void
check_file (struct host *h, bool done)
{
  static const unsigned both[] = { FIRST, SECOND };
  struct bitmap_set set;
  struct fsck f;

  fsck_image (h->bytes, h->size, &f);
  if (!(h->bytes[79] & 1) && !CHECK_EQ (f.corruptions, 0))
    printf ("%s\n", f.text);
  bitmap_set_load (&set, h->bytes, h->size);
  if (!CHECK (set.nr == (done ? 3 : 2) &&
              has_bits (&set, "kept", true, both, 2) &&
              has_bits (&set, "b1", !done, both, done ? 1 : 2) &&
              (!done || has_bits (&set, "b2", true, both + 1, 1)) &&
              h->bytes[63] == done))
    bitmap_set_print (&set);
  bitmap_set_free (&set);
}

/* It could not be closed: what is not true is marked. */
static void
check_marked (struct host *h)
{
  struct bitmap_set set;

  bitmap_set_load (&set, h->bytes, h->size);
  CHECK (set.problem[0] == '\0');
  for (size_t i = 0; i < set.nr; ++i)
    CHECK (!(set.bitmap[i].flags & BITMAP_AUTO) ||
           (set.bitmap[i].flags & BITMAP_IN_USE) ||
           has_bits (&set, set.bitmap[i].name, true, NULL, 0));
  bitmap_set_free (&set);
}

/* ---- Faults ------------------------------------------------------------- */

struct fault {
  unsigned host, kinds, more;
  unsigned long at;             /* 0: none */
  int errnum;
  unsigned long alloc_at;       /* 0: none */
};

static void
end_image (struct host *h, struct qcow2_image *image,
           enum qcow2_outcome outcome)
{
  struct qcow2_error err;
  const bool ok = write_granule (h, image, SECOND) == 0 &&
    qcow2_end (image, &h->io, &err) == 0;

  qcow2_close (image);
  if (ok && CHECK (outcome != QCOW2_OUTCOME_UNKNOWN))
    check_file (h, outcome == QCOW2_OUTCOME_DONE);
  else
    check_marked (h);
}

/* Returns whether something has failed, and counts what came of it. */
static bool
run (const struct fault *fault, unsigned *counts)
{
  struct host h[NR];
  struct qcow2_part parts[NR];
  struct qcow2_error err = { .text = "" };
  size_t failed;
  bool hit;
  int r;

  memset (parts, 0, sizeof parts);
  for (unsigned i = 0; i < NR; ++i) {
    host_init (&h[i], &spec, start.bytes, start.size);
    parts[i] = (struct qcow2_part) {
      .image = open_image (&h[i]), .io = &h[i].io,
      .actions = checkpoint, .nr_actions = 2, .snapshot = &snapshot,
    };
    REQUIRE (write_granule (&h[i], parts[i].image, FIRST) == 0);
  }
  if (fault->at > 0)
    host_fail (&h[fault->host], fault->kinds, fault->at, fault->more,
               fault->errnum);
  alloc_count = 0;
  alloc_fail_at = fault->alloc_at;
  r = qcow2_transact (parts, NR, &failed, &err);
  hit = fault->alloc_at > 0 ? alloc_count >= fault->alloc_at
    : h[fault->host].failed > 0;
  alloc_fail_at = 0;
  host_fail (&h[fault->host], 0, 0, 0, 0);
  if (r == 0)
    CHECK (parts[0].outcome == QCOW2_OUTCOME_DONE &&
           parts[1].outcome == QCOW2_OUTCOME_DONE);
  else if (CHECK (failed < NR && hit))
    CHECK (parts[0].outcome == QCOW2_OUTCOME_DONE ||
           parts[1].outcome == QCOW2_OUTCOME_NOT_DONE);
  counts[parts[0].outcome * 3 + parts[1].outcome]++;
  for (unsigned i = 0; i < NR; ++i) {
    end_image (&h[i], parts[i].image, parts[i].outcome);
    host_free (&h[i]);
  }
  return hit;
}

static void
fail_operations (unsigned kinds, int errnum, unsigned *counts)
{
  for (unsigned host = 0; host < NR; ++host)
    for (unsigned more = 0; more < 2; ++more) {
      struct fault f = { host, kinds, more, 0, errnum, 0 };

      do {
        f.at++;
        unit_context ("host %u, operation %lu of %x fails, and %u more", host,
                      f.at, kinds, more);
        REQUIRE (f.at < 1000);
      } while (run (&f, counts));
      CHECK (f.at > 3);
    }
}

static void
fail_allocations (unsigned *counts)
{
  struct fault f = { .alloc_at = 0 };

  do {
    f.alloc_at++;
    unit_context ("allocation %lu fails", f.alloc_at);
    REQUIRE (f.alloc_at < 1000);
  } while (run (&f, counts));
  CHECK (f.alloc_at > 20);
}

static void
test_faults (void)
{
  unsigned counts[9] = { 0 };
  const struct fault none = { .at = 0 };

  run (&none, counts);
  CHECK_EQ (counts[QCOW2_OUTCOME_DONE * 3 + QCOW2_OUTCOME_DONE], 1);
  fail_operations (1 << HOST_READ, EIO, counts);
  fail_operations (1 << HOST_WRITE, EIO, counts);
  fail_operations (1 << HOST_FLUSH, EIO, counts);
  fail_allocations (counts);
  /* Each that can be. */
  CHECK (counts[QCOW2_OUTCOME_NOT_DONE * 3 + QCOW2_OUTCOME_NOT_DONE] > 10);
  CHECK (counts[QCOW2_OUTCOME_DONE * 3 + QCOW2_OUTCOME_NOT_DONE] > 0);
  CHECK (counts[QCOW2_OUTCOME_DONE * 3 + QCOW2_OUTCOME_UNKNOWN] > 0);
  CHECK (counts[QCOW2_OUTCOME_UNKNOWN * 3 + QCOW2_OUTCOME_NOT_DONE] > 0);
}

/* ---- Many --------------------------------------------------------------- */

/* Bitmaps that come and go are not kept up for ever: there is room for 64. */
static void
test_cycles (void)
{
  struct qcow2_image *image;
  struct qcow2_error err;
  struct host h;
  static const unsigned first[] = { FIRST };

  unit_context ("%s", __func__);
  host_init (&h, &spec, start.bytes, start.size);
  image = open_image (&h);
  for (unsigned i = 0; i < 80; ++i) {
    char name[16];
    struct qcow2_bitmap_action a = {
      .verb = QCOW2_BITMAP_ADD, .granularity = 1024,
      .name = { name, (size_t) snprintf (name, sizeof name, "c%u", i) },
    };

    CHECK_EQ (qcow2_edit_bitmaps (image, &h.io, &a, 1, NULL, NULL, &err), 0);
    CHECK_EQ (write_granule (&h, image, FIRST), 0);
    a.verb = QCOW2_BITMAP_REMOVE;
    if (i < 79)
      CHECK_EQ (qcow2_edit_bitmaps (image, &h.io, &a, 1, NULL, NULL, &err),
                0);
  }
  if (CHECK_EQ (qcow2_end (image, &h.io, &err), 0)) {
    struct bitmap_set set;

    bitmap_set_load (&set, h.bytes, h.size);
    CHECK (has_bits (&set, "c79", true, first, 1));
    CHECK (has_bits (&set, "kept", true, first, 1));
    bitmap_set_free (&set);
  }
  qcow2_close (image);
  host_free (&h);
}

/* ---- What is refused ---------------------------------------------------- */

static void
test_refusals (void)
{
  static struct qcow2_part parts[QCOW2_MAX_PARTS + 1];
  struct qcow2_bitmap_source from = { .name = NAME ("b1") };
  const struct qcow2_bitmap_action merge = {
    .verb = QCOW2_BITMAP_MERGE, .name = NAME ("kept"), .sources = &from,
    .nr_sources = 1,
  };
  struct qcow2_error err;
  struct host h[NR];
  size_t failed;

  unit_context ("%s", __func__);
  for (unsigned i = 0; i < NR; ++i) {
    host_init (&h[i], &spec, start.bytes, start.size);
    parts[i] = (struct qcow2_part) {
      .image = open_image (&h[i]), .io = &h[i].io, .snapshot = &snapshot,
    };
  }
  parts[1].actions = &merge;
  parts[1].nr_actions = 1;
  from.image = parts[0].image;
  from.io = parts[0].io;
  CHECK_EQ (qcow2_transact (parts, NR, &failed, &err), -1);
  CHECK (err.kind == QCOW2_ERR_INVALID && failed == 1);
  from.image = parts[1].image;
  CHECK_EQ (qcow2_transact (parts, QCOW2_MAX_PARTS + 1, &failed, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_INVALID);
  parts[2] = parts[0];
  CHECK_EQ (qcow2_transact (parts, 3, &failed, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_INVALID);
  CHECK_EQ (h[0].nr[HOST_WRITE] + h[1].nr[HOST_WRITE], 0);
  CHECK_EQ (qcow2_transact (parts, 0, &failed, &err), 0);
  CHECK_EQ (qcow2_transact (parts, NR, &failed, &err), 0);
  CHECK_EQ (qcow2_transact (parts, NR, &failed, &err), -1);
  CHECK (err.kind == QCOW2_ERR_EXISTS && failed == 0);
  for (unsigned i = 0; i < NR; ++i) {
    CHECK_EQ (write_granule (&h[i], parts[i].image, FIRST), 0);
    CHECK_EQ (qcow2_end (parts[i].image, &h[i].io, &err), 0);
    qcow2_close (parts[i].image);
    host_free (&h[i]);
  }
}

/* A view of a bitmap of the second image keeps the first one as it is, too. */
static void
test_busy (void)
{
  static const struct qcow2_bitmap_action clear = ACT (CLEAR, "b1");
  static const struct qcow2_name b1 = NAME ("b1");
  struct qcow2_part parts[NR];
  struct qcow2_image *view;
  struct qcow2_error err;
  struct host h[NR];
  size_t failed;

  unit_context ("%s", __func__);
  for (unsigned i = 0; i < NR; ++i) {
    host_init (&h[i], &spec, start.bytes, start.size);
    parts[i] = (struct qcow2_part) {
      .image = open_image (&h[i]), .io = &h[i].io, .actions = &clear,
      .nr_actions = 1, .snapshot = &snapshot,
    };
  }
  view = qcow2_open_view (parts[1].image, &h[1].io, QCOW2_VIEW_BITMAP, &b1,
                          &err);
  REQUIRE (view != NULL);
  CHECK_EQ (qcow2_transact (parts, NR, &failed, &err), -1);
  CHECK (err.kind == QCOW2_ERR_BUSY && failed == 1);
  CHECK_EQ (parts[0].outcome, QCOW2_OUTCOME_NOT_DONE);
  CHECK_EQ (qcow2_get_info (parts[0].image).nr_snapshots, 0);
  qcow2_close (view);
  CHECK_EQ (qcow2_transact (parts, NR, &failed, &err), 0);
  for (unsigned i = 0; i < NR; ++i) {
    CHECK_EQ (qcow2_end (parts[i].image, &h[i].io, &err), 0);
    qcow2_close (parts[i].image);
    host_free (&h[i]);
  }
}

/* ---- Threads ------------------------------------------------------------ */

static struct qcow2_image *shared[NR];
static struct host shared_host[NR];
static _Atomic bool stop;

/* The images in one order, or the other. */
static void *
toggle (void *arg)
{
  const unsigned first = arg != NULL;

  for (unsigned i = 0; i < 30; ++i) {
    const struct qcow2_bitmap_action a[] = {
      { .verb = i % 2 ? QCOW2_BITMAP_ENABLE : QCOW2_BITMAP_DISABLE,
        .name = NAME ("b1") },
    };
    struct qcow2_part parts[NR];
    struct qcow2_error err;
    size_t failed;

    for (unsigned p = 0; p < NR; ++p)
      parts[p] = (struct qcow2_part) {
        .image = shared[p ^ first], .io = &shared_host[p ^ first].io,
        .actions = a, .nr_actions = 1,
      };
    if (!CHECK_EQ (qcow2_transact (parts, NR, &failed, &err), 0))
      printf ("%s\n", err.text);
  }
  return NULL;
}

static void *
keep_writing (void *arg)
{
  const unsigned i = arg != NULL;

  for (unsigned g = 0; !stop; g = (g + 1) % 40)
    CHECK_EQ (write_granule (&shared_host[i], shared[i], g), 0);
  return NULL;
}

static void
test_threads (void)
{
  pthread_t togglers[2], writers[2];
  struct qcow2_error err;

  unit_context ("%s", __func__);
  for (unsigned i = 0; i < NR; ++i) {
    host_init (&shared_host[i], &spec, start.bytes, start.size);
    shared[i] = open_image (&shared_host[i]);
  }
  for (unsigned i = 0; i < 2; ++i) {
    void *const arg = i == 0 ? NULL : &stop;

    REQUIRE (pthread_create (&writers[i], NULL, keep_writing, arg) == 0);
    REQUIRE (pthread_create (&togglers[i], NULL, toggle, arg) == 0);
  }
  for (unsigned i = 0; i < 2; ++i)
    pthread_join (togglers[i], NULL);
  stop = true;
  for (unsigned i = 0; i < 2; ++i)
    pthread_join (writers[i], NULL);
  for (unsigned i = 0; i < NR; ++i) {
    struct fsck f;

    CHECK_EQ (qcow2_end (shared[i], &shared_host[i].io, &err), 0);
    qcow2_close (shared[i]);
    fsck_image (shared_host[i].bytes, shared_host[i].size, &f);
    CHECK_EQ (f.corruptions, 0);
    host_free (&shared_host[i]);
  }
}

/* ---- How long changes wait ----------------------------------------------- */

static struct {
  unsigned while_open, while_closed;    /* flushes */
  unsigned others_while_closed; /* reads and writes */
  uint64_t written;             /* bytes of the disk, since the last flush */
  uint64_t most_while_closed;
} flushes;

static void
count_read (struct hooked_disk *d, uint32_t count, uint64_t host_off,
            enum qcow2_io_class io_class)
{
  (void) count;
  (void) host_off;
  (void) io_class;
  flushes.others_while_closed += q2_gate_is_closed (&d->image->gate);
}

static void
count_data (struct hooked_disk *d, uint32_t count, uint64_t host_off,
            enum qcow2_io_class io_class)
{
  count_read (d, count, host_off, io_class);
  if (io_class == QCOW2_IO_DATA)
    flushes.written += count;
}

static void
count_flush (struct hooked_disk *d)
{
  if (!q2_gate_is_closed (&d->image->gate))
    flushes.while_open++;
  else {
    flushes.while_closed++;
    if (flushes.written > flushes.most_while_closed)
      flushes.most_while_closed = flushes.written;
  }
  flushes.written = 0;
}

static void
write_much (struct hooked_disk *d)
{
  for (unsigned i = 0; i < 100; ++i)
    CHECK (hooked_disk_write (d, i, 'x'));
  CHECK (flushes.written >= 100 * 4096);
}

/* What clients have written is flushed before they have to wait, and nothing
 * at all is done in the moment that a snapshot shows.
 */
static void
flush_ahead (void)
{
  const struct qcow2_snapshot_options options = { .name = { "s", 1 } };
  const struct qcow2_bitmap_action add = {
    .verb = QCOW2_BITMAP_ADD, .name = NAME ("b"),
  };
  struct hooked_disk d;

  unit_context ("flush ahead");
  hooked_disk_build (&d, 12, 4, 1 << 20, 8);
  hooked_disk_serve (&d, &(struct host_spec) { .capacity = 64 << 20,
                                               .grows = true });
  hooked_disk_open (&d);
  d.after_read = count_read;
  d.before_write = count_data;
  d.before_flush = count_flush;
  write_much (&d);
  CHECK_EQ (qcow2_snapshot_create (d.image, &d.host.io, &options, &d.err), 0);
  CHECK (flushes.while_open > 0);
  CHECK_EQ (flushes.while_closed + flushes.others_while_closed, 0);
  write_much (&d);
  CHECK_EQ (qcow2_edit_bitmaps (d.image, &d.host.io, &add, 1, NULL, NULL,
                                &d.err), 0);
  CHECK (flushes.while_open > 0 && flushes.while_closed > 0);
  CHECK_EQ (flushes.most_while_closed, 0);
  d.after_read = NULL;
  d.before_write = NULL;
  d.before_flush = NULL;
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  fsck_check (d.host.bytes, d.host.size, false);
  hooked_disk_free (&d);
}

/* ---- What changes after the moment --------------------------------------- */

#define BIG (1024 * KiB)

static struct {
  struct hooked_disk d;
  struct bitmap_set expected;
  unsigned char disk[BIG], frozen[BIG];
  unsigned calls;
} meanwhile;

static void
write_and_note (unsigned cluster)
{
  const uint64_t at = (uint64_t) cluster * 1024;

  memset (meanwhile.disk + at, (int) (cluster % 255) + 1, 1024);
  CHECK_EQ (qcow2_pwrite (meanwhile.d.image, &meanwhile.d.host.io,
                          meanwhile.disk + at, 1024, at, false,
                          &meanwhile.d.err), 0);
  bitmap_set_note (&meanwhile.expected, at, 1024);
}

/* The moment has been, and one more table is shared: write to some that are,
 * and to some that are not.
 */
static bool
write_meanwhile (void *opaque, unsigned percent)
{
  (void) opaque;
  (void) percent;
  CHECK (!q2_gate_is_closed (&meanwhile.d.image->gate));
  if (meanwhile.calls++ == 0) {
    memcpy (meanwhile.frozen, meanwhile.disk, BIG);
    for (unsigned i = 0; i < 4; ++i)
      bitmap_set_apply (&meanwhile.expected, &(struct qcow2_bitmap_action[]) {
          ACT (DISABLE, "b1"), ACT (CLEAR, "kept"),
          { .verb = QCOW2_BITMAP_ADD, .name = NAME ("b2"),
            .granularity = 2048 },
          ACT (ENABLE, "off") }[i], BIG, 1024, NULL);
  }
  write_and_note (meanwhile.calls * 37 % 1024);
  write_and_note (1023 - meanwhile.calls * 91 % 1024);
  return true;
}

static void
check_view (enum qcow2_view_kind kind, const char *name,
            const unsigned char *expected)
{
  static unsigned char buf[BIG];
  const struct qcow2_name n = { name, strlen (name) };
  struct qcow2_image *const view =
    qcow2_open_view (meanwhile.d.image, &meanwhile.d.host.io, kind, &n,
                     &meanwhile.d.err);

  REQUIRE (view != NULL);
  CHECK_EQ (qcow2_pread (view, &meanwhile.d.host.io, buf, BIG, 0,
                         &meanwhile.d.err), 0);
  CHECK (memcmp (buf, expected, BIG) == 0);
  qcow2_close (view);
}

static void
check_meanwhile (void)
{
  struct host *const h = &meanwhile.d.host;
  struct bitmap_set set;

  check_view (QCOW2_VIEW_SNAPSHOT, "s", meanwhile.frozen);
  write_and_note (700);
  CHECK_EQ (qcow2_end (meanwhile.d.image, &h->io, &meanwhile.d.err), 0);
  fsck_check (h->bytes, h->size, false);
  bitmap_set_load (&set, h->bytes, h->size);
  /* One that was disabled may have more. */
  for (size_t i = 0; i < set.nr; ++i) {
    struct bitmap_seen *const e =
      bitmap_set_find (&meanwhile.expected, set.bitmap[i].name);

    REQUIRE (e != NULL);
    if (strcmp (e->name, "b1") == 0)
      for (uint64_t k = 0; k < (e->nr_bits + 7) / 8; ++k) {
        CHECK ((e->bits[k] & ~set.bitmap[i].bits[k]) == 0);
        e->bits[k] = set.bitmap[i].bits[k];
      }
  }
  if (!CHECK (bitmap_set_equal (&set, &meanwhile.expected))) {
    bitmap_set_print (&set);
    bitmap_set_print (&meanwhile.expected);
  }
  bitmap_set_free (&set);
}

/* In a checkpoint the disk changes between the moment that it is of and its
 * end, with bitmaps that are durable or lazy.
 */
static void
test_meanwhile (enum qcow2_bitmaps mode)
{
  const struct qcow2_snapshot_options options = {
    .name = NAME ("s"), .progress = write_meanwhile,
  };
  const struct qcow2_bitmap_action first[] = {
    { .verb = QCOW2_BITMAP_ADD, .name = NAME ("b1"), .granularity = 1024 },
    { .verb = QCOW2_BITMAP_ADD, .name = NAME ("kept"), .granularity = 4096 },
    { .verb = QCOW2_BITMAP_ADD, .name = NAME ("off"), .granularity = 1024,
      .disabled = true },
    { .verb = QCOW2_BITMAP_ADD, .name = NAME ("other"), .granularity = 512 },
  };
  const struct qcow2_bitmap_action then[] = {
    ACT (DISABLE, "b1"), ACT (CLEAR, "kept"),
    { .verb = QCOW2_BITMAP_ADD, .name = NAME ("b2"), .granularity = 2048 },
    ACT (ENABLE, "off"),
  };
  struct qcow2_part part = { .actions = then, .nr_actions = 4,
                             .snapshot = &options };
  size_t failed;

  unit_context ("%s, mode %d", __func__, (int) mode);
  memset (&meanwhile, 0, sizeof meanwhile);
  hooked_disk_build (&meanwhile.d, 10, 4, BIG, 0);
  hooked_disk_serve (&meanwhile.d, &(struct host_spec) { .capacity = 16 << 20,
                                                         .grows = true });
  meanwhile.d.image = qcow2_open (&meanwhile.d.host.io,
                                  &(struct qcow2_options) {
                                    .writable = true, .bitmaps = mode,
                                    .overlap_check = QCOW2_OVERLAP_CACHED },
                                  &meanwhile.d.err);
  REQUIRE (meanwhile.d.image != NULL);
  CHECK_EQ (qcow2_edit_bitmaps (meanwhile.d.image, &meanwhile.d.host.io, first,
                                4, NULL, NULL, &meanwhile.d.err), 0);
  bitmap_set_load (&meanwhile.expected, meanwhile.d.host.bytes,
                   meanwhile.d.host.size);
  for (unsigned c = 0; c < 1024; c += 3)
    write_and_note (c);
  part.image = meanwhile.d.image;
  part.io = &meanwhile.d.host.io;
  if (!CHECK_EQ (qcow2_transact (&part, 1, &failed, &meanwhile.d.err), 0))
    printf ("%s\n", meanwhile.d.err.text);
  CHECK (meanwhile.calls >= 8);
  check_meanwhile ();
  bitmap_set_free (&meanwhile.expected);
  hooked_disk_free (&meanwhile.d);
}

int
main (void)
{
  make_start ();
  test_meanwhile (QCOW2_BITMAPS_DURABLE);
  test_meanwhile (QCOW2_BITMAPS_LAZY);
  test_faults ();
  test_cycles ();
  test_refusals ();
  test_busy ();
  test_threads ();
  flush_ahead ();
  host_free (&start);
  return unit_finish ();
}
