/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-disasters.c - known ways to lose a disk.
 *
 * One function for each bug that has destroyed disks elsewhere; its name says
 * which.
 *
 * Owns      nothing; see crash/ for the host, the clients and the ledger.
 * Method    small images made by QEMU, some of them damaged on purpose; at
 *           the end fsck and qemu-img check.
 */
#include "config.h"

#include "base/be.h"
#include "fsck.h"
#include "guest.h"
#include "qemu.h"
#include "tag.h"

#define KiB (UINT64_C (1) << 10)
#define MiB (UINT64_C (1) << 20)
#define OFFSET_MASK UINT64_C (0x00fffffffffffe00)

struct disk {
  struct recipe recipe;
  struct recipe_image made;
  struct host host;
  struct qcow2_image *image;
  struct qcow2_error err;       /* of the last request */
  uint32_t id;
};

static void
make (struct disk *d, const char *options, unsigned cluster_bits,
      uint64_t size, unsigned fill_percent)
{
  memset (d, 0, sizeof *d);
  d->recipe = (struct recipe) {
    .options = options, .cluster_bits = cluster_bits, .disk_size = size,
    .fill_percent = fill_percent,
  };
  d->id = RECIPE_ID + 1;
  recipe_make (&d->made, &d->recipe, 1);
}

static void
serve (struct disk *d, const struct host_spec *spec)
{
  host_init (&d->host, spec, d->made.bytes, d->made.size);
}

static bool
open_disk (struct disk *d)
{
  const struct qcow2_options options = {
    .writable = true, .overlap_check = QCOW2_OVERLAP_ALL,
  };

  host_reopen (&d->host);
  d->image = qcow2_open (&d->host.io, &options, &d->err);
  return d->image != NULL && qcow2_get_info (d->image).writable;
}

/* Sectors; what is written is kept in made.disk if it succeeded. */
static bool
write_to (struct disk *d, uint64_t sector, uint64_t count)
{
  unsigned char *const buf = malloc (count * SECTOR);
  bool ok;

  REQUIRE (buf != NULL);
  tag_fill (buf, sector, count, d->id++);
  ok = qcow2_pwrite (d->image, &d->host.io, buf,
                     (uint32_t) (count * SECTOR), sector * SECTOR, false,
                     &d->err) == 0;
  if (ok)
    memcpy (d->made.disk + sector * SECTOR, buf, count * SECTOR);
  free (buf);
  return ok;
}

static bool
trim (struct disk *d, uint64_t sector, uint64_t count)
{
  if (qcow2_trim (d->image, &d->host.io, count * SECTOR, sector * SECTOR,
                  false, &d->err) == -1)
    return false;
  memset (d->made.disk + sector * SECTOR, 0, count * SECTOR);
  return true;
}

static bool
flush (struct disk *d)
{
  return qcow2_flush (d->image, &d->host.io, &d->err) == 0;
}

static void
compare (struct disk *d)
{
  unsigned char *const buf = malloc (d->made.disk_size);

  REQUIRE (buf != NULL);
  if (CHECK_EQ (qcow2_pread (d->image, &d->host.io, buf,
                             (uint32_t) d->made.disk_size, 0, &d->err), 0))
    CHECK_BYTES (buf, d->made.disk, d->made.disk_size);
  free (buf);
}

static void
check_clean (struct disk *d, const char *what)
{
  struct fsck fsck;

  fsck_image (d->host.bytes, d->host.size, &fsck);
  unit_check (fsck.corruptions == 0 && fsck.leaks == 0, __FILE__, __LINE__,
              "%u corruptions, %u leaks: %s%s", fsck.corruptions, fsck.leaks,
              fsck.text, fsck.leak_text);
  qemu_submit (d->host.bytes, d->host.size, NULL, QEMU_CLEAN, d->made.disk,
               d->made.disk_size, what);
}

static void
end_disk (struct disk *d)
{
  unit_check (qcow2_end (d->image, &d->host.io, &d->err) == 0, __FILE__,
              __LINE__, "end: %s", d->err.text);
  qcow2_close (d->image);
  d->image = NULL;
}

static void
free_disk (struct disk *d)
{
  qcow2_close (d->image);
  host_free (&d->host);
  recipe_free (&d->made);
}

/* ---- Races ------------------------------------------------------------- */

