/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-hostile.c - hostile images that are written to.
 *
 * Owns      one function for each corruption that has made the server hang,
 *           abort, or destroy metadata; its comment says which.
 * Method    a sound image gets one or two wrong fields.  The request that
 *           meets them must fail as CORRUPT; metadata must not be trimmed or
 *           overwritten, the file must not grow, sound parts can still be
 *           read, and the image can be closed.
 */
#include "config.h"

#include "hooked_disk.h"

#include "base/be.h"

#include <errno.h>
#include <unistd.h>

#define MiB (UINT64_C (1) << 20)
#define CLUSTER UINT64_C (4096)
#define SPAN UINT64_C (512)     /* guest clusters of one L2 table */
#define CORRUPT_BIT 2u

/* Nobody gets that far unless something does not end. */
#define WATCHDOG_SECONDS 60

/* Where things are: as built, whatever has become of the file. */
static uint64_t
l2_table (const struct hooked_disk *d)
{
  return load_be64 (d->b.bytes + d->b.l1_off) & HOOKED_OFFSET;
}

static uint64_t
refcount_table (const struct hooked_disk *d)
{
  return load_be64 (d->b.bytes + 48);
}

static uint64_t
refcount_block (const struct hooked_disk *d)
{
  return load_be64 (d->b.bytes + refcount_table (d));
}

/* Four L1 entries, one with a table; guest clusters 0 to 7 have data. */
static void
build (struct hooked_disk *d)
{
  hooked_disk_build (d, 12, 4, 4 * SPAN * CLUSTER, 8);
}

/* With room to grow, so that a file that must not grow could. */
static void
serve (struct hooked_disk *d)
{
  hooked_disk_serve (d, &(struct host_spec) {
      .capacity = 16 * MiB, .grows = true });
  hooked_disk_open (d);
}

static void
check_corrupt (struct hooked_disk *d, bool ok)
{
  if (CHECK (!ok))
    CHECK_EQ (d->err.kind, QCOW2_ERR_CORRUPT);
}

static void
check_metadata (struct hooked_disk *d, uint64_t size)
{
  const uint64_t places[] = {
    0, d->b.l1_off, l2_table (d), refcount_table (d), refcount_block (d),
  };

  for (size_t i = 0; i < sizeof places / sizeof places[0]; ++i)
    CHECK_EQ (hooked_disk_trims_of (d, places[i]), 0);
  /* But for the feature bits. */
  CHECK_BYTES (d->host.bytes, d->b.bytes, 72);
  CHECK_BYTES (d->host.bytes + 96, d->b.bytes + 96, CLUSTER - 96);
  CHECK_BYTES (d->host.bytes + d->b.l1_off, d->b.bytes + d->b.l1_off, CLUSTER);
  CHECK_BYTES (d->host.bytes + refcount_table (d),
               d->b.bytes + refcount_table (d), CLUSTER);
  CHECK (d->host.size <= size + MiB);
  CHECK (d->asked <= size + MiB);
}

/* What the lie has left: cluster 7 is sound.  'prepared': the image had been
 * prepared for writing, so it has been marked.
 */
static void
finish (struct hooked_disk *d, bool prepared)
{
  const uint64_t features = hooked_disk_get (d, 72);

  CHECK_EQ (features & CORRUPT_BIT, prepared ? CORRUPT_BIT : 0);
  hooked_disk_check (d, 7, 'a' + 7);
  check_corrupt (d, hooked_disk_write (d, 7, 'x'));
  check_corrupt (d, hooked_disk_write (d, 9, 'x'));
  hooked_disk_check (d, 7, 'a' + 7);
  if (prepared) {
    CHECK_EQ (qcow2_end (d->image, &d->host.io, &d->err), -1);
    CHECK_EQ (d->err.kind, QCOW2_ERR_CORRUPT);
  }
  else
    CHECK_EQ (qcow2_end (d->image, &d->host.io, &d->err), 0);
  hooked_disk_free (d);
}

/* ---- Tables ------------------------------------------------------------- */

/* Its entries read as zeros and never entered the cache, so linking one was
 * tried again for ever, with a flush of the host each time.
 */
