/* SPDX-License-Identifier: BSD-3-Clause */
/* test-unread.c - images with a refcount block, or a refcount table, that the
 * host cannot read.
 *
 * Owns      what a check says of them, what each repair does, and that an
 *           image that was not closed is not written to.
 * Method    small clusters and wide refcounts make many blocks.  Reads of one
 *           of them fail, for good; what they would have brought is known
 *           here, so fsck.h can judge the file.
 */
#include "config.h"

#include "fsck.h"
#include "hooked_disk.h"
#include "threads.h"

#include "base/be.h"
#include "image/image.h"

#include <errno.h>

#define KiB (UINT64_C (1) << 10)
#define CLUSTER UINT64_C (1024)
#define COUNTED (128 * CLUSTER) /* bytes of the file that a block counts */
#define NR 6000                 /* guest clusters with data */
#define DISK (8192 * CLUSTER)
#define STEP (11 * COUNTED)
#define LITTLE_MEMORY (11 * KiB)        /* enough for a part of the image */
#define DIRTY 1u

struct found {
  uint64_t errors, others;
  uint64_t host_off;            /* of the last error */
  char text[QCOW2_FINDING_TEXT];
};

static void
note (void *opaque, const struct qcow2_finding *f)
{
  struct found *const found = opaque;

  if (f->severity != QCOW2_FINDING_ERROR) {
    found->others++;
    return;
  }
  found->errors++;
  found->host_off = f->host_off;
  snprintf (found->text, sizeof found->text, "%s", f->text);
}

/* ---- Images ------------------------------------------------------------- */

static void
build (struct hooked_disk *d)
{
  hooked_disk_build_apart (d, 10, 6, DISK, NR);
}

/* The block that counts the clusters there cannot be read. */
static uint64_t
serve (struct hooked_disk *d, uint64_t counted)
{
  const uint64_t block = hooked_disk_block_off (d, counted);

  hooked_disk_serve (d, &(struct host_spec) {
      .capacity = 16384 * KiB, .grows = true });
  d->host.bad_start = block;
  d->host.bad_end = block + CLUSTER;
  return block;
}

static bool
run (struct hooked_disk *d, enum qcow2_repair repair, uint64_t memory,
     struct found *found, struct qcow2_check_result *ret)
{
  const struct qcow2_options options = { .check = true, .writable = true };
  const struct qcow2_check_options how = {
    .repair = repair, .memory = memory, .finding = note, .opaque = found,
  };
  struct qcow2_image *image;
  int r = -1;

  *found = (struct found) { 0 };
  host_reopen (&d->host);
  image = qcow2_open (&d->host.io, &options, &d->err);
  if (image != NULL)
    r = qcow2_check (image, &d->host.io, &how, ret, &d->err);
  qcow2_close (image);
  if (CHECK (r == 0))
    return true;
  fprintf (stderr, "%s\n", d->err.text);
  return false;
}

static unsigned char *
copy (const struct hooked_disk *d)
{
  unsigned char *const bytes = malloc (d->host.size);

  REQUIRE (bytes != NULL);
  memcpy (bytes, d->host.bytes, d->host.size);
  return bytes;
}

/* The disk, with whatever cannot be read for its refcounts. */
static void
check_disk (struct hooked_disk *d)
{
  const struct qcow2_options options = { 0 };
  unsigned char disk[CLUSTER], wanted[CLUSTER];

  host_reopen (&d->host);
  d->image = qcow2_open (&d->host.io, &options, &d->err);
  if (!CHECK (d->image != NULL))
    return;
  for (unsigned i = 0; i < NR; ++i) {
    memset (wanted, 'a' + (int) i, sizeof wanted);
    CHECK (qcow2_pread (d->image, &d->host.io, disk, CLUSTER, i * CLUSTER,
                        &d->err) == 0);
    if (!CHECK_BYTES (disk, wanted, CLUSTER))
      break;
  }
  qcow2_close (d->image);
  d->image = NULL;
}

/* Nothing of the file has changed, which is freed. */
static void
check_unchanged (struct hooked_disk *d, unsigned char *before, uint64_t size)
{
  if (CHECK_EQ (d->host.size, size))
    CHECK_BYTES (d->host.bytes, before, size);
  free (before);
}

/* Where the refcount table is, not counted by any block that cannot be read.
 */