static void
run_clients (const struct workload *w)
{
  struct recipe_image made;
  struct guest g;

  unit_context ("%s", w->name);
  recipe_make (&made, &w->recipe, 1);
  for (unsigned i = 0; i < unit_scaled (4); ++i) {
    const struct guest_files files = guest_files_of (&made);
    struct fsck fsck;

    guest_init (&g, w, i, &files);
    guest_open (&g);
    guest_run (&g);
    guest_read_all (&g);
    guest_close (&g, true);
    fsck_image (g.host.bytes, g.host.size, &fsck);
    unit_check (fsck.corruptions == 0 && fsck.leaks == 0, __FILE__,
                __LINE__, "%s%s", fsck.text, fsck.leak_text);
    qemu_submit (g.host.bytes, g.host.size, NULL, QEMU_CLEAN, NULL, 0,
                 w->name);
    guest_free (&g);
  }
  recipe_free (&made);
}

static void
discard_during_rewrite_of_the_same_cluster (void)
{
  static const struct workload w = {
    .name = "discard during rewrite of the same cluster",
    .recipe = { .options = "cluster_size=64k", .cluster_bits = 16,
                .disk_size = 128 * KiB, .fill_percent = 100 },
    .host = { .capacity = 2 * MiB, .delay_us = 100 },
    .pattern = PATTERN_HOT, .clients = 6, .requests = 120, .write = 50,
    .trim = 30, .read = 10, .flush = 10, .max_sectors = 128,
  };

  run_clients (&w);
}

static void
delayed_punch_over_a_reused_cluster (void)
{
  static const struct workload w = {
    .name = "delayed punch over a reused cluster",
    .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 64 * KiB, .fill_percent = 50 },
    .host = { .capacity = 128 * KiB, .delay_us = 200 },
    .clients = 6, .requests = 150, .write = 40, .trim = 30, .read = 10,
    .flush = 20, .may_fill = true,
  };

  run_clients (&w);
}

static void
clients_that_make_the_file_grow_at_once (void)
{
  static const struct workload w = {
    .name = "clients that make the file grow at once",
    .recipe = { .options = "cluster_size=512", .cluster_bits = 9,
                .disk_size = 1024 * KiB },
    .host = { .capacity = 4 * MiB, .grows = true, .delay_us = 50 },
    .pattern = PATTERN_SEQUENTIAL, .clients = 8, .requests = 60,
    .write = 95, .flush = 5, .max_sectors = 6,
  };

  run_clients (&w);
}

/* ---- Space ------------------------------------------------------------- */

/* No data ever lands on the header, and nothing that was there is handed out
 * again after the image has been opened anew.
 */
static void
first_cluster_and_live_tables_are_not_handed_out (void)
{
  struct disk d;

  unit_context ("%s", __func__);
  make (&d, "cluster_size=4k", 12, 512 * KiB, 30);
  serve (&d, &(struct host_spec) { .capacity = 2 * MiB, .grows = true });
  host_record (&d.host);
  for (unsigned round = 0; round < 6; ++round) {
    REQUIRE (open_disk (&d));
    compare (&d);
    for (unsigned i = 0; i < 20; ++i)
      CHECK (write_to (&d, (round * 20 + i) * 7 % 1000, 5));
    CHECK (trim (&d, round * 64, 32));
    CHECK (flush (&d));
    for (unsigned i = 0; i < 10; ++i)
      CHECK (write_to (&d, (round * 10 + i) * 11 % 1000, 3));
    compare (&d);
    end_disk (&d);
  }
  for (size_t i = 0; i < d.host.nr_log; ++i)
    if (d.host.log[i]->io_class == QCOW2_IO_DATA &&
        d.host.log[i]->kind <= HOST_TRIM)
      CHECK (d.host.log[i]->host_off >= 4 * KiB);
  check_clean (&d, __func__);
  free_disk (&d);
}

/* For each capacity between nothing free and plenty: what cannot be stored
 * is refused, and all else is there.
 */