static void
owned_l2_table_behind_the_end (void)
{
  static const uint64_t places[] = { 8 * MiB, UINT64_C (1) << 32 };

  for (unsigned i = 0; i < 2; ++i) {
    struct hooked_disk d;

    unit_context ("%s: %u", __func__, i);
    build (&d);
    hooked_disk_put (&d, d.b.l1_off + 8, places[i] | HOOKED_COPIED);
    serve (&d);
    check_corrupt (&d, hooked_disk_write (&d, SPAN, 'x'));
    CHECK_EQ (d.host.nr[HOST_FLUSH], 0);
    check_metadata (&d, d.b.size);
    finish (&d, false);
  }
}

/* The table was copied for the one entry and released while slices of it
 * were dirty for the other, which an assertion did not expect.
 */
static void
two_l1_entries_one_table (void)
{
  for (unsigned copied = 0; copied < 2; ++copied) {
    struct hooked_disk d;
    uint64_t table;

    unit_context ("%s: %s", __func__, copied ? "both COPIED" : "one COPIED");
    build (&d);
    table = l2_table (&d);
    hooked_disk_put (&d, d.b.l1_off + 8,
                     copied ? table | HOOKED_COPIED : table);
    serve (&d);
    for (unsigned i = 0; i < 4; ++i)
      check_corrupt (&d, hooked_disk_write (&d, SPAN + 8 + i, 'x'));
    hooked_disk_flush (&d);
    for (unsigned i = 0; i < 4; ++i)
      check_corrupt (&d, hooked_disk_write (&d, (2 + i % 2) * SPAN + i, 'x'));
    check_metadata (&d, d.b.size);
    finish (&d, false);
  }
}

/* Without COPIED the table counts as a snapshot's: it was copied, taken out
 * of what is known to be metadata, released and trimmed.
 */
static void
shared_l2_table_is_the_refcount_table (void)
{
  struct hooked_disk d;

  unit_context ("%s", __func__);
  build (&d);
  hooked_disk_put (&d, d.b.l1_off + 8, refcount_table (&d));
  serve (&d);
  check_corrupt (&d, hooked_disk_write (&d, SPAN + 8, 'x'));
  hooked_disk_flush (&d);
  check_metadata (&d, d.b.size);
  finish (&d, false);
}

/* ---- Entries that point at metadata ------------------------------------- */

/* All of cluster 0. */
static bool
request (struct hooked_disk *d, unsigned kind)
{
  switch (kind) {
  case 0:
    return hooked_disk_trim (d, 0);
  case 1:
    return qcow2_zero (d->image, &d->host.io, CLUSTER, 0,
                       QCOW2_ZERO_MAY_TRIM, &d->err) == 0;
  default:
    return hooked_disk_write (d, 0, 'x');
  }
}

/* Letting go of such a cluster released and trimmed the metadata, and all
 * requests succeeded.
 */
static void
entries_that_point_at_metadata (void)
{
  for (unsigned place = 0; place < 6; ++place)
    for (unsigned kind = 0; kind < 3; ++kind) {
      const uint64_t compressed = UINT64_C (1) << 62;
      struct hooked_disk d;

      unit_context ("%s: place %u, request %u", __func__, place, kind);
      build (&d);
      {
        const uint64_t entries[] = {
          compressed | 512,     /* of the header's cluster */
          /* From there into the next. */
          compressed | UINT64_C (8) << (70 - 12) | 3584,
          d.b.l1_off | HOOKED_COPIED,
          l2_table (&d) | HOOKED_COPIED,
          refcount_table (&d) | HOOKED_COPIED,
          refcount_block (&d) | HOOKED_COPIED,
        };

        builder_set_entry (&d.b, 0, entries[place], 0);
      }
      serve (&d);
      check_corrupt (&d, request (&d, kind));
      hooked_disk_flush (&d);
      hooked_disk_flush (&d);
      CHECK_EQ (d.nr_trims, 0);
      check_metadata (&d, d.b.size);
      CHECK_BYTES (d.host.bytes + l2_table (&d), d.b.bytes + l2_table (&d),
                   CLUSTER);
      CHECK_BYTES (d.host.bytes + refcount_block (&d),
                   d.b.bytes + refcount_block (&d), CLUSTER);
      finish (&d, true);
    }
}

/* ---- Refcounts ---------------------------------------------------------- */

/* One full block, used for all of 2^50 bytes: the search for space went
 * through them cluster by cluster.
 */
