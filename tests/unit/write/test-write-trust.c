/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-trust.c - writes in place must not trust entries.
 *
 * Owns      entries that allow writes in place to clusters that are free, past
 *           the end of the file, or metadata that has to be searched for.
 * Method    a sound image with a wrong field, as in test-write-hostile.c.  A
 *           client that can write to a future table can make entries of its
 *           own: so other parts of the disk must not change.
 */
#include "config.h"

#include "hooked_disk.h"
#include "image_inside.h"
#include "threads.h"

#include "base/be.h"

#define MiB (UINT64_C (1) << 20)
#define CLUSTER UINT64_C (4096)
#define SPAN UINT64_C (512)     /* guest clusters of one L2 table */
#define CORRUPT_BIT 2u
#define COMPRESSED (UINT64_C (1) << 62)
#define NR UINT64_C (8)         /* guest clusters with data */

static void
build (struct hooked_disk *d)
{
  hooked_disk_build (d, 12, 4, 4 * SPAN * CLUSTER, NR);
}

static void
serve (struct hooked_disk *d)
{
  hooked_disk_serve (d, &(struct host_spec) {
      .capacity = 16 * MiB, .grows = true });
  hooked_disk_open (d);
}

/* Of a cluster, as built. */
static uint64_t
refcount_off (struct hooked_disk *d, uint64_t cluster)
{
  const uint64_t block = hooked_disk_get (d, hooked_disk_get (d, 48));

  return block + 2 * cluster;
}

static void
count_it (struct hooked_disk *d, uint64_t host_off, unsigned value)
{
  store_be16 (d->b.bytes + refcount_off (d, host_off / CLUSTER),
              (uint16_t) value);
}

static void
check_failed (struct hooked_disk *d, bool ok, enum qcow2_error_kind kind)
{
  if (CHECK (!ok))
    CHECK_EQ (d->err.kind, kind);
}

static void
finish (struct hooked_disk *d, bool marked)
{
  CHECK_EQ (qcow2_end (d->image, &d->host.io, &d->err), marked ? -1 : 0);
  CHECK_EQ (hooked_disk_get (d, 72) & CORRUPT_BIT, marked ? CORRUPT_BIT : 0);
  hooked_disk_free (d);
}

/* ---- Behind the end of the file ----------------------------------------- */

/* The file grew to wherever an entry said, up to 2^20 clusters further, if
 * only the cluster had a refcount.  Nothing but the request fails.
 */
static void
entries_behind_the_end (void)
{
  static const uint64_t where[] = { 0, 1, 100, 2000 };
  static const struct { const char *what; uint64_t flags; } kinds[] = {
    { "data", HOOKED_COPIED }, { "zeros", HOOKED_COPIED | 1 },
    { "shared", 0 }, { "stream", COMPRESSED },
  };

  for (unsigned n = 0; n < 16; ++n) {
    const unsigned kind = n % 4;
    struct hooked_disk d;
    uint64_t place;

    build (&d);
    place = d.b.size + where[n / 4] * CLUSTER;
    unit_context ("%s: %s, %u", __func__, kinds[kind].what, n / 4);
    if (place / CLUSTER < CLUSTER / 2)
      count_it (&d, place, 1);
    builder_set_entry (&d.b, 0, place | kinds[kind].flags, 0);
    serve (&d);
    check_failed (&d, hooked_disk_write (&d, 0, 'x'), QCOW2_ERR_TRUNCATED);
    if (kind != 1)
      check_failed (&d, hooked_disk_trim (&d, 0), QCOW2_ERR_TRUNCATED);
    CHECK (d.asked <= d.b.size + CLUSTER);
    CHECK (hooked_disk_write (&d, 1, 'w'));
    CHECK (hooked_disk_write (&d, 3 * SPAN, 'w'));
    CHECK (hooked_disk_flush (&d));
    hooked_disk_check (&d, 1, 'w');
    hooked_disk_check (&d, 3 * SPAN, 'w');
    hooked_disk_check (&d, 7, 'a' + 7);
    CHECK (d.asked <= d.b.size + MiB);
    finish (&d, false);
  }
}

static void
last_cluster_is_cut_short (void)
{
  struct hooked_disk d;
  uint64_t last;

  unit_context ("%s", __func__);
  build (&d);
  last = builder_alloc (&d.b, 1);
  count_it (&d, last, 1);
  builder_set_entry (&d.b, 0, last | HOOKED_COPIED, 0);
  d.b.size = last + 512;
  serve (&d);
  CHECK (hooked_disk_write (&d, 0, 'x'));
  hooked_disk_check (&d, 0, 'x');
  finish (&d, false);
}