static void
no_space_in_the_middle_of_an_allocation (void)
{
  struct disk d;

  make (&d, "cluster_size=512", 9, 192 * KiB, 20);
  for (uint64_t extra = 0; extra < 60; ++extra) {
    unsigned refused = 0;

    unit_context ("%s: %" PRIu64 " blocks", __func__, extra);
    serve (&d, &(struct host_spec) {
        .capacity = ((d.made.size + 4095) & ~UINT64_C (4095)) +
          extra * 4096 });
    REQUIRE (open_disk (&d));
    for (unsigned i = 0; i < 12; ++i)
      if (!write_to (&d, i * 32 + 1, 11)) {
        CHECK_EQ (d.err.kind, QCOW2_ERR_NO_SPACE);
        CHECK_EQ (d.err.errnum, 28);
        ++refused;
        /* Parts of it may be there. */
        CHECK_EQ (qcow2_pread (d.image, &d.host.io, d.made.disk +
                               (i * 32 + 1) * SECTOR, 11 * SECTOR,
                               (i * 32 + 1) * SECTOR, &d.err), 0);
      }
    CHECK (extra > 0 || refused > 0);
    compare (&d);
    /* Space that is given back serves again. */
    CHECK (trim (&d, 0, 128));
    CHECK (write_to (&d, 32, 20));
    compare (&d);
    end_disk (&d);
    check_clean (&d, __func__);
    host_free (&d.host);
    recipe_free (&d.made);
    recipe_make (&d.made, &d.recipe, 1);
  }
  recipe_free (&d.made);
}

/* All of a fixed device is let go and written again, ten times: what is
 * let go serves again although nobody asks for a flush.
 */
static void
device_95_percent_full_rewritten_ten_times (void)
{
  struct disk d;
  uint64_t used;

  unit_context ("%s", __func__);
  make (&d, "cluster_size=4k", 12, 1 * MiB, 100);
  used = (d.made.size + 4095) & ~UINT64_C (4095);
  serve (&d, &(struct host_spec) { .capacity = used * 100 / 95 });
  REQUIRE (open_disk (&d));
  for (unsigned round = 0; round < 10; ++round) {
    CHECK (trim (&d, 0, 2048));
    for (uint64_t sector = 0; sector < 2048; sector += 64)
      if (!unit_check (write_to (&d, sector, 64), __FILE__, __LINE__,
                       "round %u, sector %" PRIu64 ": %s", round, sector,
                       d.err.text))
        break;
  }
  compare (&d);
  end_disk (&d);
  check_clean (&d, __func__);
  free_disk (&d);
}

/* The same by a snapshot's clusters: no more than the device holds, but
 * nothing lost.
 */
static void
full_device_with_a_snapshot (void)
{
  struct disk d;
  unsigned refused = 0;

  unit_context ("%s", __func__);
  memset (&d, 0, sizeof d);
  d.recipe = (struct recipe) {
    .options = "cluster_size=4k", .cluster_bits = 12, .disk_size = 512 * KiB,
    .fill_percent = 100, .snapshots = 1,
  };
  d.id = 2;
  recipe_make (&d.made, &d.recipe, 1);
  serve (&d, &(struct host_spec) { .capacity = d.made.size + 128 * KiB });
  REQUIRE (open_disk (&d));
  for (uint64_t sector = 0; sector < 1024; sector += 8)
    if (!write_to (&d, sector, 8)) {
      CHECK_EQ (d.err.kind, QCOW2_ERR_NO_SPACE);
      ++refused;
    }
  CHECK (refused > 50);
  compare (&d);
  end_disk (&d);
  check_clean (&d, __func__);
  free_disk (&d);
}

/* Behind the end of the disk its last cluster holds zeros, not what the
 * device held before: who makes the disk larger would see it.
 */
static void
stale_tails (void)
{
  struct disk d;
  unsigned char *bytes;
  uint64_t size;

  unit_context ("%s", __func__);
  make (&d, "cluster_size=64k", 16, 100 * KiB, 0);
  serve (&d, &(struct host_spec) { .capacity = 2 * MiB });
  REQUIRE (open_disk (&d));
  CHECK (write_to (&d, 199, 1));
  CHECK (write_to (&d, 3, 1));
  compare (&d);
  end_disk (&d);
  check_clean (&d, __func__);
  qemu_save ("tail.qcow2", d.host.bytes, d.host.size);
  qemu_run (0, "qemu-img resize -q -f qcow2 tail.qcow2 %" PRIu64, 256 * KiB);
  qemu_run (0, "qemu-img convert -f qcow2 -O raw tail.qcow2 tail.raw");
  bytes = qemu_load ("tail.raw", &size);
  if (CHECK_EQ (size, 256 * KiB)) {
    CHECK_BYTES (bytes, d.made.disk, 100 * KiB);
    for (uint64_t i = 100 * KiB; i < size; ++i)
      if (!unit_check (bytes[i] == 0, __FILE__, __LINE__,
                       "stale bytes at %" PRIu64, i))
        break;
  }
  free (bytes);
  free_disk (&d);
}