static uint64_t
last_table (struct hooked_disk *d)
{
  return hooked_disk_get (d, 48);
}

/* ---- Checks ------------------------------------------------------------- */

static void
check_says (struct hooked_disk *d, uint64_t block, uint64_t counted,
            const struct found *found)
{
  char text[100];

  (void) d;
  CHECK_EQ (found->errors, 1);
  CHECK_EQ (found->host_off, block);
  snprintf (text, sizeof text, "block at offset 0x%" PRIx64, block);
  CHECK (strstr (found->text, text) != NULL);
  snprintf (text, sizeof text, "from offset 0x%" PRIx64 " up to 0x%" PRIx64,
            counted, counted + COUNTED);
  CHECK (strstr (found->text, text) != NULL);
  CHECK (strstr (found->text, strerror (EIO)) != NULL);
}

/* One line about it, and all else is checked: a leak elsewhere is found. */
static void
a_check_goes_on (void)
{
  for (uint64_t at = 0; at < NR * CLUSTER; at += STEP)
    for (unsigned leak = 0; leak < 2; ++leak)
      for (unsigned parts = 0; parts < 2; ++parts) {
        struct qcow2_check_result r;
        struct hooked_disk d;
        struct found found;
        unsigned char *before;
        uint64_t block, size;

        unit_context ("%s: 0x%" PRIx64 ", %u, %u", __func__, at, leak, parts);
        build (&d);
        if (leak)               /* a table, which has no flag */
          hooked_disk_put (&d, hooked_disk_refcount_off (&d, last_table (&d)),
                           5);
        block = serve (&d, at);
        before = copy (&d);
        size = d.host.size;
        if (run (&d, QCOW2_REPAIR_NONE, parts ? LITTLE_MEMORY : 0, &found, &r)) {
          check_says (&d, block, at, &found);
          CHECK_EQ (r.check_errors, 1);
          CHECK_EQ (r.corruptions, 0);
          CHECK_EQ (r.leaks, leak);
          CHECK (r.refcounts_unusable && !r.incomplete && !r.rebuilt);
          CHECK_EQ (r.allocated_clusters, NR);
          CHECK (!parts || r.windows > 1);
        }
        check_unchanged (&d, before, size);
        hooked_disk_free (&d);
      }
}

/* ---- Repairs ------------------------------------------------------------ */

/* No part of the block was written to before the header named another table. */
static void
check_log (const struct host *h, uint64_t block)
{
  for (size_t i = 0; i < h->nr_log; ++i) {
    const struct host_op *const op = h->log[i];

    if (op->kind == HOST_WRITE && op->host_off < 512)
      return;
    CHECK (op->kind != HOST_WRITE || op->host_off >= block + CLUSTER ||
           op->host_off + op->len <= block);
  }
  CHECK (false);                /* it was never switched */
}

/* All refcounts are written anew, whatever is wrong with the others. */
static void
refcounts_are_written_anew (void)
{
  for (uint64_t at = 0; at < NR * CLUSTER; at += STEP)
    for (unsigned n = 0; n < 8; ++n) {
      const uint64_t place = at == 0 ? COUNTED : 0;
      const enum qcow2_repair repair =
        n & 1 ? QCOW2_REPAIR_ALL : QCOW2_REPAIR_REBUILD;
      struct qcow2_check_result r;
      struct hooked_disk d;
      struct found found;
      uint64_t block;

      unit_context ("%s: 0x%" PRIx64 ", %u", __func__, at, n);
      build (&d);
      if (n & 2) {
        hooked_disk_put (&d, hooked_disk_refcount_off (&d, place), 5);
        hooked_disk_put (&d, hooked_disk_refcount_off (&d, place + CLUSTER),
                         0);
        /* What the block said would not be believed either. */
        hooked_disk_put (&d, hooked_disk_refcount_off (&d, at + CLUSTER), 7);
      }
      block = serve (&d, at);
      host_record (&d.host);
      if (run (&d, repair, n & 4 ? LITTLE_MEMORY : 0, &found, &r)) {
        check_says (&d, block, at, &found);
        CHECK_EQ (r.check_errors + r.corruptions + r.leaks, 0);
        CHECK (r.rebuilt && !r.refcounts_unusable && !r.incomplete);
        check_log (&d.host, block);
      }
      fsck_check (d.host.bytes, d.host.size, false);
      check_disk (&d);
      hooked_disk_free (&d);
    }
}

