/* SPDX-License-Identifier: BSD-3-Clause */
/* test-again.c - a host on which a read fails, once or for good.
 *
 * Owns      that a check and a repair try such a read once more, that they do
 *           so after EIO only, and that no more is left out than cannot be read
 *           even so.
 * Method    each read of a check fails, one after the other: what the check
 *           says is what it says of a host that never fails.
 */
#include "config.h"

#include "fsck.h"
#include "hooked_disk.h"

#include "base/be.h"
#include "base/bits.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define KiB (UINT64_C (1) << 10)
#define CLUSTER UINT64_C (1024)
#define NR 600                  /* guest clusters with data */
#define DISK (2048 * CLUSTER)
#define PER_TABLE (CLUSTER / 8)
#define MAX_READS 4000
#define DIRTY 1u

static void
build (struct hooked_disk *d)
{
  hooked_disk_build (d, 10, 4, DISK, NR);
  /* Each of them has a flag that contradicts it. */
  hooked_disk_put (d, builder_entry_off (&d->b, 7),
                   hooked_disk_get (d, builder_entry_off (&d->b, 7)) &
                   ~HOOKED_COPIED);
}

static void
serve (struct hooked_disk *d)
{
  hooked_disk_serve (d, &(struct host_spec) {
      .capacity = 4096 * KiB, .grows = true });
}

static unsigned long failed;    /* reads, of the last run */

/* The 'at'-th read of the whole, opening included, fails, and 'more' after
 * it.  Returns -1 if it could not be checked.
 */
static int
run (struct hooked_disk *d, enum qcow2_repair repair, unsigned long at,
     unsigned long more, int errnum, struct qcow2_check_result *ret)
{
  const struct qcow2_options options = {
    .check = true, .writable = repair != QCOW2_REPAIR_NONE,
  };
  const struct qcow2_check_options how = { .repair = repair };
  struct qcow2_image *image;
  int r = -1;

  host_reopen (&d->host);
  host_fail (&d->host, 1u << HOST_READ, at, more, errnum);
  image = qcow2_open (&d->host.io, &options, &d->err);
  if (image != NULL)
    r = qcow2_check (image, &d->host.io, &how, ret, &d->err);
  qcow2_close (image);
  failed = d->host.failed;
  host_fail (&d->host, 0, 0, 0, 0);
  return r;
}

static void
check_same (const struct qcow2_check_result *a,
            const struct qcow2_check_result *b)
{
  CHECK_EQ (a->check_errors, b->check_errors);
  CHECK_EQ (a->corruptions, b->corruptions);
  CHECK_EQ (a->corruptions_fixed, b->corruptions_fixed);
  CHECK_EQ (a->leaks, b->leaks);
  CHECK_EQ (a->leaks_fixed, b->leaks_fixed);
  CHECK_EQ (a->incomplete, b->incomplete);
  CHECK_EQ (a->refcounts_unusable, b->refcounts_unusable);
  CHECK_EQ (a->rebuilt, b->rebuilt);
  CHECK_EQ (a->image_end, b->image_end);
}

/* ---- Once --------------------------------------------------------------- */

/* False: there are not so many reads. */
static bool
fail_one_read (enum qcow2_repair repair, unsigned long at,
               const struct qcow2_check_result *sound)
{
  struct qcow2_check_result r;
  struct hooked_disk d;

  unit_context ("repair %d, read %lu", repair, at);
  build (&d);
  serve (&d);
  if (CHECK_EQ (run (&d, repair, at, 0, EIO, &r), 0))
    check_same (&r, sound);
  else
    fprintf (stderr, "%s\n", d.err.text);
  if (repair >= QCOW2_REPAIR_ALL)
    fsck_check (d.host.bytes, d.host.size, false);
  hooked_disk_free (&d);
  return failed > 0;
}

static void
a_host_that_fails_once (void)
{
  for (unsigned repair = QCOW2_REPAIR_NONE; repair <= QCOW2_REPAIR_REBUILD;
       ++repair) {
    struct qcow2_check_result sound;
    struct hooked_disk d;
    unsigned long at = 1;

    unit_context ("repair %u", repair);
    build (&d);
    serve (&d);
    CHECK_EQ (run (&d, repair, 0, 0, 0, &sound), 0);
    hooked_disk_free (&d);
    while (at < MAX_READS && fail_one_read (repair, at, &sound))
      ++at;
    CHECK (at > 5 && at < MAX_READS);
  }
}