/* Each cluster that refcounts of the file can tell of is in use: the file
 * grew to behind the last of them.
 */
static void
all_is_in_use_far_behind_the_end (void)
{
  const unsigned blocks = 200;  /* 1.6 GiB */
  struct hooked_disk d;
  uint64_t table, block;

  unit_context ("%s", __func__);
  build (&d);
  table = hooked_disk_get (&d, 48);
  block = builder_alloc (&d.b, blocks);
  memset (d.b.bytes + hooked_disk_get (&d, table), 0xff, CLUSTER);
  memset (d.b.bytes + block, 0xff, blocks * CLUSTER);
  for (unsigned i = 0; i < blocks; ++i)
    hooked_disk_put (&d, table + 8 + 8 * i, block + i * CLUSTER);
  serve (&d);
  check_failed (&d, hooked_disk_write (&d, 8, 'x'), QCOW2_ERR_TRUNCATED);
  CHECK (d.asked <= d.b.size + MiB);
  CHECK (hooked_disk_write (&d, 0, 'w'));
  finish (&d, false);
}

/* ---- Free clusters ------------------------------------------------------ */

/* It is not written to, and what gets the cluster next is not harmed. */
static void
entry_of_a_free_cluster (void)
{
  for (unsigned kind = 0; kind < 2; ++kind) {
    struct hooked_disk d;
    uint64_t place;

    unit_context ("%s: %u", __func__, kind);
    build (&d);
    place = builder_alloc (&d.b, 4);
    memset (d.b.bytes + place, 'o', 4 * CLUSTER);
    builder_set_entry (&d.b, 0, place | HOOKED_COPIED | kind, 0);
    serve (&d);
    check_failed (&d, hooked_disk_write (&d, 0, 'x'), QCOW2_ERR_CORRUPT);
    CHECK_EQ (d.err.offset, place);
    CHECK (d.err.advice == QCOW2_ADVICE_REPAIR);
    CHECK (d.host.bytes[place] == 'o');
    finish (&d, true);
  }
}

static int
grow_more (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  struct hooked_disk *const d = opaque;

  return d->inner.grow (opaque, (min_size + 65535) / 65536 * 65536, ret_size);
}

/* What an L2 table would be made of: entries that lead to the header. */
static bool
write_forged (struct hooked_disk *d, uint64_t guest_cluster)
{
  unsigned char buf[CLUSTER] = { 0 };

  for (unsigned i = 4; i < CLUSTER / 8; ++i)
    store_be64 (buf + 8 * i, COMPRESSED | (1 + i));
  return qcow2_pwrite (d->image, &d->host.io, buf, sizeof buf,
                       guest_cluster * CLUSTER, false, &d->err) == 0;
}

static void
check_not_forged (struct hooked_disk *d, uint64_t guest_cluster)
{
  for (unsigned i = 4; i < SPAN; i += 100)
    hooked_disk_check (d, guest_cluster + i, 0);
}

/* Behind the end of the file, which grew, a client wrote a table, and then
 * made the filter take the cluster for one: as it was behind the end of the
 * file it counted as zeros.
 */
static void
table_is_written_before_it_is_one (void)
{
  struct hooked_disk d;

  unit_context ("%s", __func__);
  build (&d);
  builder_set_entry (&d.b, 0, (d.b.size + CLUSTER) | HOOKED_COPIED, 0);
  serve (&d);
  d.host.ops.grow = grow_more;
  CHECK (hooked_disk_write (&d, 8, 'w'));
  write_forged (&d, 0);
  hooked_disk_write (&d, SPAN, 'w');
  write_forged (&d, 0);
  check_not_forged (&d, SPAN);
  hooked_disk_free (&d);
}

/* ---- A slow write ------------------------------------------------------- */

static struct {
  uint64_t host_off;            /* of the write that is stopped */
  atomic_bool stopped, go;
  atomic_bool reader_in, reader_go, made;
  uint64_t read_off;
} slow;

static void
stop_write (struct hooked_disk *d, uint32_t count, uint64_t host_off,
            enum qcow2_io_class io_class)
{
  (void) d;
  (void) count;
  (void) io_class;
  if (host_off != slow.host_off || atomic_exchange (&slow.stopped, true))
    return;
  WAIT_UNTIL (slow.go);
}

static void
stop_read (struct hooked_disk *d, uint32_t count, uint64_t host_off,
           enum qcow2_io_class io_class)
{
  (void) d;
  (void) count;
  (void) io_class;
  if (host_off != slow.read_off || atomic_exchange (&slow.reader_in, true))
    return;
  WAIT_UNTIL (slow.reader_go);
}

static void
slow_writer (void *arg, unsigned nr)
{
  (void) nr;
  write_forged (arg, 1);
}

