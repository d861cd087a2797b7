/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-flushes.c - how many flushes of the file a flush of the disk
 * costs, and what a crash would leak for that.
 *
 * Owns      nothing; counts the flushes that the host gets.
 * Method    several rounds of some writes and a flush.  The file is looked at
 *           as a crash would leave it, after a flush and when it is idle.
 */
#include "config.h"

#include "base/plant.h"
#include "busy.h"
#include "fsck.h"
#include "hooked_disk.h"
#include "unit.h"

#include <errno.h>

#ifdef Q2_PLANTS
int q2_planted;
#endif

#define KiB UINT64_C (1024)
#define MiB (1024 * KiB)
#define CLUSTERS 20480u         /* of the disk */
#define ROUNDS 40u
#define WRITES 8u               /* of each */

/* Commits of one flush: of trims and zeros; of a lazy image; of all that is
 * new, too (docs/ORDERING.md).
 */
enum mode { EXACT, LAZY, AHEAD };
static const char *const modes[] = { "exact", "lazy", "ahead" };

/* Of 64 KiB each: what is raised ahead, twice (docs/ORDERING.md). */
#define MAX_LEAKED (2 * 8 * MiB / (64 * KiB))

static const struct host_spec growing = {
  .capacity = 128 * MiB, .grows = true, .step = 32 * MiB,
};

static void
begin (struct hooked_disk *d, const struct host_spec *spec, enum mode mode)
{
  hooked_disk_build (d, 16, 4, CLUSTERS * 64 * KiB, 1);
  d->lazy_refcounts = mode == LAZY ? QCOW2_SETTING_ON : QCOW2_SETTING_OFF;
  if (mode == AHEAD)
    d->refcounts = QCOW2_REFCOUNTS_AHEAD;
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

static uint64_t
short_commits (struct hooked_disk *d)
{
  struct qcow2_stats stats;

  qcow2_get_stats (d->image, &stats);
  return stats.short_commits;
}

/* Into what was never used: one each, if refcounts need none, and a few for
 * the file's growth.
 */
static void
into_new_clusters (unsigned (*where) (unsigned n), enum mode mode)
{
  const unsigned each = mode == EXACT ? 2 : 1;
  struct hooked_disk d;
  struct fsck fsck;

  unit_context ("%s: %s", __func__, modes[mode]);
  begin (&d, &growing, mode);
  check_about (fill (&d, 1, where), each * ROUNDS, each * ROUNDS + 4);
  fsck = look (&d);
  CHECK_EQ (fsck.dirty, mode == LAZY);
  if (mode == EXACT) {
    CHECK_EQ (short_commits (&d), 0);
    check_no_leaks (&d);
  }
  else
    CHECK (short_commits (&d) >= ROUNDS - 4);
  if (mode == AHEAD)
    unit_check (fsck.leaks > 0 && fsck.leaks <= MAX_LEAKED, __FILE__,
                __LINE__, "%u clusters are raised ahead", fsck.leaks);
  end (&d);
}

/* In what the disk has already: nothing but its data is to be made durable. */
static void
in_place (enum mode mode)
{
  struct hooked_disk d;

  unit_context ("%s: %s", __func__, modes[mode]);
  begin (&d, &growing, mode);
  fill (&d, 1, apart);
  check_about (fill (&d, 1, apart), ROUNDS, ROUNDS);
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
  begin (&d, &growing, AHEAD);
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
  begin (&d, &growing, AHEAD);
  check_about (fill (&d, 1, apart), ROUNDS, ROUNDS + 3);
  CHECK_EQ (qcow2_snapshot_create (d.image, &d.host.io, &options, &d.err), 0);
  check_no_leaks (&d);
  end (&d);
}

/* Clusters that were in use may have foreign bytes, and refcounts that are
 * raised again are not durable.  No refcount is raised ahead in a file that
 * cannot grow.
 */
static void
into_old_clusters (enum mode mode)
{
  struct hooked_disk d;
  unsigned long before;

  unit_context ("%s: %s", __func__, modes[mode]);
  begin (&d, &(struct host_spec) { .capacity = 32 * MiB }, mode);
  before = d.host.nr[HOST_FLUSH];
  for (unsigned i = 0; i < ROUNDS; ++i) {
    CHECK (hooked_disk_write (&d, 1 + i, byte_of (i)));
    CHECK (hooked_disk_flush (&d));
  }
  check_about (d.host.nr[HOST_FLUSH] - before, 2 * ROUNDS, 2 * ROUNDS + 1);
  if (mode != LAZY)
    check_no_leaks (&d);
  end (&d);
}

/* Trims refer to nothing: one flush; and what they let go of goes on. */
static void
trims (enum mode mode)
{
  struct hooked_disk d;
  unsigned long before;

  unit_context ("%s: %s", __func__, modes[mode]);
  begin (&d, &growing, mode);
  fill (&d, 1, in_streams);
  before = d.host.nr[HOST_FLUSH];
  for (unsigned i = 0; i < ROUNDS; ++i) {
    CHECK (hooked_disk_trim (&d, 1 + i));
    CHECK (hooked_disk_flush (&d));
  }
  check_about (d.host.nr[HOST_FLUSH] - before, ROUNDS, ROUNDS);
  end (&d);
}

/* The dirty bit may be gone although the write that clears it has failed: from
 * then on refcounts are not late, until it is set again.
 */
static void
after_failed_end (void)
{
  struct hooked_disk d;
  unsigned long before;

  unit_context ("%s", __func__);
  begin (&d, &growing, LAZY);
  host_fail (&d.host, 1u << HOST_WRITE, 1, 0, EIO);
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), -1);
  host_fail (&d.host, 0, 0, 0, 0);
  before = d.host.nr[HOST_FLUSH];
  for (unsigned c = 2; c < 10; ++c) {
    CHECK (hooked_disk_write (&d, c, byte_of (c)));
    CHECK (hooked_disk_flush (&d));
  }
  CHECK (d.host.nr[HOST_FLUSH] - before >= 16);
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  CHECK (!look (&d).dirty);
  qcow2_close (d.image);
  hooked_disk_open (&d);
  CHECK (hooked_disk_write (&d, 10, byte_of (10)));
  CHECK (hooked_disk_flush (&d));
  before = d.host.nr[HOST_FLUSH];
  CHECK (hooked_disk_write (&d, 11, byte_of (11)));
  CHECK (hooked_disk_flush (&d));
  CHECK_EQ (d.host.nr[HOST_FLUSH] - before, 1);
  end (&d);
}

