/* SPDX-License-Identifier: BSD-3-Clause */
/* test-live-unread.c - an image that is in use is checked, and the host cannot
 * read some of it.
 *
 * Owns      that such a check goes on as that of an image which nobody uses:
 *           what cannot be read is told once, the rest is checked, and nothing
 *           is repaired.
 * Method    small clusters make many refcount blocks and L2 tables.  Each of
 *           them in turn cannot be read.
 */
#include "config.h"

#include "hooked_disk.h"

#include "base/be.h"
#include "base/bits.h"

#include <inttypes.h>
#include <string.h>

#define KiB (UINT64_C (1) << 10)
#define CLUSTER UINT64_C (1024)
#define COUNTED (128 * CLUSTER) /* bytes of the file that a block counts */
#define PER_TABLE (CLUSTER / 8)
#define NR 6000                 /* guest clusters with data */
#define DISK (8192 * CLUSTER)
#define LITTLE_MEMORY (9 * KiB)        /* enough for a part of the image */

struct found {
  uint64_t errors, leaks, others;
  uint64_t host_off;            /* of the last error, or leak */
  enum qcow2_finding_kind kind; /* of the last error */
};

static void
note (void *opaque, const struct qcow2_finding *f)
{
  struct found *const found = opaque;

  if (f->severity == QCOW2_FINDING_ERROR) {
    found->errors++;
    found->kind = f->kind;
    found->host_off = f->host_off;
  }
  else if (f->severity == QCOW2_FINDING_LEAK)
    found->leaks++;
  else
    found->others++;
}

static void
serve (struct hooked_disk *d)
{
  hooked_disk_serve (d, &(struct host_spec) {
      .capacity = 16384 * KiB, .grows = true });
}

/* With a leak, of the refcount table, near the end of the file. */
static void
build (struct hooked_disk *d)
{
  hooked_disk_build_apart (d, 10, 6, DISK, NR);
  hooked_disk_put (d, hooked_disk_refcount_off (d, hooked_disk_get (d, 48)),
                   2);
  serve (d);
}

static int
run (struct hooked_disk *d, bool repair, uint64_t memory,
     struct found *found, struct qcow2_check_result *ret)
{
  const struct qcow2_check_options options = {
    .repair = repair ? QCOW2_REPAIR_LEAKS : QCOW2_REPAIR_NONE,
    .memory = memory, .finding = note, .opaque = found,
  };

  *found = (struct found) { 0 };
  return qcow2_check_live (d->image, &d->host.io, &options, ret, &d->err);
}

static void
set_bad (struct hooked_disk *d, uint64_t start, uint64_t end)
{
  d->host.bad_start = start;
  d->host.bad_end = end;
}

/* Nothing but what the image had before is wrong with it. */
static void
check_end (struct hooked_disk *d)
{
  struct qcow2_check_result r;
  struct found found;

  set_bad (d, 0, 0);
  if (CHECK_EQ (run (d, false, 0, &found, &r), 0)) {
    CHECK_EQ (r.leaks, 1);
    CHECK_EQ (r.corruptions + r.check_errors, 0);
    CHECK (!r.refcounts_unusable && !r.incomplete);
  }
}

/* ---- Refcount blocks ---------------------------------------------------- */

static void
check_block (uint64_t counted, bool repair, bool parts)
{
  struct qcow2_check_result r;
  struct hooked_disk d;
  struct found found;
  uint64_t block, table;

  unit_context ("block 0x%" PRIx64 ", %u, %u", counted, repair, parts);
  build (&d);
  table = hooked_disk_get (&d, 48);
  block = hooked_disk_block_off (&d, counted);
  hooked_disk_open (&d);
  set_bad (&d, block, block + 1);
  if (CHECK_EQ (run (&d, repair, parts ? LITTLE_MEMORY : 0, &found, &r), 0)) {
    CHECK_EQ (found.errors, 1);
    CHECK_EQ (r.check_errors, 1);
    CHECK_EQ (found.host_off, block);
    CHECK_EQ (found.kind, QCOW2_FINDING_REFCOUNT_BLOCK);
    CHECK (r.refcounts_unusable && !r.incomplete);
    CHECK_EQ (r.leaks, table / COUNTED != counted / COUNTED);
    CHECK_EQ (r.leaks_fixed + r.corruptions + r.undecided, 0);
    CHECK (!parts || r.windows > 1);
  }
  else
    fprintf (stderr, "%s\n", d.err.text);
  check_end (&d);
  hooked_disk_free (&d);
}

/* With refcounts of one bit a block counts more than a part of a check has room
 * for: it is told once nevertheless.
 */