static void
slow_reader (void *arg, unsigned nr)
{
  struct hooked_disk *const d = arg;
  struct qcow2_error err;
  char c;

  (void) nr;
  CHECK_EQ (qcow2_pread (d->image, &d->host.io, &c, 1, 5 * CLUSTER, &err), 0);
}

static void
table_maker (void *arg, unsigned nr)
{
  struct hooked_disk *const d = arg;
  struct qcow2_error err;

  (void) nr;
  CHECK_EQ (qcow2_pwrite (d->image, &d->host.io, "w", 1, SPAN * CLUSTER,
                          false, &err), 0);
  slow.made = true;
}

/* Two entries have one cluster, which counts once.  It is let go for the one
 * while a write through the other is still on its way, and becomes a table:
 * the write landed there.  A reader that was there before keeps the first
 * release from being done at once, so that the writer gets in between.
 */
static void
table_is_made_while_a_write_is_slow (void)
{
  struct threads writer, reader, maker;
  struct hooked_disk d;
  uint64_t entry, other, bitmap;

  unit_context ("%s", __func__);
  build (&d);
  builder_get_entry (&d.b, 0, &entry, &bitmap);
  builder_set_entry (&d.b, 1, entry, bitmap);
  builder_get_entry (&d.b, 5, &other, &bitmap);
  /* A file that can grow has other space for a table. */
  hooked_disk_serve (&d, &(struct host_spec) {
      .capacity = d.b.size, .grows = true });
  hooked_disk_open (&d);
  CHECK (hooked_disk_write (&d, 7, 'w'));
  slow.host_off = entry & HOOKED_OFFSET;
  slow.read_off = (other & HOOKED_OFFSET);
  d.before_write = stop_write;
  d.after_read = stop_read;
  threads_start (&reader, 1, slow_reader, &d);
  WAIT_UNTIL (slow.reader_in);
  CHECK (hooked_disk_trim (&d, 0));
  CHECK (hooked_disk_trim (&d, 6));
  CHECK (hooked_disk_flush (&d));
  threads_start (&writer, 1, slow_writer, &d);
  WAIT_UNTIL (slow.stopped);
  slow.reader_go = true;
  threads_join (&reader);
  CHECK (hooked_disk_write (&d, 7, 'v'));
  CHECK (hooked_disk_flush (&d));
  CHECK_EQ (hooked_disk_trims_of (&d, slow.host_off), 1);
  threads_start (&maker, 1, table_maker, &d);
  for (unsigned i = 0; i < 300 && !slow.made; ++i)
    sleep_ms (1);
  /* Else a commit would write the table over what lands on it. */
  hooked_disk_flush (&d);
  slow.go = true;
  threads_join (&writer);
  threads_join (&maker);
  hooked_disk_flush (&d);
  CHECK_EQ (hooked_disk_get (&d, d.b.l1_off + 8) & HOOKED_OFFSET,
            slow.host_off);
  /* In the file, whatever is in the cache. */
  for (unsigned i = 4; i < SPAN; ++i)
    CHECK_EQ (hooked_disk_get (&d, slow.host_off + 8 * i), 0);
  check_not_forged (&d, SPAN);
  hooked_disk_free (&d);
}

/* ---- Metadata that has to be looked for --------------------------------- */

enum place {
  SNAPSHOT_L2, SHARED_L2, DIRECTORY, TABLE, BITS, NR_PLACES
};

/* With a snapshot, whose tables the disk does not share, and a bitmap; guest
 * cluster 0 is said to be somewhere there.
 */
static void
build_inside (struct hooked_disk *d, enum place place)
{
  static const struct image_spec spec = {
    .version = 3, .cluster_bits = 12, .refcount_order = 4,
    .virtual_size = 4 * SPAN * CLUSTER,
  };
  unsigned char bits[2 * CLUSTER] = { 1 }, cluster[CLUSTER];
  struct inside_snapshot s = { .disk_size = spec.virtual_size };
  struct inside_bitmap b = {
    .name = "b", .granularity_bits = 9, .flags = 2, .bits = bits,
    .nr_bits = spec.virtual_size >> 9,
  };
  struct inside in = { .nr_bitmaps = 0 };
  uint64_t places[NR_PLACES], extension;

  memset (d, 0, sizeof *d);
  memset (cluster, 'c', sizeof cluster);
  builder_init (&d->b, &spec);
  builder_data (&d->b, 1, cluster);
  places[SNAPSHOT_L2] = builder_entry_off (&d->b, 0);
  inside_snapshot (&in, &d->b, &s);
  builder_data (&d->b, 1, cluster);
  builder_data (&d->b, SPAN, cluster);
  places[SHARED_L2] = builder_entry_off (&d->b, SPAN);
  inside_bitmap (&in, &d->b, &b);
  inside_finish (&in, &d->b);
  builder_finish (&d->b);
  extension = 112 + 8;
  places[DIRECTORY] = hooked_disk_get (d, extension + 16);
  places[TABLE] = in.bitmap[0].table_off;
  places[BITS] =
    load_be64 (d->b.bytes + places[TABLE]) & HOOKED_OFFSET;
  if (place == SHARED_L2)
    hooked_disk_put (d, d->b.l1_off + 8, places[SHARED_L2]);
  REQUIRE (places[place] != 0 && places[place] % CLUSTER == 0);
  builder_set_entry (&d->b, 0, places[place] | HOOKED_COPIED, 0);
}