/* With refcounts of one bit a block counts more than a part of a check has
 * room for: it is mentioned once nevertheless.
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
  block = serve (&d, 0);
  if (run (&d, QCOW2_REPAIR_NONE, LITTLE_MEMORY, &found, &r)) {
    CHECK (r.windows > 1);
    CHECK_EQ (r.check_errors, 1);
    CHECK_EQ (found.errors, 1);
    CHECK_EQ (found.host_off, block);
  }
  if (run (&d, QCOW2_REPAIR_ALL, LITTLE_MEMORY, &found, &r)) {
    CHECK (r.windows > 1 && r.rebuilt);
    CHECK_EQ (found.errors + found.others, 1);
    CHECK_EQ (r.check_errors + r.corruptions + r.leaks, 0);
  }
  fsck_check (d.host.bytes, d.host.size, false);
  check_disk (&d);
  hooked_disk_free (&d);
}

/* What has fewer users than its refcount keeps it: the block that cannot be
 * read may say why.
 */
static void
leaks_are_kept (void)
{
  struct qcow2_check_result r;
  struct hooked_disk d;
  struct found found;
  unsigned char *before;
  uint64_t size;

  unit_context ("%s", __func__);
  build (&d);
  hooked_disk_put (&d, hooked_disk_refcount_off (&d, 8 * CLUSTER), 5);
  serve (&d, COUNTED);
  before = copy (&d);
  size = d.host.size;
  if (run (&d, QCOW2_REPAIR_LEAKS, 0, &found, &r)) {
    CHECK_EQ (r.check_errors, 1);
    CHECK_EQ (r.leaks, 1);
    CHECK_EQ (r.leaks_fixed, 0);
  }
  check_unchanged (&d, before, size);
  hooked_disk_free (&d);
}

/* Something else cannot be read, so references are missing: nothing is done,
 * not even if that is asked for.
 */
static void
a_table_that_is_missing_too (void)
{
  for (unsigned repair = QCOW2_REPAIR_LEAKS; repair <= QCOW2_REPAIR_REBUILD;
       ++repair) {
    struct qcow2_check_result r;
    struct hooked_disk d;
    struct found found;
    unsigned char *before;
    uint64_t size, table;

    unit_context ("%s: %u", __func__, repair);
    build (&d);
    table = builder_entry_off (&d.b, 0);
    /* They lie next to each other. */
    memcpy (d.b.bytes + table + CLUSTER,
            d.b.bytes + hooked_disk_block_off (&d, 0),
            CLUSTER);
    hooked_disk_put (&d, hooked_disk_get (&d, 48), table + CLUSTER);
    serve (&d, 0);
    d.host.bad_start = table;
    before = copy (&d);
    size = d.host.size;
    if (run (&d, repair, 0, &found, &r)) {
      CHECK (r.check_errors >= 2);
      CHECK (r.refcounts_unusable && !r.rebuilt);
    }
    check_unchanged (&d, before, size);
    hooked_disk_free (&d);
  }
}

/* References are missing because an entry is misaligned.  Then only a rebuild
 * does something, and all that the block may have counted stays in use.
 */
static void
nothing_unknown_becomes_free (void)
{
  for (uint64_t at = 0; at < NR * CLUSTER; at += STEP)
    for (unsigned all = 0; all < 2; ++all) {
      struct qcow2_check_result r;
      struct hooked_disk d;
      struct found found;
      unsigned char *before;
      uint64_t entry, guest, lost, shared, size;

      unit_context ("%s: 0x%" PRIx64 ", %u", __func__, at, all);
      build (&d);
      /* Of a cluster that the block counts. */
      for (guest = at / CLUSTER; ; --guest) {
        entry = builder_entry_off (&d.b, guest);
        lost = hooked_disk_get (&d, entry) & HOOKED_OFFSET;
        if (lost / COUNTED == at / COUNTED)
          break;
      }
      hooked_disk_put (&d, entry, (lost + 512) | HOOKED_COPIED);
      /* Another one, which belongs to somebody else as well. */
      entry = builder_entry_off (&d.b, guest == 0 ? 1 : guest - 1);
      shared = hooked_disk_get (&d, entry) & HOOKED_OFFSET;
      hooked_disk_put (&d, entry, shared);
      serve (&d, at);
      before = copy (&d);
      size = d.host.size;
      if (run (&d, all ? QCOW2_REPAIR_ALL : QCOW2_REPAIR_REBUILD, 0, &found,
               &r))
        CHECK (r.incomplete && r.rebuilt == !all);
      if (all)
        check_unchanged (&d, before, size);
      else {
        free (before);
        for (uint64_t c = at; c < at + COUNTED && c < size; c += CLUSTER)
          CHECK (hooked_disk_get (&d, hooked_disk_refcount_off (&d, c)) >= 1);
        CHECK_EQ (hooked_disk_get (&d, hooked_disk_refcount_off (&d, lost)),
                  1);
        if (shared / COUNTED == at / COUNTED)
          CHECK_EQ (hooked_disk_get (&d,
                                     hooked_disk_refcount_off (&d, shared)),
                    2);
      }
      hooked_disk_free (&d);
    }
}