static void
all_refcounts_are_one_block (void)
{
  struct hooked_disk d;
  uint64_t block;

  unit_context ("%s", __func__);
  hooked_disk_build (&d, 12, 0, 4 * SPAN * CLUSTER, 8);
  block = refcount_block (&d);
  memset (d.b.bytes + block, 0xff, CLUSTER);
  for (unsigned i = 0; i < CLUSTER / 8; ++i)
    hooked_disk_put (&d, refcount_table (&d) + 8 * i, block);
  serve (&d);
  check_corrupt (&d, hooked_disk_write (&d, 8, 'x'));
  check_metadata (&d, d.b.size);
  finish (&d, false);
}

static void
refcount_block_behind_the_end (void)
{
  struct hooked_disk d;

  unit_context ("%s", __func__);
  build (&d);
  hooked_disk_put (&d, refcount_table (&d) + 8, 8 * MiB);
  serve (&d);
  check_corrupt (&d, hooked_disk_write (&d, 8, 'x'));
  check_metadata (&d, d.b.size);
  finish (&d, false);
}

/* ---- Far away ----------------------------------------------------------- */

/* Writing in place made the file grow to wherever the entry said, and the
 * end of the image looked at each cluster of it.
 */
static void
entry_far_behind_the_end (void)
{
  static const uint64_t places[] = { 12 * MiB, UINT64_C (1) << 39 };

  for (unsigned i = 0; i < 2; ++i) {
    struct hooked_disk d;

    unit_context ("%s: %u", __func__, i);
    build (&d);
    builder_set_entry (&d.b, 0, places[i] | HOOKED_COPIED, 0);
    serve (&d);
    CHECK (!hooked_disk_write (&d, 0, 'x'));
    CHECK_EQ (d.err.kind, QCOW2_ERR_TRUNCATED);
    check_metadata (&d, d.b.size);
    CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
    CHECK_EQ (hooked_disk_get (&d, 72) & CORRUPT_BIT, 0);
    hooked_disk_free (&d);
  }
}

#define FAR (UINT64_C (1) << 44)

/* Much more than was asked for; nothing is stored there. */
static int
grow_far (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  struct hooked_disk *const d = opaque;

  CHECK (min_size <= d->host.spec.capacity);
  d->host.size = *ret_size = FAR;
  return 0;
}

static int
cut_far (void *opaque, uint64_t size)
{
  struct hooked_disk *const d = opaque;

  CHECK (size <= d->host.spec.capacity);
  d->host.size = size;
  return 0;
}

/* For whatever reason a file is that long: looking for the last cluster in
 * use is no walk over all that have no refcounts.
 */
static void
end_of_a_very_long_file (void)
{
  struct hooked_disk d;

  unit_context ("%s", __func__);
  build (&d);
  serve (&d);
  d.host.ops.grow = grow_far;
  d.host.ops.cut = cut_far;
  CHECK (hooked_disk_write (&d, 8, 'w'));
  CHECK_EQ (d.host.size, FAR);
  hooked_disk_check (&d, 8, 'w');
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  CHECK (d.host.size <= d.b.size + MiB);
  hooked_disk_free (&d);
}

/* ---- Shared clusters ---------------------------------------------------- */

/* Entries 0 and 1 both have what only one reference is counted for. */
static uint64_t
build_shared (struct hooked_disk *d)
{
  uint64_t entry, bitmap;

  build (d);
  builder_get_entry (&d->b, 0, &entry, &bitmap);
  builder_set_entry (&d->b, 1, entry, bitmap);
  return entry & HOOKED_OFFSET;
}

static void
shared_cluster_is_let_go_twice (void)
{
  struct hooked_disk d;
  uint64_t shared;

  unit_context ("%s", __func__);
  shared = build_shared (&d);
  serve (&d);
  CHECK (hooked_disk_trim (&d, 0));
  CHECK (hooked_disk_flush (&d));
  CHECK_EQ (hooked_disk_trims_of (&d, shared), 1);
  CHECK (hooked_disk_trim (&d, 1));
  hooked_disk_flush (&d);
  CHECK_EQ (hooked_disk_trims_of (&d, shared), 1);
  check_metadata (&d, d.b.size);
  finish (&d, true);
}

/* In between it has become an L2 table: the second release trimmed that, and
 * handed it out once more.
 */