/* The file is cut at the end, and grows again over what was there. */
static void
cut_and_grown_again (void)
{
  struct disk d;

  unit_context ("%s", __func__);
  make (&d, "cluster_size=64k", 16, 1 * MiB, 20);
  serve (&d, &(struct host_spec) { .capacity = 4 * MiB, .grows = true,
      .holes = true });
  for (unsigned round = 0; round < 5; ++round) {
    REQUIRE (open_disk (&d));
    for (uint64_t sector = round; sector < 2048; sector += 128)
      CHECK (write_to (&d, sector, 3));
    compare (&d);
    CHECK (trim (&d, 256, 1792));
    end_disk (&d);
    check_clean (&d, __func__);
    CHECK (d.host.size < 1 * MiB);
  }
  free_disk (&d);
}

/* ---- Flushes ------------------------------------------------------------ */

/* Clients that are never idle and never flush. */
static void
busy_for_hours_and_killed (void)
{
  struct qcow2_stats st = { .commits = 0 };
  struct disk d;
  unsigned calls = 0;

  unit_context ("%s", __func__);
  make (&d, "cluster_size=64k", 16, 1 * MiB, 0);
  serve (&d, &(struct host_spec) { .capacity = 4 * MiB });
  REQUIRE (open_disk (&d));
  while (st.commits == 0 && calls++ < 10) {
    CHECK (write_to (&d, calls * 128, 8));
    CHECK_EQ (qcow2_idle_commit (d.image, &d.host.io, &d.err), 0);
    qcow2_get_stats (d.image, &st);
  }
  /* Not with the first one either: that would cost clients that flush. */
  unit_check (calls > 2 && calls <= 5, __FILE__, __LINE__, "%u calls",
              calls);
  /* Killed: what was written until then is there. */
  check_clean (&d, __func__);
  free_disk (&d);
}

/* Clients that write and then do nothing: the second call finds that. */
static void
idle_and_killed (void)
{
  struct qcow2_stats st;
  struct disk d;

  unit_context ("%s", __func__);
  make (&d, "cluster_size=64k", 16, 1 * MiB, 0);
  serve (&d, &(struct host_spec) { .capacity = 4 * MiB });
  REQUIRE (open_disk (&d));
  for (unsigned round = 1; round <= 3; ++round) {
    CHECK (write_to (&d, round * 128, 8));
    for (unsigned i = 0; i < 2; ++i)
      CHECK_EQ (qcow2_idle_commit (d.image, &d.host.io, &d.err), 0);
    qcow2_get_stats (d.image, &st);
    CHECK_EQ (st.commits, round);
  }
  check_clean (&d, __func__);
  free_disk (&d);
}

/* Somebody else has flushed the file, and that failed: the engine is told. */
static void
flush_of_another_one_fails (void)
{
  struct disk d;

  unit_context ("%s", __func__);
  make (&d, "cluster_size=64k", 16, 1 * MiB, 0);
  serve (&d, &(struct host_spec) { .capacity = 4 * MiB });
  REQUIRE (open_disk (&d));
  CHECK (write_to (&d, 0, 8));
  CHECK (flush (&d));
  check_clean (&d, __func__);
  qcow2_flush_has_failed (d.image);
  CHECK (!write_to (&d, 256, 8));
  CHECK (!flush (&d));
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), -1);
  compare (&d);
  free_disk (&d);
}

/* ---- Damaged images ---------------------------------------------------- */

/* COPIED, and no table: QEMU ends in an assertion. */
static void
l1_entry_copied_without_a_table (void)
{
  struct disk d;
  uint64_t l1;

  unit_context ("%s", __func__);
  make (&d, "cluster_size=4k", 12, 4 * MiB, 0);
  l1 = load_be64 (d.made.bytes + 40);
  store_be64 (d.made.bytes + l1, UINT64_C (1) << 63);
  serve (&d, &(struct host_spec) { .capacity = 8 * MiB, .grows = true });
  if (open_disk (&d)) {
    if (!write_to (&d, 5, 9))
      CHECK_EQ (d.err.kind, QCOW2_ERR_CORRUPT);
    compare (&d);
    if (d.image != NULL && qcow2_end (d.image, &d.host.io, &d.err) == 0)
      qemu_submit (d.host.bytes, d.host.size, NULL, QEMU_SOUND, d.made.disk,
                   d.made.disk_size, __func__);
  }
  free_disk (&d);
}

