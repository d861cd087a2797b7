/* SPDX-License-Identifier: BSD-3-Clause */
/* test-ahead-writes.c - reading ahead of an image that is written to.
 *
 * Owns      a disk on which each sector says which write it is from.
 * Method    each sector has one writer, and so versions in a known order.  A
 *           read must find, in each sector, the version that was acknowledged
 *           when it began or a newer one, and none that is older than what any
 *           read had found by then: the rules AHEAD-1 and AHEAD-2 of
 *           tests/models/ahead.py.  Versions that are multiples of 8 are
 *           zeros.
 *
 *           Linked with a copy of the engine that has the bugs of
 *           base/plant.h, each of them must be found.
 * Locks     none; versions are atomics.
 */
#include "config.h"

#include "base/plant.h"
#include "busy.h"
#include "jitter.h"
#include "slow_disk.h"
#include "threads.h"

#include "base/be.h"

#include <stdatomic.h>

#ifdef Q2_PLANTS
int q2_planted;
#endif

#define CLUSTERS SLOW_DISK_CLUSTERS
#define SECTOR 512u
#define PER_CLUSTER (SLOW_DISK_CLUSTER / SECTOR)
#define SECTORS (CLUSTERS * PER_CLUSTER)
#define MiB (UINT64_C (1) << 20)

/* ---- Versions ----------------------------------------------------------- */

static struct {
  _Atomic uint32_t begun, acked, seen;
} versions[SECTORS];

static bool
is_zeros (uint32_t version)
{
  return version % 8 == 0;
}

static void
fill_sector (unsigned char *sector, uint64_t nr, uint32_t version)
{
  for (unsigned i = 0; i < SECTOR; i += 8)
    store_be64 (sector + i, is_zeros (version) ? 0 : nr << 32 | version);
}

static void
raise (_Atomic uint32_t *v, uint32_t to)
{
  for (uint32_t old = *v;
       old < to && !atomic_compare_exchange_weak (v, &old, to);)
    ;
}

/* What a read of a sector found, between the bounds 'from' and 'to'. */
static bool
look_at_sector (const unsigned char *bytes, uint64_t nr, uint32_t from,
                uint32_t to)
{
  const uint64_t word = load_be64 (bytes);
  uint32_t found = (uint32_t) word;

  for (unsigned i = 8; i < SECTOR; i += 8)
    if (!CHECK_EQ (load_be64 (bytes + i), word))
      return false;
  if (word == 0)
    found = (from + 7) / 8 * 8; /* or later zeros */
  else if (!CHECK_EQ (word >> 32, nr) || !CHECK (!is_zeros (found)))
    return false;
  raise (&versions[nr].seen, found);
  return CHECK (found >= from && found <= to);
}

/* Read and look at whole sectors. */
static bool
read_sectors (struct hooked_disk *d, uint64_t first, uint64_t nr)
{
  unsigned char *const buf = malloc (nr * SECTOR);
  uint32_t *const from = malloc (nr * sizeof *from);
  struct qcow2_error err;
  bool ok = true;

  REQUIRE (buf != NULL && from != NULL);
  for (uint64_t i = 0; i < nr; ++i) {
    const uint32_t seen = versions[first + i].seen;

    from[i] = versions[first + i].acked;
    if (seen > from[i])
      from[i] = seen;
  }
  if (CHECK_EQ (qcow2_pread (d->image, &d->host.io, buf,
                             (uint32_t) (nr * SECTOR), first * SECTOR, &err),
                0))
    for (uint64_t i = 0; i < nr && ok; ++i)
      ok = look_at_sector (buf + i * SECTOR, first + i, from[i],
                           versions[first + i].begun);
  free (from);
  free (buf);
  return ok;
}

enum way { WRITE, ZERO, COMPRESS };

static void
change_sectors (struct hooked_disk *d, uint64_t first, uint64_t nr,
                enum way way)
{
  unsigned char *const buf = malloc (nr * SECTOR);
  struct qcow2_error err;
  int r;

  REQUIRE (buf != NULL);
  for (uint64_t i = 0; i < nr; ++i) {
    uint32_t next = versions[first + i].begun + 1;

    while (is_zeros (next) != (way == ZERO))
      next++;
    versions[first + i].begun = next;
    fill_sector (buf + i * SECTOR, first + i, next);
  }
  if (way == ZERO)
    r = qcow2_zero (d->image, &d->host.io, nr * SECTOR, first * SECTOR,
                    QCOW2_ZERO_MAY_TRIM, &err);
  else
    r = (way == COMPRESS ? qcow2_pwrite_compressed : qcow2_pwrite)
      (d->image, &d->host.io, buf, (uint32_t) (nr * SECTOR), first * SECTOR,
       false, &err);
  if (r == -1 && way == COMPRESS && err.kind == QCOW2_ERR_UNSUPPORTED)
    r = 0;                      /* built without zlib */
  else
    for (uint64_t i = 0; i < nr; ++i)
      versions[first + i].acked = versions[first + i].begun;
  CHECK_EQ (r, 0);
  free (buf);
}