static void
shared_cluster_has_become_a_table (void)
{
  struct hooked_disk d;
  uint64_t shared;

  unit_context ("%s", __func__);
  shared = build_shared (&d);
  serve (&d);
  CHECK (hooked_disk_trim (&d, 0));
  CHECK (hooked_disk_flush (&d));
  CHECK (hooked_disk_trim (&d, 1));
  CHECK (hooked_disk_write (&d, SPAN, 'w'));
  hooked_disk_flush (&d);
  /* Else this tests something else. */
  CHECK_EQ (hooked_disk_get (&d, d.b.l1_off + 8), shared | HOOKED_COPIED);
  CHECK_EQ (hooked_disk_trims_of (&d, shared), 1);
  qcow2_idle (d.image);
  hooked_disk_check (&d, SPAN, 'w');
  finish (&d, true);
}

/* It is found when the last commit lets go of the second one: then the image
 * has not ended well.
 */
static void
shared_cluster_is_found_at_the_end (void)
{
  struct hooked_disk d;
  uint64_t shared;

  unit_context ("%s", __func__);
  shared = build_shared (&d);
  serve (&d);
  CHECK (hooked_disk_trim (&d, 0));
  CHECK (hooked_disk_flush (&d));
  CHECK (hooked_disk_trim (&d, 1));
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), -1);
  CHECK_EQ (d.err.kind, QCOW2_ERR_CORRUPT);
  CHECK_EQ (hooked_disk_trims_of (&d, shared), 1);
  check_metadata (&d, d.b.size);
  finish (&d, true);
}

/* ---- Bytes of the disk that are lost --------------------------------- */

/* A stream that makes no sense, or a build without the library for it: a
 * request fails that needs the bytes.  The image is sound, so it is not marked
 * as corrupt, other requests go on, and to write the whole cluster helps.
 */
static void
stream_that_cannot_be_decompressed (void)
{
  struct hooked_disk d;
  uint64_t entry;
  char byte = 'x';

  unit_context ("%s", __func__);
  build (&d);
  entry = l2_table (&d) + 6 * 8;
  /* One sector, of bytes that no deflate stream begins with. */
  hooked_disk_put (&d, entry, UINT64_C (1) << 62 |
                   (hooked_disk_get (&d, entry) & HOOKED_OFFSET));
  serve (&d);
  CHECK (hooked_disk_write (&d, 9, 'y'));
  for (unsigned i = 0; i < 2; ++i) {
    CHECK_EQ (qcow2_pwrite (d.image, &d.host.io, &byte, 1, 6 * CLUSTER + 5,
                            false, &d.err), -1);
    CHECK_EQ (d.err.kind, qcow2_has_zlib () ? QCOW2_ERR_IO
              : QCOW2_ERR_UNSUPPORTED);
    CHECK_EQ (d.err.errnum, qcow2_has_zlib () ? EIO : ENOTSUP);
  }
  CHECK (hooked_disk_write (&d, 7, 'z'));
  CHECK (hooked_disk_write (&d, 6, 'w'));
  CHECK (hooked_disk_flush (&d));
  CHECK_EQ (hooked_disk_get (&d, 72) & CORRUPT_BIT, 0);
  CHECK_EQ (qcow2_pwrite (d.image, &d.host.io, &byte, 1, 6 * CLUSTER + 5,
                          false, &d.err), 0);
  hooked_disk_check (&d, 7, 'z');
  hooked_disk_check (&d, 9, 'y');
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  CHECK_EQ (hooked_disk_get (&d, 72) & CORRUPT_BIT, 0);
  hooked_disk_free (&d);
}

int
main (void)
{
  static void (*const tests[]) (void) = {
    owned_l2_table_behind_the_end,
    two_l1_entries_one_table,
    shared_l2_table_is_the_refcount_table,
    entries_that_point_at_metadata,
    all_refcounts_are_one_block,
    refcount_block_behind_the_end,
    entry_far_behind_the_end,
    end_of_a_very_long_file,
    shared_cluster_is_let_go_twice,
    shared_cluster_has_become_a_table,
    shared_cluster_is_found_at_the_end,
    stream_that_cannot_be_decompressed,
  };

  alarm (WATCHDOG_SECONDS);
  for (size_t i = 0; i < sizeof tests / sizeof tests[0]; ++i)
    tests[i] ();
  return unit_finish ();
}
