/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-crowd.c - many threads change entries, and few fit in memory.
 *
 * Owns      nothing.
 * Method    the smallest table cache that the filter allows has two shards of
 *           eight slices.  Many more threads change entries of many more
 *           slices than that, so shards are full of changed ones again and
 *           again, and whoever needs another has to wait for a commit; and is
 *           overtaken by others, but not for ever: no request fails.
 * Locks     none; each thread has clusters of its own.
 */
#include "config.h"

#include "hooked_disk.h"
#include "threads.h"

#define KiB UINT64_C (1024)
#define MiB (1024 * KiB)
#define CLUSTER (4 * KiB)
#define SLICE (512 * CLUSTER)   /* of the disk */
#define SLICES 96

static unsigned rounds;

/* Half of those who wait are overtaken each time, so hardly anybody ever is for
 * twenty times; core/write/entries.c gives up after a hundred.
 */
static void
change_entries (void *arg, unsigned nr)
{
  struct hooked_disk *const d = arg;
  static unsigned char buf[CLUSTER];
  struct rng rng = { nr + 1 };
  bool there[SLICES] = { false };
  struct qcow2_error err;

  for (unsigned i = 0; i < rounds; ++i) {
    const uint64_t slice = rng_below (&rng, SLICES);
    const uint64_t off = slice * SLICE + nr * CLUSTER;
    const int r = there[slice]
      ? qcow2_trim (d->image, &d->host.io, CLUSTER, off, false, &err)
      : qcow2_pwrite (d->image, &d->host.io, buf, CLUSTER, off, false, &err);

    there[slice] = !there[slice];
    if (!unit_check (r == 0, __FILE__, __LINE__, "thread %u: %s", nr,
                     err.text))
      break;
  }
}

static void
crowd (unsigned threads, unsigned nr_rounds, unsigned delay_us)
{
  const struct qcow2_options options = {
    .writable = true, .overlap_check = QCOW2_OVERLAP_CACHED,
    .cache_size = 64 * KiB,
  };
  static struct threads t;
  struct hooked_disk d;

  unit_context ("%u threads", threads);
  rounds = nr_rounds;
  hooked_disk_build (&d, 12, 4, SLICES * SLICE, 1);
  hooked_disk_serve (&d, &(struct host_spec) {
      .capacity = 128 * MiB, .grows = true, .delay_us = delay_us });
  /* Nobody looks at so many. */
  d.host.ops.trim = NULL;
  d.image = qcow2_open (&d.host.io, &options, &d.err);
  REQUIRE (d.image != NULL);
  threads_start (&t, threads, change_entries, &d);
  threads_join (&t);
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  hooked_disk_free (&d);
}

int
main (void)
{
  threads_watchdog ();
  crowd (32, unit_scaled (2000), 0);
  crowd (32, unit_scaled (200), 50);
  return unit_finish ();
}
