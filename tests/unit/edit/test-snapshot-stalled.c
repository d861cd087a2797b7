/* SPDX-License-Identifier: BSD-3-Clause */
/* test-snapshot-stalled.c - a read takes longer than a change of snapshots.
 *
 * Owns      nothing.
 * Method    a guest's read has read a table, or data, and goes on only when a
 *           snapshot has been taken, cancelled or deleted, and the guest has
 *           changed the disk meanwhile and afterwards; it does that between
 *           two tables, where progress is told, while nothing is held.  So
 *           what the read uses is let go by the disk and by the snapshot, in
 *           either order, and used again when it has ended.  No request fails,
 *           the image is not marked as corrupt, the disk reads as it was
 *           written, and what was ended is clean, or has the dirty bit.
 */
#include "config.h"

#include "fsck.h"
#include "hooked_disk.h"
#include "threads.h"

#include "base/be.h"

#include <stdatomic.h>

#define KiB UINT64_C (1024)
#define DISK (256 * KiB)
#define CLUSTER UINT64_C (512)
#define NR (DISK / CLUSTER)     /* guest clusters, 64 of them in a table */
#define PER_TABLE (CLUSTER / 8)
#define MAX_CLUSTERS 65536
#define CORRUPT 2               /* incompatible features */
#define DIRTY 1

#define NAME(s) { s, sizeof (s) - 1 }

enum change { NONE, TAKE, CANCEL };

static const struct qcow2_name names[] = { NAME ("a"), NAME ("b") };

struct stalled {
  struct hooked_disk d;         /* first: its hooks get a pointer to it */
  struct rng rng;
  int bytes[NR];                /* of the disk */

  /* The read. */
  struct threads thread;
  enum qcow2_io_class io_class; /* it is held back after such a read */
  uint64_t at;                  /* guest cluster */
  pthread_t reader;
  _Atomic bool armed, stopped, go, ended;
  _Atomic bool done;
  unsigned read_at;             /* when that was told it begins; 0: never */

  /* The change. */
  _Atomic unsigned told, cancel_at;     /* 0: never */
  bool silent;                  /* the guest does nothing meanwhile */
  unsigned quiet;               /* a table that the guest leaves alone; it has
                                   not that many: none */
};

/* ---- The read ----------------------------------------------------------- */

static void
hold_back (struct hooked_disk *d, uint32_t count, uint64_t host_off,
           enum qcow2_io_class io_class)
{
  struct stalled *const s = (struct stalled *) d;

  (void) count;
  (void) host_off;
  if (!s->armed || !pthread_equal (s->reader, pthread_self ()) ||
      io_class != s->io_class || atomic_exchange (&s->stopped, true))
    return;
  WAIT_UNTIL (s->go);
}

static bool
is_old (const unsigned char *buf, unsigned char byte)
{
  for (unsigned i = 0; i < CLUSTER; ++i)
    if (buf[i] != byte)
      return false;
  return true;
}

/* It returns what was there when it began, or after that. */
static void
read_slowly (void *arg, unsigned nr)
{
  struct stalled *const s = arg;
  const unsigned char old = (unsigned char) s->bytes[s->at];
  unsigned char buf[CLUSTER];
  struct qcow2_error err;

  (void) nr;
  s->reader = pthread_self ();
  s->armed = true;
  if (!CHECK_EQ (qcow2_pread (s->d.image, &s->d.host.io, buf, sizeof buf,
                              s->at * CLUSTER, &err), 0))
    printf ("%s\n", err.text);
  /* Each cluster is full of one byte at any moment. */
  CHECK (is_old (buf, buf[0]));
  if (s->io_class == QCOW2_IO_DATA)
    CHECK_EQ (buf[0], old);
  s->ended = true;
}

/* Of what the test has chosen; if that was trimmed nothing is held back. */
static void
begin_read (struct stalled *s)
{
  s->armed = s->stopped = s->go = s->ended = false;
  threads_start (&s->thread, 1, read_slowly, s);
  WAIT_UNTIL (s->stopped || s->ended);
}

/* 'quiet': the guest leaves that table alone until the read has ended.  It has
 * to if a table is read, since whoever needs it waits for that; and nobody may
 * have read it before.
 */
static void
choose_read (struct stalled *s, enum qcow2_io_class io_class, bool quiet)
{
  s->io_class = io_class;
  s->at = rng_below (&s->rng, NR);
  s->quiet = quiet || io_class == QCOW2_IO_L2 ? (unsigned) (s->at / PER_TABLE)
    : NR;
}

