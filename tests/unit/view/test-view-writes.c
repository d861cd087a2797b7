/* SPDX-License-Identifier: BSD-3-Clause */
/* test-view-writes.c - views of an image while clients write to it.
 *
 * Usage: test-view-writes [FIRST-SEED [RUNS]]
 *
 * Owns      the threads that open, read, map and close views.
 * Method    QEMU takes a snapshot, clients write, QEMU takes another one; then
 *           clients write again, and meanwhile both snapshots must read as
 *           when they were taken, and their difference must turn one into the
 *           other.  A difference to the active disk is not defined while that
 *           is written to, but each sector must be zeros or one that was
 *           written there; in the end it must be complete.  A bitmap is valid
 *           until the first write, and refused from then on.
 */
#include "config.h"

#include "guest.h"
#include "qemu.h"
#include "tag.h"
#include "threads.h"
#include "views.h"

#include <errno.h>

#define KiB (UINT64_C (1) << 10)
#define MiB (UINT64_C (1) << 20)
#define VIEWERS 3

#define REQUESTS                                                              \
  .clients = 3, .requests = 120, .write = 50, .zero = 15, .trim = 15,         \
  .read = 5, .flush = 14, .idle = 1, .fua_percent = 3
#define GROWS { .capacity = 16 * MiB, .grows = true }

static const struct recipe lower = {
  .options = "cluster_size=8k", .cluster_bits = 13,
  .disk_size = 300 * KiB, .fill_percent = 70,
};

static const struct workload workloads[] = {
  { .name = "4k",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 512 * KiB, .fill_percent = 60, .snapshots = 1,
                .bitmap = true },
    .host = GROWS, REQUESTS },
  { .name = "512, many L2 tables",
    .recipe = { .options = "compat=0.10,cluster_size=512",
                .cluster_bits = 9, .disk_size = 256 * KiB,
                .fill_percent = 50, .snapshots = 1 },
    .host = GROWS, REQUESTS, .max_sectors = 40 },
  { .name = "64k, subclusters",
    .recipe = { .options = "cluster_size=64k,extended_l2=on",
                .cluster_bits = 16, .disk_size = 1024 * KiB,
                .fill_percent = 60, .snapshots = 1 },
    .host = GROWS, REQUESTS, .max_sectors = 200 },
  { .name = "compressed, slow",
    .recipe = { .options = "cluster_size=16k", .cluster_bits = 14,
                .disk_size = 512 * KiB, .fill_percent = 90,
                .compressed = true, .snapshots = 1, .bitmap = true },
    .host = { .capacity = 16 * MiB, .grows = true, .delay_us = 400 },
    REQUESTS },
  { .name = "overlay",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 512 * KiB, .fill_percent = 30, .snapshots = 1,
                .bitmap = true, .below = &lower },
    .host = GROWS, REQUESTS },
  { .name = "encrypted",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 512 * KiB, .fill_percent = 50, .snapshots = 1,
                .bitmap = true, .encryption = QCOW2_ENCRYPTION_LUKS },
    .host = GROWS, REQUESTS },
  { .name = "written compressed",
    .recipe = { .options = "cluster_size=16k", .cluster_bits = 14,
                .disk_size = 512 * KiB, .fill_percent = 90,
                .compressed = true, .snapshots = 1, .bitmap = true },
    .host = GROWS, REQUESTS, .max_sectors = 120, .compress = true },
  { .name = "written compressed, in few places",
    .recipe = { .options = "cluster_size=4k,refcount_bits=8",
                .cluster_bits = 12, .disk_size = 256 * KiB,
                .fill_percent = 60, .snapshots = 1 },
    .host = GROWS, REQUESTS, .max_sectors = 40, .pattern = PATTERN_HOT,
    .compress = true },
};
#define NR_WORKLOADS (sizeof workloads / sizeof workloads[0])

struct viewing {
  struct guest *g;
  uint64_t seed, size;
  bool bitmap;
  unsigned char *first, *second;        /* what the snapshots hold */
  atomic_bool written;          /* the clients' first write has ended */
  atomic_bool stop;
  atomic_ulong views;
};

/* ---- Views ----------------------------------------------------------------- */