/* The refcounts say that all is free, or there are none: nothing may be
 * allocated where something is.
 */
static void
refcount_block_at_offset_0 (void)
{
  for (unsigned way = 0; way < 3; ++way) {
    struct disk d;
    uint64_t table, block;
    unsigned char header[512];

    unit_context ("%s: %u", __func__, way);
    make (&d, "cluster_size=4k", 12, 256 * KiB, 50);
    table = load_be64 (d.made.bytes + 48);
    block = load_be64 (d.made.bytes + table);
    if (way == 0)
      memset (d.made.bytes + block, 0, 4096);   /* nothing is counted */
    else if (way == 1)
      store_be64 (d.made.bytes + table, 0);     /* nor is there a block */
    else
      store_be16 (d.made.bytes + block, 0);     /* only the header is free */
    memcpy (header, d.made.bytes, sizeof header);
    serve (&d, &(struct host_spec) { .capacity = 1 * MiB, .grows = true });
    if (open_disk (&d)) {
      for (uint64_t sector = 0; sector < 512; sector += 3)
        if (!write_to (&d, sector, 2))
          CHECK (d.err.kind == QCOW2_ERR_CORRUPT ||
                 d.err.kind == QCOW2_ERR_IO);
      flush (&d);
    }
    /* But for the feature bits. */
    CHECK_BYTES (d.host.bytes, header, 72);
    CHECK_BYTES (d.host.bytes + 96, header + 96, sizeof header - 96);
    free_disk (&d);
  }
}

/* Whoever lets go of the one must not bring down the other, or the server. */
static void
two_l2_entries_share_a_copied_cluster (void)
{
  struct disk d;
  uint64_t l1, l2;

  unit_context ("%s", __func__);
  make (&d, "cluster_size=4k", 12, 256 * KiB, 100);
  l1 = load_be64 (d.made.bytes + 40);
  l2 = load_be64 (d.made.bytes + l1) & OFFSET_MASK;
  memcpy (d.made.bytes + l2 + 8, d.made.bytes + l2, 8);
  memcpy (d.made.disk + 4096, d.made.disk, 4096);
  serve (&d, &(struct host_spec) { .capacity = 1 * MiB, .grows = true });
  if (open_disk (&d)) {
    trim (&d, 0, 8);
    trim (&d, 8, 8);
    flush (&d);
    for (uint64_t sector = 16; sector < 512; sector += 8)
      if (!write_to (&d, sector, 8))
        CHECK (d.err.kind == QCOW2_ERR_CORRUPT ||
               d.err.kind == QCOW2_ERR_IO);
    flush (&d);
    /* The others are untouched by it. */
    CHECK_EQ (qcow2_pread (d.image, &d.host.io, d.made.bytes,
                           16 * SECTOR, 16 * SECTOR, &d.err), 0);
    CHECK_BYTES (d.made.bytes, d.made.disk + 16 * SECTOR, 16 * SECTOR);
  }
  free_disk (&d);
}

int
main (void)
{
  static void (*const tests[]) (void) = {
    discard_during_rewrite_of_the_same_cluster,
    delayed_punch_over_a_reused_cluster,
    clients_that_make_the_file_grow_at_once,
    first_cluster_and_live_tables_are_not_handed_out,
    no_space_in_the_middle_of_an_allocation,
    device_95_percent_full_rewritten_ten_times,
    full_device_with_a_snapshot,
    stale_tails,
    cut_and_grown_again,
    busy_for_hours_and_killed,
    idle_and_killed,
    flush_of_another_one_fails,
    l1_entry_copied_without_a_table,
    refcount_block_at_offset_0,
    two_l2_entries_share_a_copied_cluster,
  };

  qemu_init ();
  for (size_t i = 0; i < sizeof tests / sizeof tests[0]; ++i)
    tests[i] ();
  qemu_wait ();
  qemu_finish ();
  return unit_finish ();
}
