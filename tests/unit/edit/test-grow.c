/* SPDX-License-Identifier: BSD-3-Clause */
/* test-grow.c - a disk becomes larger while others read and write it.
 *
 * Owns      nothing.  What a crash or a failure leaves is crash/test-edits.c.
 * Method    clients write at random to the disk as it was (crash/guest.h);
 *           somebody makes it larger again and again, and is the first client
 *           of what is added; others take and delete snapshots, look at those,
 *           or ask for extents.  At the end all of it is compared, and QEMU
 *           finds nothing wrong.  Then bitmaps, views, raw data files, and what
 *           is refused.
 */
#include "config.h"

#include "fsck.h"
#include "guest.h"
#include "memory_disk.h"
#include "qemu.h"
#include "recipe.h"
#include "threads.h"

#include "base/be.h"
#include "base/error.h"
#include "image/image.h"
#include "image/request.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define KiB UINT64_C (1024)
#define MiB (1024 * KiB)

/* ---- A crowd ------------------------------------------------------------ */

struct crowd {
  struct guest g;
  uint64_t step;                /* by which it grows */
  atomic_bool stop;
  atomic_ulong grown, snapshots, maps, views, busy;
};

static uint64_t
size_of (const struct crowd *c)
{
  return qcow2_get_info (c->g.image).virtual_size;
}

static bool
did (int r, const struct qcow2_error *err)
{
  return unit_check (r == 0, __FILE__, __LINE__, "%s", r == 0 ? "" : err->text);
}

static bool
is_full_of (const unsigned char *buf, uint64_t len, unsigned char c)
{
  for (uint64_t i = 0; i < len; ++i)
    if (buf[i] != c)
      return false;
  return true;
}

/* What was added is all zeros; its first half gets other bytes. */
static void
use_new_part (struct crowd *c, uint64_t from, unsigned char *buf)
{
  const struct qcow2_io *const io = &c->g.host.io;
  const uint32_t half = (uint32_t) (c->step / 2);
  struct qcow2_error err;

  memset (buf, 1, c->step);
  if (did (qcow2_pread (c->g.image, io, buf, (uint32_t) c->step, from, &err),
           &err))
    CHECK (is_full_of (buf, c->step, 0));
  memset (buf, (int) (from / c->step % 251) + 1, half);
  did (qcow2_pwrite (c->g.image, io, buf, half, from, false, &err), &err);
  memset (buf, 1, c->step);
  if (did (qcow2_pread (c->g.image, io, buf, (uint32_t) c->step, from, &err),
           &err))
    CHECK (is_full_of (buf, half,
                       (unsigned char) (from / c->step % 251 + 1)) &&
           is_full_of (buf + half, c->step - half, 0));
}

static void
grow_all_the_time (struct crowd *c)
{
  unsigned char *const buf = malloc (c->step);

  REQUIRE (buf != NULL);
  while (!c->stop || c->grown < 8) {
    const uint64_t from = size_of (c);
    struct qcow2_error err;

    if (!did (qcow2_grow (c->g.image, &c->g.host.io, from + c->step, NULL,
                          &err), &err))
      break;
    CHECK_EQ (size_of (c), from + c->step);
    use_new_part (c, from, buf);
    c->grown++;
    sleep_ms (c->grown % 8);
  }
  free (buf);
}

static void
snapshots_all_the_time (struct crowd *c)
{
  const struct qcow2_snapshot_options options = { .name = { "x", 1 } };

  while (!c->stop) {
    struct qcow2_error err;

    if (!did (qcow2_snapshot_create (c->g.image, &c->g.host.io, &options,
                                     &err), &err))
      break;
    sleep_ms (2);
    while (qcow2_snapshot_delete (c->g.image, &c->g.host.io, &options.name,
                                  false, NULL, &err) == -1) {
      if (!unit_check (err.kind == QCOW2_ERR_BUSY, __FILE__, __LINE__, "%s",
                       err.text))
        return;
      c->busy++;
      sleep_ms (1);
    }
    c->snapshots++;
  }
}