static void
end_read (struct stalled *s)
{
  s->go = true;
  threads_join (&s->thread);
  s->quiet = NR;
}

/* ---- The guest ---------------------------------------------------------- */

static void
request (struct stalled *s)
{
  const uint64_t at = rng_below (&s->rng, NR);
  const int byte = 1 + (int) rng_below (&s->rng, 255);
  bool done;

  /* There is room for so many. */
  pthread_mutex_lock (&s->d.host.lock);
  s->d.nr_trims = 0;
  pthread_mutex_unlock (&s->d.host.lock);
  if (at / PER_TABLE == s->quiet)
    return;
  switch (rng_below (&s->rng, 8)) {
  case 0:
  case 1:
    s->bytes[at] = 0;
    done = hooked_disk_trim (&s->d, at);
    break;
  case 2:
    done = hooked_disk_flush (&s->d);
    break;
  default:
    s->bytes[at] = byte;
    done = hooked_disk_write (&s->d, at, byte);
  }
  unit_check (done, __FILE__, __LINE__, "%s", s->d.err.text);
}

static void
requests (struct stalled *s, unsigned nr)
{
  for (unsigned i = 0; i < nr; ++i)
    request (s);
}

static void
write_at (struct stalled *s, uint64_t at, int byte)
{
  s->bytes[at] = byte;
  unit_check (hooked_disk_write (&s->d, at, byte), __FILE__, __LINE__, "%s",
              s->d.err.text);
}

static void
read_all (struct stalled *s)
{
  for (uint64_t i = 0; i < NR; ++i)
    hooked_disk_check (&s->d, i, s->bytes[i]);
}

/* ---- Changes ------------------------------------------------------------ */

/* What the read uses is let go, as a rule. */
static bool
tell (void *opaque, unsigned percent)
{
  struct stalled *const s = opaque;

  (void) percent;
  if (s->silent)
    return true;
  if (++s->told == s->read_at) {
    s->read_at = 0;
    begin_read (s);
  }
  requests (s, 6);
  if (s->at / PER_TABLE != s->quiet && rng_below (&s->rng, 4) == 0)
    write_at (s, s->at, 1 + (int) rng_below (&s->rng, 255));
  return s->told != s->cancel_at;
}

static int
take (struct stalled *s, unsigned name)
{
  const struct qcow2_snapshot_options options = {
    .name = names[name], .progress = tell, .progress_opaque = s,
  };

  s->told = 0;
  return qcow2_snapshot_create (s->d.image, &s->d.host.io, &options,
                                &s->d.err);
}

static void
take_well (struct stalled *s, unsigned name)
{
  s->cancel_at = 0;
  unit_check (take (s, name) == 0, __FILE__, __LINE__, "%s", s->d.err.text);
}

static void
cancel (struct stalled *s, unsigned name)
{
  s->cancel_at = 1 + (unsigned) rng_below (&s->rng, NR / PER_TABLE);
  CHECK_EQ (take (s, name), -1);
  CHECK_EQ (s->d.err.kind, QCOW2_ERR_CANCELLED);
}

static void
delete (struct stalled *s, unsigned name)
{
  const struct qcow2_progress progress = { .fn = tell, .opaque = s };

  s->told = s->cancel_at = 0;
  unit_check (qcow2_snapshot_delete (s->d.image, &s->d.host.io, &names[name],
                                     false, &progress, &s->d.err) == 0,
              __FILE__, __LINE__, "%s", s->d.err.text);
  CHECK (s->told > 0);
}

/* ---- The whole ---------------------------------------------------------- */

static void
check_end (struct stalled *s, bool may_be_dirty)
{
  static unsigned char risks[MAX_CLUSTERS];
  const struct host *const h = &s->d.host;
  const bool dirty = h->bytes[79] & DIRTY;
  struct fsck f;
  unsigned any = 0;

  memset (risks, 0, sizeof risks);
  fsck_clusters (h->bytes, h->size, &f, risks, MAX_CLUSTERS);
  for (size_t i = 0; i < MAX_CLUSTERS; ++i)
    any |= risks[i] & (FSCK_TOO_LOW | FSCK_SHARED);
  CHECK_EQ (any, 0);
  CHECK_EQ (h->bytes[79] & CORRUPT, 0);
  CHECK (!dirty || may_be_dirty);
  fsck_image (h->bytes, h->size, &f);
  unit_check (dirty || f.corruptions + f.leaks == 0, __FILE__, __LINE__,
              "%s %s", f.text, f.leak_text);
}

/* With so many snapshots, the last of which shares all that the disk has, in
 * a file that was opened anew.
 */