/* ---- The table ---------------------------------------------------------- */

/* Nothing is known of any refcount, so nothing is said about one. */
static void
a_table_that_cannot_be_read (void)
{
  for (unsigned n = 0; n < 8; ++n) {
    const enum qcow2_repair repair = n % 4;
    struct qcow2_check_result r;
    struct hooked_disk d;
    struct found found;
    unsigned char *before;
    uint64_t size;

    unit_context ("%s: %u", __func__, n);
    build (&d);
    hooked_disk_put (&d, hooked_disk_refcount_off (&d, 8 * CLUSTER), 5);
    hooked_disk_put (&d, hooked_disk_refcount_off (&d, 9 * CLUSTER), 0);
    serve (&d, 0);
    d.host.bad_start = last_table (&d);
    d.host.bad_end = d.host.bad_start + 1;
    before = copy (&d);
    size = d.host.size;
    host_record (&d.host);
    if (run (&d, repair, n < 4 ? 0 : LITTLE_MEMORY, &found, &r)) {
      CHECK_EQ (found.errors, 1);
      CHECK_EQ (found.others, 0);
      CHECK_EQ (found.host_off, d.host.bad_start);
      CHECK (n < 4 || r.windows > 1);
      CHECK_EQ (r.rebuilt, repair >= QCOW2_REPAIR_ALL);
      CHECK_EQ (r.check_errors, !r.rebuilt);
      CHECK_EQ (r.corruptions + r.leaks, 0);
    }
    if (repair < QCOW2_REPAIR_ALL) {
      CHECK_EQ (r.image_end, size);
      check_unchanged (&d, before, size);
    }
    else {
      /* Behind all that the old table may have named. */
      CHECK_BYTES (d.host.bytes, before, 48);
      CHECK_BYTES (d.host.bytes + 60, before + 60, size - 60);
      free (before);
      fsck_check (d.host.bytes, d.host.size, false);
      check_disk (&d);
    }
    hooked_disk_free (&d);
  }
}

/* There is no room behind the file. */
static void
a_table_of_a_device (void)
{
  const struct qcow2_options options = { .check = true, .writable = true };
  const struct qcow2_check_options how = { .repair = QCOW2_REPAIR_REBUILD };
  struct qcow2_check_result r;
  struct qcow2_image *image;
  struct hooked_disk d;
  unsigned char *before;

  unit_context ("%s", __func__);
  build (&d);
  hooked_disk_serve (&d, &(struct host_spec) { .capacity = 16384 * KiB });
  d.host.bad_start = last_table (&d);
  d.host.bad_end = d.host.bad_start + 1;
  before = copy (&d);
  host_reopen (&d.host);
  image = qcow2_open (&d.host.io, &options, &d.err);
  if (CHECK (image != NULL))
    CHECK (qcow2_check (image, &d.host.io, &how, &r, &d.err) == -1 &&
           d.err.kind == QCOW2_ERR_NO_SPACE);
  qcow2_close (image);
  check_unchanged (&d, before, 16384 * KiB);
  hooked_disk_free (&d);
}

/* ---- Images that were not closed ---------------------------------------- */