static bool armed;              /* the next write of refcounts fails */

static void
fail_refcounts (struct hooked_disk *d, uint32_t count, uint64_t host_off,
                enum qcow2_io_class io_class)
{
  (void) count;
  (void) host_off;
  if (armed && io_class == QCOW2_IO_REFCOUNT) {
    armed = false;
    host_fail (&d->host, 1u << HOST_WRITE, 1, 0, EIO);
  }
}

/* What a commit was to raise ahead, and has failed to, is not in the file: who
 * takes it needs a flush.
 */
static void
after_failed_refcounts (void)
{
  const unsigned ahead = 8 * MiB / (64 * KiB);
  struct hooked_disk d;
  unsigned long before;
  unsigned n = 0;

  unit_context ("%s", __func__);
  begin (&d, &growing, AHEAD);
  fill (&d, 1, apart);          /* now all commits are short */
  d.before_write = fail_refcounts;
  armed = true;
  /* Until one covers others. */
  while (armed && n < ahead) {
    bool ok;

    CHECK (hooked_disk_write (&d, 2 + apart (n++), 'b'));
    ok = hooked_disk_flush (&d);
    CHECK_EQ (ok, armed);
  }
  CHECK (!armed);
  host_fail (&d.host, 0, 0, 0, 0);
  for (unsigned i = 0; i < ahead; ++i)
    CHECK (hooked_disk_write (&d, 2 + apart (n++), 'b'));
  before = d.host.nr[HOST_FLUSH];
  CHECK (hooked_disk_flush (&d));
  CHECK_EQ (d.host.nr[HOST_FLUSH] - before, 2);
  CHECK (look (&d).leaks <= MAX_LEAKED);
  for (unsigned i = 0; i < n; ++i)
    hooked_disk_check (&d, 2 + apart (i), 'b');
  end (&d);
}

static unsigned long
play (void)
{
  for (enum mode m = EXACT; m <= AHEAD; ++m) {
    into_new_clusters (apart, m);
    into_new_clusters (in_streams, m);
    in_place (m);
    into_old_clusters (m);
    trims (m);
  }
  idle ();
  edited ();
  after_failed_end ();
  after_failed_refcounts ();
  return unit_failures ();
}

#ifdef Q2_PLANTS

static const struct busy_plant plants[] = {
  { Q2_PLANT_COVER_EARLY, "one is covered although that has failed" },
  { Q2_PLANT_COVER_TAKEN, "what was raised ahead and taken is given back" },
  { Q2_PLANT_LAZY_TRUST, "the dirty bit counts as set after a failed end" },
  { Q2_PLANT_FRESH_REUSED, "a cluster that was in use is fresh" },
};

int
main (void)
{
  busy_find (&q2_planted, plants, sizeof plants / sizeof *plants, play);
  return unit_finish ();
}

#else

/* Each flush fails once, or each write of a table: nothing is lost, and
 * nothing leaked in the end.
 */
static void
fails_at (unsigned long at, enum mode mode)
{
  struct hooked_disk d;
  bool ok = true;

  unit_context ("%s: write %lu, %s", __func__, at, modes[mode]);
  begin (&d, &growing, mode);
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
  play ();
  for (enum mode m = EXACT; m <= AHEAD; ++m)
    for (unsigned long at = 1; at <= 14; ++at)
      fails_at (at, m);
  return unit_finish ();
}

#endif
