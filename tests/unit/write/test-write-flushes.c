/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-flushes.c - how many flushes of the file a flush of the disk
 * costs, and what a crash would leak for that.
 *
 * Owns      nothing; counts the flushes that the host gets.
 * Method    several rounds of some writes and a flush.  The file is looked at
 *           as a crash would leave it, after a flush and when it is idle.
 */
#include "config.h"

#include "fsck.h"
#include "hooked_disk.h"
#include "unit.h"

#include <errno.h>

#define KiB UINT64_C (1024)
#define MiB (1024 * KiB)
#define CLUSTERS 20480u         /* of the disk */
#define ROUNDS 40u
#define WRITES 8u               /* of each */

/* Of 64 KiB each: what is raised ahead, twice (docs/ORDERING.md). */
#define MAX_LEAKED (2 * 8 * MiB / (64 * KiB))

static const struct host_spec growing = {
  .capacity = 128 * MiB, .grows = true, .step = 32 * MiB,
};

static void
begin (struct hooked_disk *d, const struct host_spec *spec)
{
  hooked_disk_build (d, 16, 4, CLUSTERS * 64 * KiB, 1);
  hooked_disk_serve (d, spec);
  hooked_disk_open (d);
  /* The first change makes its own flushes. */
  CHECK (hooked_disk_write (d, 0, 'a'));
  CHECK (hooked_disk_flush (d));
}

static struct fsck
look (const struct hooked_disk *d)
{
  struct fsck fsck;

  fsck_image (d->host.bytes, d->host.size, &fsck);
  unit_check (fsck.corruptions == 0, __FILE__, __LINE__, "%s", fsck.text);
  return fsck;
}

static void
check_no_leaks (const struct hooked_disk *d)
{
  const struct fsck fsck = look (d);

  unit_check (fsck.leaks == 0 && fsck.past_end == 0, __FILE__, __LINE__,
              "%u leaks, %u past the end: %s", fsck.leaks, fsck.past_end,
              fsck.leak_text);
}

static void
end (struct hooked_disk *d)
{
  CHECK_EQ (qcow2_end (d->image, &d->host.io, &d->err), 0);
  check_no_leaks (d);
  hooked_disk_free (d);
}

static int
byte_of (unsigned cluster)
{
  return (int) ('A' + cluster % 26);
}

/* Where write number 'n' goes: far from the one before, or to one of some
 * places where it goes on.
 */
static unsigned
apart (unsigned n)
{
  return n * 61;
}

static unsigned
in_streams (unsigned n)
{
  return n % 4 * 5000 + n / 4;
}

/* Rounds of writes, each to a cluster of its own; returns how many flushes the
 * host got.
 */
static unsigned long
fill (struct hooked_disk *d, unsigned first, unsigned (*where) (unsigned n))
{
  const unsigned long before = d->host.nr[HOST_FLUSH];

  for (unsigned i = 0; i < ROUNDS; ++i) {
    for (unsigned n = i * WRITES; n < (i + 1) * WRITES; ++n)
      CHECK (hooked_disk_write (d, first + where (n), byte_of (n)));
    CHECK (hooked_disk_flush (d));
  }
  for (unsigned n = 0; n < ROUNDS * WRITES; ++n)
    hooked_disk_check (d, first + where (n), byte_of (n));
  return d->host.nr[HOST_FLUSH] - before;
}

static void
check_about (unsigned long flushes, unsigned long least, unsigned long most)
{
  unit_check (flushes >= least && flushes <= most, __FILE__, __LINE__,
              "%lu flushes of the file, not %lu to %lu, for %u", flushes,
              least, most, ROUNDS);
}

/* Into what was never used: one each, and a few for the file's growth. */
static void
into_new_clusters (unsigned (*where) (unsigned n))
{
  struct qcow2_stats stats;
  struct hooked_disk d;
  struct fsck fsck;

  unit_context ("%s", __func__);
  begin (&d, &growing);
  check_about (fill (&d, 1, where), ROUNDS, ROUNDS + 4);
  qcow2_get_stats (d.image, &stats);
  CHECK (stats.short_commits >= ROUNDS - 4);
  fsck = look (&d);
  unit_check (fsck.leaks > 0 && fsck.leaks <= MAX_LEAKED, __FILE__, __LINE__,
              "%u clusters are raised ahead", fsck.leaks);
  end (&d);
}