/* The client's bytes landed on them. */
static void
entries_that_point_at_what_is_inside (void)
{
  for (unsigned place = 0; place < NR_PLACES; ++place)
    for (unsigned trim = 0; trim < 2; ++trim) {
      struct hooked_disk d;
      uint64_t entry, bitmap;

      unit_context ("%s: place %u, %s", __func__, place,
                    trim ? "trim" : "write");
      build_inside (&d, (enum place) place);
      builder_get_entry (&d.b, 0, &entry, &bitmap);
      entry &= HOOKED_OFFSET;
      serve (&d);
      check_failed (&d, trim ? hooked_disk_trim (&d, 0)
                    : hooked_disk_write (&d, 0, 'x'), QCOW2_ERR_CORRUPT);
      hooked_disk_flush (&d);
      /* But for the bitmap's flags. */
      CHECK_BYTES (d.host.bytes + entry + 16, d.b.bytes + entry + 16,
                   CLUSTER - 16);
      CHECK_EQ (hooked_disk_trims_of (&d, entry), 0);
      finish (&d, true);
    }
}

/* A sound image of that kind is written to as any other, and its shared
 * tables are let go.
 */
static void
sound_image (void)
{
  struct hooked_disk d;
  uint64_t shared;

  unit_context ("%s", __func__);
  build_inside (&d, SHARED_L2);
  shared = hooked_disk_get (&d, d.b.l1_off + 8);
  builder_set_entry (&d.b, 0, 0, 0);
  serve (&d);
  CHECK (hooked_disk_write (&d, SPAN, 'w'));
  CHECK (hooked_disk_write (&d, 0, 'w'));
  CHECK (hooked_disk_flush (&d));
  CHECK_EQ (hooked_disk_trims_of (&d, shared), 1);
  for (unsigned i = 2; i < 300; ++i)
    CHECK (hooked_disk_write (&d, i, 'w'));
  CHECK (hooked_disk_flush (&d));
  hooked_disk_check (&d, SPAN, 'w');
  hooked_disk_check (&d, 0, 'w');
  finish (&d, false);
}

/* The directory is said to be where an L2 table is, whose entries look like a
 * bitmap: marking it as in use changed an entry.
 */
static void
bitmap_directory_is_a_table (void)
{
  for (unsigned whose = 0; whose < 2; ++whose) {
    struct hooked_disk d;
    uint64_t table, dir;

    unit_context ("%s: %u", __func__, whose);
    build_inside (&d, DIRECTORY);
    table = builder_entry_off (&d.b, 0);
    if (whose == 1)             /* the snapshot's: its first L1 entry */
      table = hooked_disk_get (&d, hooked_disk_get (
        &d, hooked_disk_get (&d, 64))) & HOOKED_OFFSET;
    dir = hooked_disk_get (&d, 112 + 8 + 16);
    memcpy (d.b.bytes + table, d.b.bytes + dir, 32);
    hooked_disk_put (&d, 112 + 8 + 16, table);
    serve (&d);
    check_failed (&d, hooked_disk_write (&d, 9, 'x'), QCOW2_ERR_CORRUPT);
    CHECK_BYTES (d.host.bytes + table, d.b.bytes + table, CLUSTER);
    CHECK_EQ (d.host.nr[HOST_WRITE], 0);
    finish (&d, false);
  }
}

int
main (void)
{
  static void (*const tests[]) (void) = {
    entries_behind_the_end,
    last_cluster_is_cut_short,
    all_is_in_use_far_behind_the_end,
    entry_of_a_free_cluster,
    table_is_written_before_it_is_one,
    table_is_made_while_a_write_is_slow,
    entries_that_point_at_what_is_inside,
    sound_image,
    bitmap_directory_is_a_table,
  };

  threads_watchdog ();
  for (size_t i = 0; i < sizeof tests / sizeof tests[0]; ++i)
    tests[i] ();
  return unit_finish ();
}