static void
an_image_that_was_not_closed (void)
{
  for (unsigned n = 0; n < 4; ++n) {
    const bool heals = n & 1, table = n & 2;
    struct qcow2_check_result r;
    struct hooked_disk d;
    struct found found;
    unsigned char *before;
    uint64_t block, size;
    char text[100];

    unit_context ("%s: %u", __func__, n);
    build (&d);
    hooked_disk_put (&d, 72, hooked_disk_get (&d, 72) | DIRTY);
    block = serve (&d, COUNTED);
    if (table) {
      block = d.host.bad_start = last_table (&d);
      d.host.bad_end = block + 1;
    }
    before = copy (&d);
    size = d.host.size;
    hooked_disk_open (&d);
    for (unsigned i = 0; i < 2; ++i) {
      CHECK (!hooked_disk_write (&d, NR + 1, 'x'));
      CHECK (d.err.kind == QCOW2_ERR_IO && d.err.errnum == EIO);
      CHECK (d.err.advice == QCOW2_ADVICE_REBUILD);
      snprintf (text, sizeof text, "block at offset 0x%" PRIx64, block);
      CHECK (strstr (d.err.text, text) != NULL);
      hooked_disk_check (&d, 0, 'a');
    }
    check_unchanged (&d, before, size);
    if (heals)
      d.host.bad_start = d.host.bad_end = 0;
    else {
      qcow2_close (d.image);
      d.image = NULL;
      run (&d, QCOW2_REPAIR_REBUILD, 0, &found, &r);
      host_reopen (&d.host);
      hooked_disk_open (&d);
    }
    CHECK (hooked_disk_write (&d, NR + 1, 'x'));
    hooked_disk_check (&d, NR + 1, 'x');
    CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
    fsck_check (d.host.bytes, d.host.size, false);
    hooked_disk_free (&d);
  }
}

/* ---- Images that are written to ----------------------------------------- */

/* The remedy is named, and when the host brings it again all is well. */
static void
a_write (void)
{
  for (unsigned table = 0; table < 2; ++table) {
    struct hooked_disk d;
    uint64_t block;
    char text[100];

    unit_context ("%s: %u", __func__, table);
    hooked_disk_build (&d, 10, 6, DISK, NR);       /* nothing is free */
    hooked_disk_serve (&d, &(struct host_spec) {
        .capacity = 16384 * KiB, .grows = true });
    hooked_disk_open (&d);
    block = table ? last_table (&d)
      : hooked_disk_block_off (&d, d.host.size - CLUSTER);
    d.host.bad_start = block;
    d.host.bad_end = block + CLUSTER;
    CHECK (!hooked_disk_write (&d, NR + 1, 'x'));
    CHECK (d.err.kind == QCOW2_ERR_IO && d.err.errnum == EIO);
    CHECK_EQ (d.err.advice, QCOW2_ADVICE_REBUILD);
    snprintf (text, sizeof text, "block at offset 0x%" PRIx64, block);
    CHECK (strstr (d.err.text, text) != NULL);
    d.host.bad_start = d.host.bad_end = 0;
    CHECK (hooked_disk_write (&d, NR + 1, 'x'));
    CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
    fsck_check (d.host.bytes, d.host.size, false);
    hooked_disk_free (&d);
  }
}

/* On a slow host more of a block is read than is needed: what cannot be read of
 * the rest is no matter.
 */
static void
a_write_beside (void)
{
  struct hooked_disk d;
  uint64_t block;

  unit_context ("%s", __func__);
  hooked_disk_build (&d, 16, 4, 64 << 16, 8);
  hooked_disk_serve (&d, &(struct host_spec) {
      .capacity = 16384 * KiB, .grows = true });
  hooked_disk_open (&d);
  atomic_store (&d.image->shared.meter.latency_us, 100000);
  block = hooked_disk_block_off (&d, 0);
  d.host.bad_start = block + 32 * KiB;
  d.host.bad_end = d.host.bad_start + 1;
  for (unsigned i = 8; i < 16; ++i)
    if (!CHECK (hooked_disk_write (&d, i, 'x')))
      printf ("%s\n", d.err.text);
  hooked_disk_check (&d, 9, 'x');
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  fsck_check (d.host.bytes, d.host.size, false);
  hooked_disk_free (&d);
}

int
main (void)
{
  a_write ();
  a_write_beside ();
  a_check_goes_on ();
  refcounts_are_written_anew ();
  a_block_of_several_parts ();
  leaks_are_kept ();
  a_table_that_is_missing_too ();
  nothing_unknown_becomes_free ();
  a_table_that_cannot_be_read ();
  a_table_of_a_device ();
  an_image_that_was_not_closed ();
  return unit_finish ();
}