/* What was raised ahead is taken back when nothing changes any more, without
 * being asked for, and raised again when there is need.
 */
static void
idle (void)
{
  struct hooked_disk d;

  unit_context ("%s", __func__);
  begin (&d, &growing);
  check_about (fill (&d, 1, apart), ROUNDS, ROUNDS + 3);
  for (unsigned i = 0; i < 2; ++i)
    CHECK_EQ (qcow2_idle_commit (d.image, &d.host.io, &d.err), 0);
  check_no_leaks (&d);
  check_about (fill (&d, 2, apart), ROUNDS, ROUNDS + 4);
  CHECK (look (&d).leaks > 0);
  end (&d);
}

/* So are they before a snapshot is taken. */
static void
edited (void)
{
  const struct qcow2_snapshot_options options = {
    .name = { "moment", 6 },
  };
  struct hooked_disk d;

  unit_context ("%s", __func__);
  begin (&d, &growing);
  check_about (fill (&d, 1, apart), ROUNDS, ROUNDS + 3);
  CHECK_EQ (qcow2_snapshot_create (d.image, &d.host.io, &options, &d.err), 0);
  check_no_leaks (&d);
  end (&d);
}

/* Clusters that were in use may have foreign bytes, and refcounts that are
 * raised again are not durable.
 */
static void
into_old_clusters (void)
{
  struct hooked_disk d;
  unsigned long before;

  unit_context ("%s", __func__);
  begin (&d, &(struct host_spec) { .capacity = 32 * MiB });
  before = d.host.nr[HOST_FLUSH];
  for (unsigned i = 0; i < ROUNDS; ++i) {
    CHECK (hooked_disk_write (&d, 1 + i, byte_of (i)));
    CHECK (hooked_disk_flush (&d));
  }
  check_about (d.host.nr[HOST_FLUSH] - before, 2 * ROUNDS, 2 * ROUNDS + 1);
  check_no_leaks (&d);          /* of a file that cannot grow */
  end (&d);
}

/* Trims refer to nothing: one flush; and what they let go of goes on. */
static void
trims (void)
{
  struct hooked_disk d;
  unsigned long before;

  unit_context ("%s", __func__);
  begin (&d, &growing);
  fill (&d, 1, in_streams);
  before = d.host.nr[HOST_FLUSH];
  for (unsigned i = 0; i < ROUNDS; ++i) {
    CHECK (hooked_disk_trim (&d, 1 + i));
    CHECK (hooked_disk_flush (&d));
  }
  check_about (d.host.nr[HOST_FLUSH] - before, ROUNDS, ROUNDS);
  end (&d);
}

/* Each flush fails once, or each write of a table: nothing is lost, and
 * nothing leaked in the end.
 */
static void
fails_at (unsigned long at)
{
  struct hooked_disk d;
  bool ok = true;

  unit_context ("%s: write %lu", __func__, at);
  begin (&d, &growing);
  CHECK (hooked_disk_write (&d, 1, 'b'));
  CHECK (hooked_disk_flush (&d));
  host_fail (&d.host, 1u << HOST_WRITE, at, 0, EIO);
  for (unsigned c = 2; c < 6; ++c) {
    while (!hooked_disk_write (&d, c, byte_of (c)))
      ok = false;
    while (!hooked_disk_flush (&d))
      ok = false;
  }
  CHECK (!ok || at > 8);       /* the fault was met */
  host_fail (&d.host, 0, 0, 0, 0);
  CHECK (hooked_disk_flush (&d));
  look (&d);
  for (unsigned c = 2; c < 6; ++c)
    hooked_disk_check (&d, c, byte_of (c));
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  CHECK (look (&d).leaks <= 1); /* a cluster whose bytes could not be written
                                   is free again, one that was, too */
  hooked_disk_free (&d);
}

int
main (void)
{
  into_new_clusters (apart);
  into_new_clusters (in_streams);
  idle ();
  edited ();
  into_old_clusters ();
  trims ();
  for (unsigned long at = 1; at <= 14; ++at)
    fails_at (at);
  return unit_finish ();
}