/* Whoever has it open keeps it, and it never changes. */
static void
views_all_the_time (struct crowd *c)
{
  const uint32_t size = (uint32_t) c->g.w->recipe.disk_size;
  const struct qcow2_io *const io = &c->g.host.io;
  const struct qcow2_name x = { "x", 1 };
  unsigned char *const a = malloc (size), *const b = malloc (size);

  REQUIRE (a != NULL && b != NULL);
  while (!c->stop) {
    struct qcow2_error err;
    struct qcow2_image *const view =
      qcow2_open_view (c->g.image, io, QCOW2_VIEW_SNAPSHOT, &x, &err);

    if (view == NULL) {
      unit_check (err.kind == QCOW2_ERR_NOT_FOUND || err.kind ==
                  QCOW2_ERR_BUSY, __FILE__, __LINE__, "%s", err.text);
      sleep_ms (1);
      continue;
    }
    did (qcow2_pread (view, io, a, size, 0, &err), &err);
    sleep_ms (1);
    did (qcow2_pread (view, io, b, size, 0, &err), &err);
    CHECK (memcmp (a, b, size) == 0);
    qcow2_close (view);
    c->views++;
    sleep_ms (10);
  }
  free (a);
  free (b);
}

static int
add_up (void *opaque, uint64_t guest_off, uint64_t len,
        enum qcow2_extent_type type)
{
  (void) guest_off;
  (void) type;
  *(uint64_t *) opaque += len;
  return 0;
}

/* Nobody is told of less than he has asked for. */
static void
map_all_the_time (struct crowd *c)
{
  while (!c->stop) {
    const uint64_t size = size_of (c);
    uint64_t sum = 0;
    struct qcow2_error err;

    did (qcow2_extents (c->g.image, &c->g.host.io, size, 0, add_up, &sum,
                        &err), &err);
    CHECK_EQ (sum, size);
    c->maps++;
  }
}

static void
beside (void *arg, unsigned nr)
{
  static void (*const all[]) (struct crowd *) = {
    grow_all_the_time, map_all_the_time, snapshots_all_the_time,
    views_all_the_time,
  };

  all[nr] (arg);
}

/* All that was added, once more. */
static void
read_new_parts (struct crowd *c)
{
  const uint64_t end = size_of (c);
  unsigned char *const buf = malloc (c->step);

  REQUIRE (buf != NULL);
  for (uint64_t at = c->g.w->recipe.disk_size; at < end; at += c->step) {
    const uint64_t half = c->step / 2;
    struct qcow2_error err;

    did (qcow2_pread (c->g.image, &c->g.host.io, buf, (uint32_t) c->step, at,
                      &err), &err);
    CHECK (is_full_of (buf, half, (unsigned char) (at / c->step % 251 + 1)) &&
           is_full_of (buf + half, c->step - half, 0));
  }
  free (buf);
}

/* ---- A raw data file ---------------------------------------------------- */

#define DEVICE (64 * MiB)

/* It is a device: large enough from the beginning, with garbage behind the
 * disk.
 */
static void
enlarge_data (struct guest *g)
{
  const uint64_t size = g->w->recipe.disk_size;
  const struct host_spec spec = { .capacity = DEVICE };
  unsigned char *const bytes = malloc (DEVICE);

  REQUIRE (bytes != NULL);
  memset (bytes, 0xee, DEVICE);
  memcpy (bytes, g->data.bytes, size);
  host_free (&g->data);
  host_init (&g->data, &spec, bytes, DEVICE);
  host_join (&g->host, &g->data);
  g->attach.data = &g->data.io;
  free (bytes);
}

/* Each cluster has an entry, for itself, and what is behind the disk is as it
 * was.
 */
static void
check_raw (const struct guest *g, uint64_t disk_size, uint64_t cleared)
{
  const unsigned char *const bytes = g->host.bytes;
  const unsigned bits = load_be32 (bytes + 20);
  uint64_t bad = 0;

  for (uint64_t i = 0; i << bits < disk_size; ++i) {
    const uint64_t l2 = load_be64 (bytes + load_be64 (bytes + 40) +
                                   8 * (i >> (bits - 3)));
    const uint64_t at = (l2 & (UINT64_MAX >> 8) & ~UINT64_C (511)) +
      8 * (i & ((UINT64_C (1) << (bits - 3)) - 1));

    bad += l2 == 0 ||
      load_be64 (bytes + at) != (i << bits | UINT64_C (1) << 63);
  }
  CHECK_EQ (bad, 0);
  CHECK (is_full_of (g->data.bytes + cleared, DEVICE - cleared, 0xee));
}