static void
a_block_of_several_parts (void)
{
  struct qcow2_check_result r;
  struct hooked_disk d;
  struct found found;
  uint64_t block;

  unit_context ("%s", __func__);
  hooked_disk_build_apart (&d, 10, 0, DISK, NR);
  serve (&d);
  hooked_disk_open (&d);
  block = hooked_disk_get (&d, hooked_disk_get (&d, 48));
  set_bad (&d, block, block + CLUSTER);
  if (CHECK_EQ (run (&d, true, LITTLE_MEMORY, &found, &r), 0)) {
    CHECK (r.windows > 1);
    CHECK_EQ (found.errors, 1);
    CHECK_EQ (r.check_errors, 1);
    CHECK_EQ (r.leaks + r.corruptions, 0);
    CHECK (r.refcounts_unusable);
  }
  hooked_disk_free (&d);
}

/* ---- L2 tables ---------------------------------------------------------- */

static void
check_table (uint64_t guest, bool repair, bool parts)
{
  struct qcow2_check_result r;
  struct hooked_disk d;
  struct found found;
  uint64_t table;

  unit_context ("table of %" PRIu64 ", %u, %u", guest, repair, parts);
  build (&d);
  table = q2_align_down (builder_entry_off (&d.b, guest), CLUSTER);
  hooked_disk_open (&d);
  set_bad (&d, table, table + 1);
  if (CHECK_EQ (run (&d, repair, parts ? LITTLE_MEMORY : 0, &found, &r), 0)) {
    CHECK_EQ (found.errors, 1);
    CHECK_EQ (r.check_errors, 1);
    CHECK_EQ (found.host_off, table);
    CHECK (r.incomplete && !r.refcounts_unusable);
    CHECK_EQ (r.leaks_fixed + r.corruptions, 0);
    CHECK (!parts || r.windows > 1);
  }
  else
    fprintf (stderr, "%s\n", d.err.text);
  check_end (&d);
  hooked_disk_free (&d);
}

/* ---- Both --------------------------------------------------------------- */

/* The cluster of an entry is a table, too, and its refcount cannot be read: the
 * overlap is told nevertheless.
 */
static void
an_overlap (void)
{
  struct qcow2_check_result r;
  struct hooked_disk d;
  struct found found;
  uint64_t entry, table, block;

  unit_context ("%s", __func__);
  hooked_disk_build_apart (&d, 10, 6, DISK, NR);
  table = q2_align_down (builder_entry_off (&d.b, 500), CLUSTER);
  entry = builder_entry_off (&d.b, 3);
  hooked_disk_put (&d, entry, table | HOOKED_COPIED);
  serve (&d);
  hooked_disk_open (&d);
  block = hooked_disk_block_off (&d, table);
  set_bad (&d, block, block + 1);
  if (CHECK_EQ (run (&d, true, 0, &found, &r), 0)) {
    CHECK_EQ (found.errors, 1);
    CHECK_EQ (r.check_errors, 1);
    CHECK_EQ (r.corruptions, 1);
    CHECK (r.incomplete && r.refcounts_unusable);
    CHECK_EQ (r.leaks_fixed, 0);
  }
  else
    fprintf (stderr, "%s\n", d.err.text);
  hooked_disk_free (&d);
}

/* A client has let go of a cluster whose refcount cannot be read. */
static void
a_release (void)
{
  struct qcow2_check_result r;
  struct hooked_disk d;
  struct found found;
  uint64_t entry, block;

  unit_context ("%s", __func__);
  build (&d);
  entry = hooked_disk_get (&d, builder_entry_off (&d.b, 3000));
  block = hooked_disk_block_off (&d, entry & HOOKED_OFFSET);
  hooked_disk_open (&d);
  set_bad (&d, block, block + 1);
  CHECK (hooked_disk_trim (&d, 3000));
  for (unsigned n = 0; n < 2; ++n) {
    if (CHECK_EQ (run (&d, n, 0, &found, &r), 0)) {
      CHECK_EQ (found.errors, 1);
      CHECK_EQ (r.check_errors, 1);
      CHECK_EQ (found.host_off, block);
    }
    else
      fprintf (stderr, "%s\n", d.err.text);
  }
  set_bad (&d, 0, 0);
  if (!CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0))
      fprintf (stderr, "%s\n", d.err.text);
  hooked_disk_free (&d);
}

int
main (void)
{
  a_release ();
  for (unsigned n = 0; n < 4; ++n) {
    for (uint64_t at = 0; at < NR * CLUSTER; at += 7 * COUNTED)
      check_block (at, n & 1, n & 2);
    for (uint64_t guest = 0; guest < NR; guest += 7 * PER_TABLE)
      check_table (guest, n & 1, n & 2);
  }
  a_block_of_several_parts ();
  an_overlap ();
  return unit_finish ();
}