/* The scan of an image that was not closed, before the first write. */
static void
an_image_that_was_not_closed (void)
{
  failed = 1;
  for (unsigned long at = 1; failed > 0 && at < MAX_READS; ++at) {
    struct hooked_disk d;

    unit_context ("not closed, read %lu", at);
    build (&d);
    hooked_disk_put (&d, 72, hooked_disk_get (&d, 72) | DIRTY);
    serve (&d);
    hooked_disk_open (&d);
    /* Of the first write; what comes after the repair is no part of it. */
    host_fail (&d.host, 1u << HOST_READ, at, 0, EIO);
    if (!hooked_disk_write (&d, NR + 1, 'x'))
      CHECK (strstr (d.err.text, "refcount") == NULL || at > 2);
    failed = d.host.failed;
    host_fail (&d.host, 0, 0, 0, 0);
    CHECK (hooked_disk_write (&d, NR + 1, 'x'));
    CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
    fsck_check (d.host.bytes, d.host.size, false);
    hooked_disk_free (&d);
  }
}

/* ---- Always, and other errors -------------------------------------------- */

/* Reads of what it cannot read come in pairs. */
static struct {
  uint64_t host_off;
  uint32_t count;
  unsigned first, second;
} bad;

static void
count_reads (struct hooked_disk *d, uint32_t count, uint64_t host_off,
             enum qcow2_io_class io_class)
{
  (void) io_class;
  if (host_off >= d->host.bad_end || host_off + count <= d->host.bad_start)
    return;
  if (bad.first > bad.second && bad.host_off == host_off &&
      bad.count == count) {
    bad.second++;
    return;
  }
  bad.host_off = host_off;
  bad.count = count;
  bad.first++;
}

/* The first L2 table. */
static void
a_host_that_fails_always (void)
{
  struct qcow2_check_result r;
  struct hooked_disk d;

  unit_context ("%s", __func__);
  build (&d);
  serve (&d);
  d.host.bad_start = q2_align_down (builder_entry_off (&d.b, 0), CLUSTER);
  d.host.bad_end = d.host.bad_start + 8;
  d.after_read = count_reads;
  memset (&bad, 0, sizeof bad);
  if (CHECK_EQ (run (&d, QCOW2_REPAIR_NONE, 0, 0, 0, &r), 0)) {
    CHECK_EQ (r.check_errors, 1);
    CHECK (r.incomplete);
    CHECK (bad.first > 0);
    CHECK_EQ (bad.first, bad.second);
  }
  hooked_disk_free (&d);
}

/* Tables lie next to each other, and are read at once: only the one that
 * cannot be read is left out, and told once.
 */
static void
one_table_of_several (void)
{
  static const unsigned char data[CLUSTER] = { 1 };
  const unsigned nr = 8;

  for (unsigned bad_one = 0; bad_one < nr; ++bad_one) {
    struct qcow2_check_result r;
    struct hooked_disk d;

    unit_context ("%s: %u", __func__, bad_one);
    hooked_disk_build (&d, 10, 4, DISK, 0);
    for (unsigned i = 0; i < nr; ++i)
      builder_zero (&d.b, i * PER_TABLE, 0);
    for (unsigned i = 0; i < nr; ++i)
      builder_data (&d.b, i * PER_TABLE + 1, data);
    builder_finish (&d.b);
    serve (&d);
    CHECK_EQ (builder_entry_off (&d.b, PER_TABLE),
              builder_entry_off (&d.b, 0) + CLUSTER);
    d.host.bad_start = builder_entry_off (&d.b, bad_one * PER_TABLE);
    d.host.bad_end = d.host.bad_start + CLUSTER;
    if (CHECK_EQ (run (&d, QCOW2_REPAIR_NONE, 0, 0, 0, &r), 0)) {
      CHECK_EQ (r.check_errors, 1);
      CHECK (r.incomplete);
      CHECK_EQ (r.allocated_clusters, nr - 1);
    }
    hooked_disk_free (&d);
  }
}

/* The active L1 table: the image can be checked nevertheless, and what the
 * rest of the table leads to is counted.
 */