/* ---- Readers and writers at once ---------------------------------------- */

#define WRITERS 3u
#define READERS 2u

#define OPS 400u

static atomic_uint writing;
static uint64_t play_seed;

static void
write_some (struct hooked_disk *d, unsigned nr, struct rng *rng)
{
  const uint64_t cluster =
    rng_below (rng, CLUSTERS / WRITERS) * WRITERS + nr;
  uint64_t first = cluster * PER_CLUSTER;
  const uint64_t skip = rng_below (rng, PER_CLUSTER);

  switch (rng_below (rng, 10)) {
  case 0:
    change_sectors (d, first, PER_CLUSTER, ZERO);
    break;
  case 1:
    change_sectors (d, first, PER_CLUSTER, COMPRESS);
    break;
  case 2:
    change_sectors (d, first, PER_CLUSTER, WRITE);
    break;
  case 3:
    CHECK_EQ (qcow2_flush (d->image, &d->host.io, &(struct qcow2_error) {
        .text = "" }), 0);
    break;
  case 4: case 5: case 6:       /* what it has just written, or others have */
    read_sectors (d, first, PER_CLUSTER);
    break;
  default:
    change_sectors (d, first + skip,
                    1 + rng_below (rng, PER_CLUSTER - skip), WRITE);
  }
}

static void
take_part (void *arg, unsigned nr)
{
  struct hooked_disk *const d = arg;
  struct rng rng = { play_seed * 100 + nr };

  if (nr < WRITERS) {
    for (unsigned i = 0; i < unit_scaled (OPS) && unit_failures () == 0; ++i)
      write_some (d, nr, &rng);
    writing--;
    return;
  }
  /* From several places; what was read ahead is forgotten now and then. */
  for (uint64_t i = (nr - WRITERS) * CLUSTERS / READERS;
       writing > 0 && unit_failures () == 0; i++) {
    if (i % CLUSTERS == 0)
      qcow2_idle (d->image);
    if (!read_sectors (d, i % CLUSTERS * PER_CLUSTER, PER_CLUSTER))
      break;
  }
}

static unsigned long
play (void)
{
  struct hooked_disk d;
  struct threads threads;
  struct qcow2_stats stats;

  memset (versions, 0, sizeof versions);
  slow_disk_serve (&d, CLUSTERS);
  slow_disk_open (&d, NULL, true);
  slow_disk_hurry = true;
  for (uint64_t i = 0; i < CLUSTERS; ++i)
    change_sectors (&d, i * PER_CLUSTER, PER_CLUSTER, WRITE);
  slow_disk_hurry = false;
  writing = WRITERS;
  jitter (20);
  threads_start (&threads, WRITERS + READERS, take_part, &d);
  threads_join (&threads);
  jitter (0);
  for (uint64_t i = 0; i < CLUSTERS && unit_failures () == 0; ++i)
    read_sectors (&d, i * PER_CLUSTER, PER_CLUSTER);
  qcow2_get_stats (d.image, &stats);
  printf ("%" PRIu64 " requests have read ahead %" PRIu64 " MiB, of which %"
          PRIu64 " were used\n", stats.ahead_requests,
          stats.ahead_bytes / MiB, stats.ahead_used_bytes / MiB);
  if (unit_failures () == 0)    /* else this tests nothing */
    CHECK (stats.latency_us >= 250 && stats.ahead_used_bytes > MiB);
  slow_disk_end (&d);
  return unit_failures ();
}

#ifdef Q2_PLANTS

#define MAX_PLAYS 20

static unsigned long
play_until_found (void)
{
  for (play_seed = 1; play_seed <= MAX_PLAYS && play () == 0; ++play_seed)
    ;
  return unit_failures ();
}

static const struct busy_plant plants[] = {
  { Q2_PLANT_KEEP_AHEAD, "what is there is not dropped by a write" },
  { Q2_PLANT_KEEP_LOADING, "nor is what is loading" },
  { Q2_PLANT_READ_CHANGING, "what is being written is read ahead" },
};

int
main (void)
{
  threads_watchdog ();
  busy_find (&q2_planted, plants, sizeof plants / sizeof *plants,
             play_until_found);
  return unit_finish ();
}

#else

int
main (void)
{
  threads_watchdog ();
  for (play_seed = 1; play_seed <= unit_scaled (3); ++play_seed)
    play ();
  return unit_finish ();
}

#endif