/* Readers of the data file alone see the same disk. */
static void
compare_raw (struct crowd *c)
{
  const uint64_t size = size_of (c);
  unsigned char *const buf = malloc (size);
  struct qcow2_error err;

  REQUIRE (buf != NULL);
  if (did (qcow2_pread (c->g.image, &c->g.host.io, buf, (uint32_t) size, 0,
                        &err), &err))
    CHECK (memcmp (buf, c->g.data.bytes, size) == 0);
  free (buf);
}

static void
judge (struct crowd *c, const struct recipe_image *made, uint64_t size)
{
  const bool raw = c->g.w->recipe.data_raw;
  const struct qemu_files files = {
    .options = made->qemu_options, .data = c->g.data.bytes, .data_size = size,
  };

  fsck_check (c->g.host.bytes, c->g.host.size, false);
  qemu_submit (c->g.host.bytes, c->g.host.size, raw ? &files : NULL,
               QEMU_CLEAN, raw ? c->g.data.bytes : NULL, raw ? size : 0,
               c->g.w->name);
}

static void
grow_in_a_crowd (const struct workload *w, uint64_t step, bool snapshots)
{
  static struct crowd c;
  struct recipe_image made;
  struct guest_files files;
  struct threads threads;
  uint64_t size;

  unit_context ("%s", w->name);
  recipe_make (&made, &w->recipe, 1);
  files = guest_files_of (&made);
  guest_init (&c.g, w, 1, &files);
  if (w->recipe.data_raw)
    enlarge_data (&c.g);
  c.step = step;
  c.stop = false;
  c.grown = c.snapshots = c.maps = c.views = c.busy = 0;
  guest_open (&c.g);
  threads_start (&threads, snapshots ? 4 : 2, beside, &c);
  guest_run (&c.g);
  WAIT_UNTIL (!snapshots || (c.snapshots > 3 && c.views > 3));
  c.stop = true;
  threads_join (&threads);
  printf ("%s: grown %lu times, %lu maps, %lu snapshots, %lu views, %lu times "
          "busy\n", w->name, (unsigned long) c.grown, (unsigned long) c.maps,
          (unsigned long) c.snapshots, (unsigned long) c.views,
          (unsigned long) c.busy);
  guest_read_all (&c.g);
  read_new_parts (&c);
  size = size_of (&c);
  if (w->recipe.data_raw)
    compare_raw (&c);
  CHECK (guest_close (&c.g, true));
  if (w->recipe.data_raw)
    check_raw (&c.g, size, size);
  judge (&c, &made, size);
  guest_open (&c.g);
  guest_read_all (&c.g);
  read_new_parts (&c);
  CHECK (guest_close (&c.g, false));
  guest_free (&c.g);
  recipe_free (&made);
}

#define STORM                                                                 \
  .write = 40, .zero = 15, .trim = 15, .read = 30, .flush = 10, .idle = 1,    \
  .fua_percent = 2
#define GROWS(us) { .capacity = 64 * MiB, .grows = true, .delay_us = us }

static void
test_crowds (void)
{
  static const struct recipe longer = {
    .options = "cluster_size=4k", .cluster_bits = 12, .disk_size = 1 * MiB,
    .fill_percent = 80,
  };
  const struct workload storm = {
    .name = "storm",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 1 * MiB, .fill_percent = 40 },
    .host = GROWS (0), .clients = 3, .requests = unit_scaled (1500), STORM,
    .max_sectors = 32,
  };
  /* Each table maps 32 KiB, a sector of the L1 table 2 MiB. */
  const struct workload tables = {
    .name = "many tables, with snapshots",
    .recipe = { .options = "cluster_size=512", .cluster_bits = 9,
                .disk_size = 512 * KiB, .fill_percent = 60, .snapshots = 1 },
    .host = GROWS (20), .clients = 3, .requests = unit_scaled (600), STORM,
    .max_sectors = 16,
  };
  const struct workload overlay = {
    .name = "above a longer image, in parts",
    .recipe = { .options = "cluster_size=512", .cluster_bits = 9,
                .disk_size = 96 * KiB, .fill_percent = 60, .below = &longer },
    .host = GROWS (0), .clients = 3, .requests = unit_scaled (800), STORM,
    .max_sectors = 16,
  };

  const struct workload raw = {
    .name = "a raw data file",
    .recipe = { .options = "cluster_size=512", .cluster_bits = 9,
                .disk_size = 501 * KiB, .fill_percent = 60, .data_file = true,
                .data_raw = true },
    .host = GROWS (0), .clients = 3, .requests = unit_scaled (800), STORM,
    .max_sectors = 16,
  };

  grow_in_a_crowd (&storm, 128 * KiB, false);
  grow_in_a_crowd (&raw, 89 * KiB, false);
  grow_in_a_crowd (&tables, 24 * KiB, true);
  grow_in_a_crowd (&overlay, 24 * KiB, false);
}