static void
look_at_snapshot (struct viewing *v, struct rng *rng, bool second)
{
  const struct qcow2_io *const io = &v->g->host.io;
  struct qcow2_image *const view =
    view_open (v->g->image, io, QCOW2_VIEW_SNAPSHOT, second ? "mid" : "s0");

  for (uint64_t i = rng_below (rng, 3); i < 3; ++i)
    view_compare (view, io, rng, second ? v->second : v->first, 0, v->size);
  qcow2_close (view);
}

static void
look_at_diff (struct viewing *v, struct rng *rng)
{
  const struct qcow2_io *const io = &v->g->host.io;
  struct qcow2_image *const view =
    view_open (v->g->image, io, QCOW2_VIEW_DIFF, "s0..mid");
  unsigned char *const copy = malloc (v->size);

  REQUIRE (copy != NULL);
  memcpy (copy, v->first, v->size);
  view_apply (view, io, rng, copy, 0, v->size);
  CHECK_BYTES (copy, v->second, v->size);
  qcow2_close (view);
  free (copy);
}

static int
see_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  uint64_t *const next = opaque;

  (void) type;
  CHECK_EQ (guest_off, *next);
  *next += len;
  return 0;
}

/* Of the active disk: what a sector holds was written to it. */
static void
look_at_changes (struct viewing *v, struct rng *rng)
{
  const struct qcow2_io *const io = &v->g->host.io;
  struct qcow2_image *const view =
    view_open (v->g->image, io, QCOW2_VIEW_DIFF, "mid..");
  const uint64_t sectors = v->size / SECTOR;
  unsigned char *const buf = malloc (v->size);

  REQUIRE (buf != NULL);
  for (unsigned i = 0; i < 10; ++i) {
    const uint64_t sector = rng_below (rng, sectors);
    const uint64_t nr = 1 + rng_below (rng, sectors - sector);
    uint64_t next = sector * SECTOR;
    struct qcow2_error err;

    CHECK_EQ (qcow2_pread (view, io, buf, (uint32_t) (nr * SECTOR), next,
                           &err), 0);
    for (uint64_t j = 0; j < nr; ++j)
      if (!CHECK (tag_read (buf + j * SECTOR, sector + j) != TAG_FOREIGN))
        break;
    CHECK_EQ (qcow2_extents (view, io, nr * SECTOR, next, see_extent, &next,
                             &err), 0);
    CHECK_EQ (next, (sector + nr) * SECTOR);
  }
  qcow2_close (view);
  free (buf);
}

/* It was added after all writes, so nothing of it is set. */
static void
look_at_bitmap (struct viewing *v)
{
  const struct qcow2_name name = view_name ("b0");
  const struct qcow2_io *const io = &v->g->host.io;
  const bool written = v->written;
  struct qcow2_error err;
  struct qcow2_image *const view =
    qcow2_open_view (v->g->image, io, QCOW2_VIEW_BITMAP, &name, &err);
  char c = 1;

  if (view == NULL) {
    CHECK_EQ (err.kind, QCOW2_ERR_REFUSED);
    return;
  }
  CHECK (!written);
  for (unsigned i = 0; i < 50; ++i) {
    const bool refused = v->written;
    const int r = qcow2_pread (view, io, &c, 1, 512 * i, &err);

    CHECK (r == -1 || (c == 0 && !refused));
    if (r == -1)
      CHECK_EQ (err.errnum, EIO);
    usleep (100);
  }
  qcow2_close (view);
}

static void
viewer (void *arg, unsigned nr)
{
  struct viewing *const v = arg;
  struct rng rng = { v->seed * 100 + nr };

  unit_context ("%s, viewer %u", v->g->w->name, nr);
  while (!v->stop && unit_failures () == 0) {
    switch (rng_below (&rng, 5)) {
    case 0: look_at_snapshot (v, &rng, false); break;
    case 1: look_at_snapshot (v, &rng, true); break;
    case 2: look_at_diff (v, &rng); break;
    case 3: look_at_changes (v, &rng); break;
    case 4: if (v->bitmap) look_at_bitmap (v); break;
    }
    v->views++;
  }
}

/* ---- Runs ------------------------------------------------------------------ */

static unsigned char *
read_disk (struct guest *g, uint64_t size)
{
  unsigned char *const disk = malloc (size);
  struct qcow2_error err;

  REQUIRE (disk != NULL);
  CHECK_EQ (qcow2_pread (g->image, &g->host.io, disk, (uint32_t) size, 0,
                         &err), 0);
  return disk;
}