static void
a_part_of_the_l1_table (void)
{
  static const unsigned char data[CLUSTER] = { 1 };
  const unsigned nr = 1024;     /* L2 tables: two pages of the L1 table */

  for (unsigned part = 0; part < 2; ++part) {
    struct qcow2_check_result r;
    struct hooked_disk d;

    unit_context ("%s: %u", __func__, part);
    hooked_disk_build (&d, 10, 4, nr * PER_TABLE * CLUSTER, 0);
    for (unsigned i = 0; i < nr; i += 16)
      builder_data (&d.b, i * PER_TABLE, data);
    builder_finish (&d.b);
    serve (&d);
    d.host.bad_start = hooked_disk_get (&d, 40) + 4096 * part + 64;
    d.host.bad_end = d.host.bad_start + 1;
    if (CHECK_EQ (run (&d, QCOW2_REPAIR_NONE, 0, 0, 0, &r), 0)) {
      CHECK_EQ (r.check_errors, 1);
      CHECK (r.incomplete && !r.refcounts_unusable);
      CHECK_EQ (r.allocated_clusters, nr / 16 / 2);
    }
    else
      fprintf (stderr, "%s\n", d.err.text);
    hooked_disk_free (&d);
  }
}

/* What will not pass is not asked for again. */
static void
other_errors (void)
{
  static const int errnums[] = { ENOSPC, ENOMEM, ESHUTDOWN };

  for (size_t i = 0; i < sizeof errnums / sizeof errnums[0]; ++i) {
    struct qcow2_check_result r;
    struct hooked_disk d;
    unsigned long reads;

    unit_context ("%s: %s", __func__, strerror (errnums[i]));
    build (&d);
    serve (&d);
    CHECK_EQ (run (&d, QCOW2_REPAIR_NONE, 0, 0, 0, &r), 0);
    reads = d.host.nr[HOST_READ];
    /* The last one. */
    if (run (&d, QCOW2_REPAIR_NONE, reads, 0, errnums[i], &r) == 0)
      CHECK (r.check_errors > 0);
    CHECK_EQ (failed, 1);
    CHECK_EQ (d.host.nr[HOST_READ], 2 * reads);
    hooked_disk_free (&d);
  }
}

static unsigned asked;

static bool
go_on_until (void *opaque, unsigned percent)
{
  (void) percent;
  return ++asked < *(const unsigned *) opaque;
}

/* A failure may take seconds: of many tables that lie side by side only a few
 * are tried, and who waits is asked meanwhile.
 */
static void
nothing_can_be_read (void)
{
  const struct host_spec spec = { .capacity = 40960 * KiB, .grows = true };
  const struct qcow2_create_options create = {
    .virtual_size = 32768 * KiB, .cluster_size = 1024,
    .preallocation = QCOW2_PREALLOCATE_METADATA,
  };
  const struct qcow2_options options = { .check = true };
  unsigned until = 1000;
  struct qcow2_check_options how = {
    .progress = go_on_until, .opaque = &until,
  };
  struct qcow2_check_result r;
  struct qcow2_error err;
  struct qcow2_image *image;
  unsigned long reads;
  struct host h;

  unit_context ("%s", __func__);
  host_init (&h, &spec, "", 0);
  REQUIRE (qcow2_create (&h.io, &create, &err) == 0);
  host_reopen (&h);
  for (unsigned round = 0; round < 2; ++round) {
    image = qcow2_open (&h.io, &options, &err);
    REQUIRE (image != NULL);
    /* All 256 L2 tables. */
    h.bad_start = load_be64 (h.bytes + load_be64 (h.bytes + 40)) &
      ~HOOKED_COPIED;
    h.bad_end = h.bad_start + 256 * CLUSTER;
    reads = h.nr[HOST_READ];
    asked = 0;
    if (round == 0) {
      CHECK_EQ (qcow2_check (image, &h.io, &how, &r, &err), 0);
      CHECK (r.incomplete);
      CHECK_EQ (r.check_errors, 9);
    }
    else {                      /* at the third failure */
      until = asked + 3;
      CHECK_EQ (qcow2_check (image, &h.io, &how, &r, &err), -1);
      CHECK_EQ (err.kind, QCOW2_ERR_CANCELLED);
    }
    reads = h.nr[HOST_READ] - reads;
    CHECK (reads < (round == 0 ? 150 : 20));
    h.bad_start = h.bad_end = 0;
    qcow2_close (image);
  }
  host_free (&h);
}

int
main (void)
{
  a_host_that_fails_once ();
  an_image_that_was_not_closed ();
  a_host_that_fails_always ();
  one_table_of_several ();
  a_part_of_the_l1_table ();
  other_errors ();
  nothing_can_be_read ();
  return unit_finish ();
}