static void
begin (struct stalled *s, unsigned snapshots, uint64_t seed)
{
  const struct host_spec spec = { .capacity = 4096 * KiB, .grows = true };

  memset (s, 0, sizeof *s);
  s->rng.state = seed;
  s->quiet = NR;
  hooked_disk_build (&s->d, 9, 4, DISK, NR);
  for (unsigned i = 0; i < NR; ++i)
    s->bytes[i] = (unsigned char) ('a' + i);
  hooked_disk_serve (&s->d, &spec);
  hooked_disk_open (&s->d);
  s->silent = true;
  for (unsigned i = 0; i < snapshots; ++i) {
    requests (s, 5);
    take_well (s, i);
  }
  s->silent = false;
  CHECK_EQ (qcow2_end (s->d.image, &s->d.host.io, &s->d.err), 0);
  qcow2_close (s->d.image);
  hooked_disk_open (&s->d);
  s->d.after_read = hold_back;
}

static void
finish (struct stalled *s, bool may_be_dirty)
{
  CHECK (hooked_disk_flush (&s->d));
  requests (s, 200);
  read_all (s);
  CHECK_EQ (qcow2_end (s->d.image, &s->d.host.io, &s->d.err), 0);
  check_end (s, may_be_dirty);
  hooked_disk_free (&s->d);
}

/* Wait until the change has begun to wait for the read, if it does. */
static void
end_read_soon (void *arg, unsigned nr)
{
  struct stalled *const s = arg;

  (void) nr;
  WAIT_UNTIL (s->done || s->told >= s->cancel_at);
  sleep_ms (20);
  s->go = true;
}

/* 'soon': the read ends while that is taken back, which waits for it; else it
 * gives up, and the image keeps the dirty bit.
 */
static void
test_cancel (enum qcow2_io_class io_class, bool soon, unsigned snapshots,
             uint64_t seed)
{
  static struct stalled s;
  struct threads other;

  unit_context ("cancel, %d, %d, %u, seed %" PRIu64, io_class, soon,
                snapshots, seed);
  begin (&s, snapshots, seed);
  choose_read (&s, io_class, false);
  begin_read (&s);
  requests (&s, (unsigned) rng_below (&s.rng, 10));
  if (soon) {
    s.cancel_at = NR;           /* not before it is known */
    threads_start (&other, 1, end_read_soon, &s);
  }
  cancel (&s, snapshots);
  s.done = true;
  requests (&s, 100);
  if (soon)
    threads_join (&other);
  end_read (&s);
  finish (&s, !soon);
}

/* The read begins when it is gone: a deletion begins only when requests that
 * were running have ended.  Others are taken, or cancelled, until it ends.
 */
static void
test_delete (enum qcow2_io_class io_class, enum change next, bool quiet,
             uint64_t seed)
{
  static struct stalled s;

  unit_context ("delete, %d, %d, %d, seed %" PRIu64, io_class, next, quiet,
                seed);
  begin (&s, 2, seed);
  choose_read (&s, io_class, quiet);
  requests (&s, (unsigned) rng_below (&s.rng, 10));
  if (seed % 3 == 0)
    delete (&s, 0);
  s.read_at = 1 + (unsigned) rng_below (&s.rng, 4);
  delete (&s, 1);
  requests (&s, (unsigned) rng_below (&s.rng, 100));
  if (next == CANCEL)
    cancel (&s, 1);
  else if (next == TAKE)
    take_well (&s, 1);
  requests (&s, (unsigned) rng_below (&s.rng, 100));
  end_read (&s);
  /* In the table that it was late with. */
  write_at (&s, s.at ^ 1, 7);
  if (next == TAKE)
    delete (&s, 1);
  finish (&s, next == CANCEL);
}

int
main (void)
{
  static const enum qcow2_io_class classes[] = {
    QCOW2_IO_L2, QCOW2_IO_DATA,
  };

  threads_watchdog ();
  for (unsigned c = 0; c < 2; ++c) {
    for (uint64_t seed = 1; seed <= unit_scaled (10); ++seed) {
      test_cancel (classes[c], true, seed % 2, seed);
      for (unsigned quiet = 0; quiet < 2; ++quiet) {
        test_delete (classes[c], TAKE, quiet, seed);
        test_delete (classes[c], NONE, quiet, seed);
      }
    }
  }
  for (uint64_t seed = 1; seed <= unit_scaled (4); ++seed)
  {
    test_cancel (QCOW2_IO_DATA, false, seed % 2, seed);
    test_delete (QCOW2_IO_DATA, CANCEL, false, seed);
  }
  return unit_finish ();
}