/* Clients write, and what they leave behind becomes a snapshot.  Returns the
 * image.
 */
static unsigned char *
make_second (const struct workload *w, uint64_t seed,
             struct recipe_image *made, uint64_t *ret_size,
             unsigned char **ret_disk)
{
  const struct guest_files files = guest_files_of (made);
  char image[QEMU_IMAGE];
  struct guest g;

  guest_init (&g, w, seed, &files);
  guest_open (&g);
  guest_run (&g);
  *ret_disk = read_disk (&g, made->disk_size);
  CHECK (guest_close (&g, true));
  qemu_save ("second.qcow2", g.host.bytes, g.host.size);
  guest_free (&g);
  qemu_image (image, sizeof image, "second.qcow2", made->qemu_options, NULL);
  qemu_run (0, "qemu-img snapshot -c mid %s", image);
  if (w->recipe.bitmap) {
    qemu_run (0, "qemu-img bitmap --remove %s b0", image);
    qemu_run (0, "qemu-img bitmap --add -g 512 %s b0", image);
  }
  return qemu_load ("second.qcow2", ret_size);
}

static void
check_changes (struct viewing *v)
{
  const struct qcow2_io *const io = &v->g->host.io;
  struct rng rng = { v->seed };
  unsigned char *const active = read_disk (v->g, v->size);
  unsigned char *const copy = malloc (v->size);
  struct qcow2_image *view;

  REQUIRE (copy != NULL);
  memcpy (copy, v->second, v->size);
  view = view_open (v->g->image, io, QCOW2_VIEW_DIFF, "mid..");
  view_apply (view, io, &rng, copy, 0, v->size);
  CHECK_BYTES (copy, active, v->size);
  qcow2_close (view);
  free (copy);
  free (active);
}

static void
run (const struct workload *w, uint64_t seed)
{
  struct viewing v = { .seed = seed, .bitmap = w->recipe.bitmap };
  struct recipe_image made;
  struct guest_files files;
  struct qemu_files qemu;
  struct threads threads;
  struct guest g;
  unsigned char *bytes;
  uint64_t size;
  struct rng rng = { seed };

  if ((w->recipe.encryption != QCOW2_ENCRYPTION_NONE && !qcow2_has_nettle ())
      || ((w->recipe.compressed || w->compress) && !qcow2_has_zlib ()))
    return;
  unit_context ("%s, seed %" PRIu64, w->name, seed);
  recipe_make (&made, &w->recipe, seed);
  v.g = &g;
  v.size = made.disk_size;
  v.first = made.snapshot;
  bytes = make_second (w, seed, &made, &size, &v.second);
  files = guest_files_of (&made);
  files.image = bytes;
  files.size = size;
  files.disk = v.second;
  guest_init (&g, w, seed + 1000, &files);
  guest_open (&g);
  threads_start (&threads, VIEWERS, viewer, &v);
  WAIT_UNTIL (v.views > VIEWERS || unit_failures () > 0);
  guest_request (&g, &rng);
  for (unsigned i = 0; i < 3; ++i) {
    guest_run (&g);
    v.written = true;
  }
  v.stop = true;
  threads_join (&threads);
  check_changes (&v);
  CHECK (guest_close (&g, true));
  qemu = (struct qemu_files) { .options = made.qemu_options };
  qemu_submit (g.host.bytes, g.host.size, &qemu, QEMU_CLEAN, NULL, 0,
               w->name);
  qemu_wait ();                 /* the layers below are removed next */
  guest_free (&g);
  free (bytes);
  free (v.second);
  recipe_free (&made);
}

int
main (int argc, char *argv[])
{
  const uint64_t first = argc > 1 ? strtoull (argv[1], NULL, 0) : 1;
  const unsigned runs =
    argc > 2 ? (unsigned) strtoul (argv[2], NULL, 0)
    : unit_scaled (2 * NR_WORKLOADS);

  threads_watchdog ();
  qemu_init ();
  for (uint64_t seed = first; seed < first + runs; ++seed) {
    run (&workloads[seed % NR_WORKLOADS], seed);
    if (unit_failures () > 0)
      break;
  }
  qemu_wait ();
  qemu_finish ();
  return unit_finish ();
}