/* ---- While tables are made ---------------------------------------------- */

struct making {
  struct guest g;
  unsigned calls, last;
};

/* Nobody waits meanwhile: this thread neither. */
static bool
write_beside (void *opaque, unsigned percent)
{
  struct making *const m = opaque;
  unsigned char buf[512];
  struct qcow2_error err;

  CHECK (percent >= m->last && percent <= 100);
  CHECK_EQ (qcow2_get_info (m->g.image).virtual_size, MiB);
  memset (buf, (int) ++m->calls, sizeof buf);
  did (qcow2_pwrite (m->g.image, &m->g.host.io, buf, sizeof buf, MiB - 512,
                     false, &err), &err);
  m->last = percent;
  return m->calls < 2;
}

static void
cancel_growing (struct making *m)
{
  const struct qcow2_progress progress = { .fn = write_beside, .opaque = m };
  struct qcow2_error err;
  unsigned char buf[512];

  CHECK_EQ (qcow2_grow (m->g.image, &m->g.host.io, 60 * MiB, &progress, &err),
            -1);
  CHECK_EQ (err.kind, QCOW2_ERR_CANCELLED);
  CHECK_EQ (m->calls, 2);
  CHECK_EQ (qcow2_get_info (m->g.image).virtual_size, MiB);
  did (qcow2_pread (m->g.image, &m->g.host.io, buf, sizeof buf, MiB - 512,
                    &err), &err);
  CHECK (is_full_of (buf, sizeof buf, 2));
}

/* As a request that meets damage does. */
static bool
find_damage (void *opaque, unsigned percent)
{
  struct making *const m = opaque;
  const struct q2_io io = q2_image_io (m->g.image, &m->g.host.io);
  struct qcow2_error err;

  (void) percent;
  q2_fail (&err, QCOW2_ERR_CORRUPT, QCOW2_NO_OFFSET, "damage");
  q2_writer_note_error (&m->g.image->writer, &io, &err);
  return true;
}

/* The disk stays as it is, in the file as well. */
static void
grow_what_is_corrupt (struct making *m)
{
  const struct qcow2_progress progress = { .fn = find_damage, .opaque = m };
  struct qcow2_error err;

  guest_open (&m->g);
  CHECK_EQ (qcow2_grow (m->g.image, &m->g.host.io, 3 * MiB, &progress, &err),
            -1);
  CHECK_EQ (err.kind, QCOW2_ERR_CORRUPT);
  CHECK_EQ (qcow2_get_info (m->g.image).virtual_size, 2 * MiB);
  qcow2_close (m->g.image);
  m->g.image = NULL;
  CHECK_EQ (load_be64 (m->g.host.bytes + 24), 2 * MiB);
}

static void
test_raw (void)
{
  static struct making m;
  const struct workload w = {
    .name = "cancelled",
    .recipe = { .options = "cluster_size=512", .cluster_bits = 9,
                .disk_size = MiB, .data_file = true, .data_raw = true },
    .host = GROWS (0),
  };
  struct recipe_image made;
  struct guest_files files;
  struct qcow2_error err;

  unit_context ("%s", w.name);
  recipe_make (&made, &w.recipe, 1);
  files = guest_files_of (&made);
  guest_init (&m.g, &w, 1, &files);
  enlarge_data (&m.g);
  guest_open (&m.g);
  CHECK_EQ (qcow2_grow (m.g.image, &m.g.host.io, UINT64_C (1) << 37, NULL,
                        &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_UNSUPPORTED);
  CHECK (strstr (err.text, "in steps of at most 68719476736 bytes") != NULL);
  CHECK_EQ (m.g.data.size, DEVICE);
  cancel_growing (&m);
  did (qcow2_grow (m.g.image, &m.g.host.io, 2 * MiB, NULL, &err), &err);
  CHECK (guest_close (&m.g, false));
  fsck_check (m.g.host.bytes, m.g.host.size, false);
  CHECK (is_full_of (m.g.data.bytes + MiB, MiB, 0));
  check_raw (&m.g, 2 * MiB, 60 * MiB);
  grow_what_is_corrupt (&m);
  guest_free (&m.g);
  recipe_free (&made);
}

/* ---- One client --------------------------------------------------------- */

static struct qcow2_image *
open_image (struct memory_disk *d, enum qcow2_bitmaps bitmaps)
{
  const struct qcow2_options options = {
    .writable = true, .bitmaps = bitmaps,
    .overlap_check = QCOW2_OVERLAP_ALL,
  };
  struct qcow2_image *image;
  struct qcow2_error err;

  d->host.size = d->size;
  image = qcow2_open (&d->host, &options, &err);
  if (!CHECK (image != NULL)) {
    printf ("%s\n", err.text);
    exit (unit_finish ());
  }
  return image;
}

static void
load (struct memory_disk *d, const char *commands)
{
  uint64_t size;
  unsigned char *const bytes = qemu_make (commands, &size);

  memory_disk_init (d, bytes, size);
  free (bytes);
}

static void
put (struct qcow2_image *image, struct memory_disk *d, uint64_t at,
     unsigned char c)
{
  unsigned char buf[512];
  struct qcow2_error err;

  memset (buf, c, sizeof buf);
  did (qcow2_pwrite (image, &d->host, buf, sizeof buf, at, false, &err), &err);
}

static void
end (struct qcow2_image *image, struct memory_disk *d)
{
  struct qcow2_error err;

  did (qcow2_end (image, &d->host, &err), &err);
  qcow2_close (image);
}

/* ---- Bitmaps ------------------------------------------------------------ */

/* Which bits are set, as QEMU sees them: offset and length in KiB. */
static void
compare_bits (struct memory_disk *d, const char *expected)
{
  unsigned char *const bytes = calloc (1, d->size + 1);

  REQUIRE (bytes != NULL);
  memcpy (bytes, d->bytes, d->stored < d->size ? d->stored : d->size);
  qemu_save ("b.qcow2", bytes, d->size);
  free (bytes);
  qemu_save ("expected", expected, strlen (expected));
  qemu_run (0, "qemu-nbd -t -r -f qcow2 -B b -k $PWD/b.sock --fork "
            "--pid-file=b.pid b.qcow2");
  qemu_run (0, "nbdinfo --map=qemu:dirty-bitmap:b "
            "'nbd+unix:///?socket='$PWD/b.sock "
            "| awk '$3 == 1 { printf \"%%d+%%d\\n\", $1 / 1024, $2 / 1024 }' "
            ">bits; kill $(cat b.pid); cat bits; cmp bits expected");
}

static void
keep_bitmaps (enum qcow2_bitmaps mode)
{
  struct memory_disk d;
  struct qcow2_image *image;
  struct qcow2_error err;

  unit_context ("bitmaps, mode %d", (int) mode);
  load (&d, "qemu-img create -q -f qcow2 -o cluster_size=4k i 1M;"
        "qemu-img bitmap --add -g 4k i b");
  image = open_image (&d, mode);
  put (image, &d, 100 * KiB, 1);
  did (qcow2_grow (image, &d.host, 700 * MiB, NULL, &err), &err);
  put (image, &d, 200 * KiB, 2);
  put (image, &d, 600 * MiB, 3);
  did (qcow2_grow (image, &d.host, 701 * MiB, NULL, &err), &err);
  did (qcow2_grow (image, &d.host, 702 * MiB, NULL, &err), &err);
  put (image, &d, 702 * MiB - 512, 4);
  end (image, &d);
  compare_bits (&d, "100+4\n200+4\n614400+4\n718844+4\n");
  memory_disk_free (&d);
}

/* ---- Views -------------------------------------------------------------- */

static void
check_view (struct qcow2_image *view, struct memory_disk *d, unsigned char c)
{
  unsigned char buf[512];
  struct qcow2_error err;

  CHECK_EQ (qcow2_get_info (view).virtual_size, MiB);
  if (did (qcow2_pread (view, &d->host, buf, sizeof buf, MiB - 512, &err),
           &err))
    CHECK (is_full_of (buf, sizeof buf, c));
}

static void
keep_views (void)
{
  const struct qcow2_name s = { "s", 1 }, b = { "b", 1 };
  const struct qcow2_name pair = { "s..", 3 };
  struct memory_disk d;
  struct qcow2_image *image, *snapshot, *diff, *bitmap;
  struct qcow2_error err;

  unit_context ("views");
  load (&d, "qemu-img create -q -f qcow2 -o cluster_size=4k i 1M;"
        "qemu-io -c 'write -P 5 0 1M' i; qemu-img snapshot -c s i;"
        "qemu-io -c 'write -P 6 0 1M' i; qemu-img bitmap --add i b;"
        "qemu-img bitmap --disable i b");
  image = open_image (&d, QCOW2_BITMAPS_DURABLE);
  snapshot = qcow2_open_view (image, &d.host, QCOW2_VIEW_SNAPSHOT, &s, &err);
  diff = qcow2_open_view (image, &d.host, QCOW2_VIEW_DIFF, &pair, &err);
  bitmap = qcow2_open_view (image, &d.host, QCOW2_VIEW_BITMAP, &b, &err);
  REQUIRE (snapshot != NULL && diff != NULL && bitmap != NULL);
  /* Its table is replaced. */
  CHECK_EQ (qcow2_grow (image, &d.host, 700 * MiB, NULL, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_BUSY);
  CHECK (strstr (err.text, "needs another table then: \"b\"") != NULL);
  CHECK_EQ (qcow2_get_info (image).virtual_size, MiB);
  qcow2_close (bitmap);
  did (qcow2_grow (image, &d.host, 700 * MiB, NULL, &err), &err);
  put (image, &d, 600 * MiB, 7);
  check_view (snapshot, &d, 5);
  check_view (diff, &d, 6);
  qcow2_close (snapshot);
  qcow2_close (diff);
  bitmap = qcow2_open_view (image, &d.host, QCOW2_VIEW_BITMAP, &b, &err);
  REQUIRE (bitmap != NULL);
  CHECK_EQ (qcow2_get_info (bitmap).virtual_size, 700 * MiB);
  qcow2_close (bitmap);
  end (image, &d);
  memory_disk_free (&d);
}

/* One that keeps its table goes on to tell the same; one that has bits behind
 * the end of the disk, which would be cleared, does not keep it.
 */
static void
keep_bitmap_view (bool stray)
{
  const struct qcow2_name b = { "b", 1 };
  struct memory_disk d;
  struct qcow2_image *image, *view;
  struct qcow2_error err;
  uint64_t sum = 0;
  char byte;

  unit_context ("a bitmap that keeps its table%s", stray ? ", nearly" : "");
  load (&d, stray
        ? "qemu-img create -q -f qcow2 -o cluster_size=4k i 8M;"
        "qemu-img bitmap --add -g 4k i b; qemu-io -c 'write 7M 1M' i;"
        "qemu-img bitmap --disable i b;"
        "printf '\\0\\0\\0\\0\\0\\060\\0\\0' | "
        "dd of=i bs=1 seek=24 conv=notrunc 2>/dev/null"
        : "qemu-img create -q -f qcow2 -o cluster_size=4k i 3M;"
        "qemu-img bitmap --add -g 4k i b; qemu-io -c 'write 2M 1M' i;"
        "qemu-img bitmap --disable i b");
  image = open_image (&d, QCOW2_BITMAPS_DURABLE);
  view = qcow2_open_view (image, &d.host, QCOW2_VIEW_BITMAP, &b, &err);
  REQUIRE (view != NULL);
  CHECK_EQ (qcow2_grow (image, &d.host, 100 * MiB, NULL, &err),
            stray ? -1 : 0);
  if (stray)
    CHECK_EQ (err.kind, QCOW2_ERR_BUSY);
  else
    put (image, &d, 99 * MiB, 1);
  CHECK_EQ (qcow2_get_info (view).virtual_size, 3 * MiB);
  did (qcow2_extents (view, &d.host, 3 * MiB, 0, add_up, &sum, &err), &err);
  CHECK_EQ (sum, 3 * MiB);
  CHECK_EQ (qcow2_pread (view, &d.host, &byte, 1, 3 * MiB, &err), -1);
  /* It holds on to what it reads. */
  if (!stray)
    CHECK_EQ (qcow2_grow (image, &d.host, 700 * MiB, NULL, &err), -1);
  qcow2_close (view);
  did (qcow2_grow (image, &d.host, 700 * MiB, NULL, &err), &err);
  end (image, &d);
  if (!stray)
    compare_bits (&d, "2048+1024\n");
  memory_disk_free (&d);
}

/* ---- Refused ------------------------------------------------------------ */

static void
refuse (struct qcow2_image *image, struct memory_disk *d, uint64_t size,
        enum qcow2_error_kind kind)
{
  const uint64_t before = qcow2_get_info (image).virtual_size;
  const unsigned long writes = d->writes;
  struct qcow2_error err;

  CHECK_EQ (qcow2_grow (image, &d->host, size, NULL, &err), -1);
  CHECK_EQ (err.kind, kind);
  CHECK_EQ (qcow2_get_info (image).virtual_size, before);
  CHECK_EQ (d->writes, writes);
}

static void
test_refusals (void)
{
  struct memory_disk d;
  struct qcow2_image *image;
  struct qcow2_error err;

  unit_context ("refusals");
  load (&d, "qemu-img create -q -f qcow2 -o compat=0.10 i 1M");
  image = open_image (&d, QCOW2_BITMAPS_DURABLE);
  refuse (image, &d, MiB - 512, QCOW2_ERR_INVALID);
  refuse (image, &d, 0, QCOW2_ERR_INVALID);
  refuse (image, &d, UINT64_MAX, QCOW2_ERR_INVALID);
  refuse (image, &d, UINT64_C (1) << 62, QCOW2_ERR_UNSUPPORTED);
  did (qcow2_grow (image, &d.host, MiB, NULL, &err), &err);
  did (qcow2_grow (image, &d.host, MiB + 1, NULL, &err), &err);
  CHECK_EQ (qcow2_get_info (image).virtual_size, MiB + 512);
  put (image, &d, MiB, 1);
  CHECK_EQ (qcow2_pread (image, &d.host, &(char) { 0 }, 1, MiB + 512, &err),
            -1);
  end (image, &d);
  memory_disk_free (&d);

  load (&d, "qemu-img create -q -f qcow2 -o compat=0.10 i 1M;"
        "qemu-img snapshot -c s i");
  image = open_image (&d, QCOW2_BITMAPS_DURABLE);
  refuse (image, &d, 2 * MiB, QCOW2_ERR_UNSUPPORTED);
  end (image, &d);
  memory_disk_free (&d);
}

/* It would have become larger together with the disk. */
static void
test_short_snapshot (void)
{
  const struct qcow2_name name = { "s", 1 };
  struct memory_disk d;
  struct qcow2_image *image, *view;
  struct qcow2_error err;

  unit_context ("a snapshot that does not tell its size");
  load (&d, "qemu-img create -q -f qcow2 i 1M; qemu-img snapshot -c s i\n"
        "at=$((0x$(od -An -tx1 -j64 -N8 i | tr -d ' ')))\n"
        "dd if=i of=name bs=1 skip=$((at + 64)) count=16 2>/dev/null\n"
        "dd if=name of=i bs=1 seek=$((at + 40)) conv=notrunc 2>/dev/null\n"
        "dd if=/dev/zero of=i bs=1 seek=$((at + 36)) count=4 conv=notrunc "
        "2>/dev/null\n");
  image = open_image (&d, QCOW2_BITMAPS_DURABLE);
  refuse (image, &d, 2 * MiB, QCOW2_ERR_UNSUPPORTED);
  did (qcow2_snapshots_complete (image, &d.host, &err), &err);
  did (qcow2_grow (image, &d.host, 2 * MiB, NULL, &err), &err);
  view = qcow2_open_view (image, &d.host, QCOW2_VIEW_SNAPSHOT, &name, &err);
  did (view == NULL ? -1 : 0, &err);
  CHECK_EQ (qcow2_get_info (view).virtual_size, MiB);
  qcow2_close (view);
  end (image, &d);
  memory_disk_free (&d);
}

/* ---- Lists -------------------------------------------------------------- */

#define LIST_STEPS 150
#define LIST_STEP (64 * KiB)

struct lists {
  struct host h;
  struct qcow2_image *image;
  atomic_bool stop;
  atomic_ulong nr;
};

static int
is_usable (void *opaque, const struct qcow2_bitmap *b)
{
  (void) opaque;
  if (!CHECK (b->why_unusable == NULL))
    printf ("%s\n", b->why_unusable);
  return 0;
}

static int
is_known (void *opaque, const struct qcow2_snapshot *s)
{
  (void) opaque;
  CHECK (s->name.len == 1 && s->name.bytes[0] == 's');
  CHECK_EQ (s->disk_size % LIST_STEP, 0);
  return 0;
}

static void
list_all (void *arg, unsigned nr)
{
  struct lists *const l = arg;
  struct qcow2_error err;

  (void) nr;
  while (!l->stop) {
    if ((l->nr % 2 == 0 ? qcow2_list_bitmaps : qcow2_list_bitmaps_kept)
          (l->image, &l->h.io, is_usable, NULL, &err) == -1 ||
        qcow2_list_snapshots (l->image, &l->h.io, is_known, NULL, &err) == -1)
      unit_check (err.kind == QCOW2_ERR_BUSY, __FILE__, __LINE__, "%s",
                  err.text);
    l->nr++;
  }
}

/* A list that was made while the disk grew said that the bitmap has the wrong
 * size for it, or that the directory is broken: it was somebody else's.
 */
static void
list_while_it_is_edited (void)
{
  const struct host_spec spec = { .capacity = 64 * MiB, .grows = true };
  const struct qcow2_options options = {
    .writable = true, .bitmaps = QCOW2_BITMAPS_DURABLE,
  };
  const struct qcow2_snapshot_options snapshot = { .name = { "s", 1 } };
  struct qcow2_error err;
  struct threads threads;
  unsigned char *bytes;
  struct lists l;
  uint64_t size;

  unit_context ("%s", __func__);
  bytes = qemu_make ("qemu-img create -q -f qcow2 -o cluster_size=512 i 64k\n"
                     "qemu-img bitmap --add -g 512 i b\n", &size);
  host_init (&l.h, &spec, bytes, size);
  free (bytes);
  host_reopen (&l.h);
  l.image = qcow2_open (&l.h.io, &options, &err);
  REQUIRE (l.image != NULL);
  l.stop = false;
  l.nr = 0;
  threads_start (&threads, 1, list_all, &l);
  for (uint64_t i = 2; i <= LIST_STEPS; ++i) {
    did (qcow2_grow (l.image, &l.h.io, i * LIST_STEP, NULL, &err), &err);
    did (qcow2_snapshot_create (l.image, &l.h.io, &snapshot, &err), &err);
    did (qcow2_snapshot_delete (l.image, &l.h.io, &snapshot.name, false, NULL,
                                &err), &err);
  }
  WAIT_UNTIL (l.nr > 10);
  l.stop = true;
  threads_join (&threads);
  did (qcow2_end (l.image, &l.h.io, &err), &err);
  qcow2_close (l.image);
  fsck_check (l.h.bytes, l.h.size, false);
  host_free (&l.h);
}

/* ---- The cache ---------------------------------------------------------- */

#define TABLES 512

static uint64_t
misses (const struct qcow2_image *image)
{
  struct qcow2_stats stats;

  qcow2_get_stats (image, &stats);
  return stats.table_misses;
}

/* A byte of each table of a disk of 1 GiB. */
static void
read_tables (struct qcow2_image *image, struct memory_disk *d)
{
  for (uint64_t i = 0; i < TABLES; ++i) {
    unsigned char c;
    struct qcow2_error err;

    did (qcow2_pread (image, &d->host, &c, 1, i * 2 * MiB, &err), &err);
    CHECK_EQ (c, 1 + i % 255);
  }
}

/* The cache of a small disk, which is small, becomes that of a large one. */
static void
enlarge_cache (void)
{
  struct memory_disk d;
  struct qcow2_image *image;
  struct qcow2_error err;
  uint64_t before;

  unit_context ("cache");
  load (&d, "qemu-img create -q -f qcow2 -o cluster_size=4k i 1M");
  image = open_image (&d, QCOW2_BITMAPS_DURABLE);
  did (qcow2_grow (image, &d.host, TABLES * 2 * MiB, NULL, &err), &err);
  for (uint64_t i = 0; i < TABLES; ++i)
    put (image, &d, i * 2 * MiB, (unsigned char) (1 + i % 255));
  read_tables (image, &d);
  before = misses (image);
  read_tables (image, &d);
  CHECK_EQ (misses (image), before);
  end (image, &d);
  memory_disk_free (&d);
}

int
main (void)
{
  threads_watchdog ();
  qemu_init ();
  test_crowds ();
  test_raw ();
  keep_bitmaps (QCOW2_BITMAPS_LAZY);
  keep_bitmaps (QCOW2_BITMAPS_DURABLE);
  keep_views ();
  keep_bitmap_view (false);
  keep_bitmap_view (true);
  test_refusals ();
  test_short_snapshot ();
  list_while_it_is_edited ();
  enlarge_cache ();
  qemu_finish ();
  return unit_finish ();
}
