/* SPDX-License-Identifier: BSD-3-Clause */
/* test-view-decompressed.c - snapshots are taken, read and deleted while
 * clients write compressed clusters, in whose places others come soon.
 *
 * Usage: test-view-decompressed [FIRST-SEED [RUNS]]
 *
 * Owns      the snapshots, and when each of them was taken.
 * Method    decompressed clusters are kept for the disk and all its snapshots
 *           together, by the places of their streams.  One thread takes and
 *           deletes snapshots, two read them piece by piece, clients write to
 *           the disk and read it.  Each sector of a snapshot must be one that
 *           a read of the disk could have returned when it was taken, and
 *           stay that; the ledger knows which ones those are.
 *           Linked with a copy of the engine that has the bugs of base/plant.h
 *           it is test-view-decompressed-planted, and must notice that
 *           decompressed clusters outlive their streams.
 * Locks     scene.lock guards the list of snapshots.
 */
#include "config.h"

#include "base/plant.h"

#include "busy.h"
#include "fsck.h"
#include "guest.h"
#include "jitter.h"
#include "tag.h"
#include "threads.h"
#include "views.h"

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (4096 * KiB)
#define MAX_DISK (256 * KiB)
#define KEPT 3                  /* snapshots at a time, at most */
#define NAME_BYTES 16

#ifdef Q2_PLANTS
int q2_planted;
#endif

#define HOST .host = { .capacity = CAPACITY, .grows = true, .delay_us = 20 }
#define REQUESTS                                                              \
  .compress = true, .clients = 2, .requests = 250, .write = 50, .zero = 6,    \
  .trim = 10, .read = 25, .flush = 9, .fua_percent = 3

static const struct kind {
  struct qcow2_create_options create;
  struct workload w;
} kinds[] = {
  { { .virtual_size = 128 * KiB, .version = 3, .cluster_size = 4 * KiB },
    { .name = "4k", HOST, REQUESTS, .max_sectors = 40,
      .recipe = { .cluster_bits = 12, .disk_size = 128 * KiB } } },
  { { .virtual_size = 256 * KiB, .version = 2, .cluster_size = 16 * KiB },
    { .name = "16k, version 2", HOST, REQUESTS, .max_sectors = 100,
      .pattern = PATTERN_HOT,
      .recipe = { .cluster_bits = 14, .disk_size = 256 * KiB } } },
  { { .virtual_size = 96 * KiB, .version = 3, .cluster_size = 8 * KiB,
      .compression = QCOW2_COMPRESSION_ZSTD },
    { .name = "8k, zstd", HOST, REQUESTS, .max_sectors = 60,
      .recipe = { .cluster_bits = 13, .disk_size = 96 * KiB } } },
  { { .virtual_size = 256 * KiB, .version = 3, .cluster_size = 16 * KiB,
      .extended_l2 = true },
    { .name = "16k, subclusters", HOST, REQUESTS, .max_sectors = 80,
      .recipe = { .cluster_bits = 14, .disk_size = 256 * KiB } } },
};
#define NR_KINDS (sizeof kinds / sizeof kinds[0])

struct taken {
  char name[NAME_BYTES];
  uint64_t start, end;          /* ticks: between these it was */
};

static struct scene {
  struct guest guest;
  uint64_t seed;
  pthread_mutex_t lock;
  struct taken taken[KEPT];
  unsigned nr, made;
  atomic_bool stop;
  atomic_ulong looks, deletions;
} scene = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool
can_compress (const struct qcow2_create_options *o)
{
  return o->compression == QCOW2_COMPRESSION_ZSTD ? qcow2_has_zstd ()
    : qcow2_has_zlib ();
}

/* ---- Snapshots ---------------------------------------------------------- */

static void
take (void)
{
  struct guest *const g = &scene.guest;
  struct qcow2_snapshot_options o = { .date_sec = 1 };
  struct taken new = { .start = host_tick (&g->host) };
  struct qcow2_error err;

  snprintf (new.name, sizeof new.name, "s%u", scene.made++);
  o.name = view_name (new.name);
  if (!CHECK_EQ (qcow2_snapshot_create (g->image, &g->host.io, &o, &err), 0)) {
    printf ("%s\n", err.text);
    return;
  }
  new.end = host_tick (&g->host);
  pthread_mutex_lock (&scene.lock);
  scene.taken[scene.nr++] = new;
  pthread_mutex_unlock (&scene.lock);
}

/* Somebody may be reading it; then it stays. */
static void
delete (unsigned i)
{
  struct guest *const g = &scene.guest;
  const struct qcow2_name name = view_name (scene.taken[i].name);
  struct qcow2_error err;

  if (qcow2_snapshot_delete (g->image, &g->host.io, &name, false, NULL, &err)
      == -1) {
    if (!CHECK_EQ (err.kind, QCOW2_ERR_BUSY))
      printf ("%s\n", err.text);
    return;
  }
  atomic_fetch_add (&scene.deletions, 1);
  pthread_mutex_lock (&scene.lock);
  scene.taken[i] = scene.taken[--scene.nr];
  pthread_mutex_unlock (&scene.lock);
}

static void
editor (struct rng *rng)
{
  while (!scene.stop && unit_failures () == 0) {
    if (scene.nr == 0 || (scene.nr < KEPT && rng_below (rng, 2) == 0))
      take ();
    else
      delete ((unsigned) rng_below (rng, scene.nr));
    usleep ((useconds_t) rng_below (rng, 3000));
  }
}

/* ---- Reading them ------------------------------------------------------- */

static bool
is_as_taken (const struct taken *t, const unsigned char *buf, uint64_t sector,
             uint64_t nr)
{
  for (uint64_t i = 0; i < nr; ++i) {
    const uint32_t id = tag_read (buf + i * SECTOR, sector + i);

    if (!unit_check (id != TAG_FOREIGN &&
                     ledger_may_read (&scene.guest.ledger, sector + i, id,
                                      t->start, t->end),
                     __FILE__, __LINE__, "sector %" PRIu64 " of %s reads as "
                     "write %" PRId32, sector + i, t->name, (int32_t) id))
      return false;
  }
  return true;
}

/* All of it, in pieces of less than a cluster and of more. */
static void
read_all (struct qcow2_image *view, const struct taken *t, struct rng *rng,
          unsigned char *buf)
{
  const struct guest *const g = &scene.guest;
  const uint64_t sectors = g->ledger.nr_sectors;
  struct qcow2_error err;

  for (uint64_t at = 0, nr; at < sectors; at += nr) {
    nr = 1 + rng_below (rng, g->w->max_sectors);
    if (nr > sectors - at)
      nr = sectors - at;
    if (!CHECK_EQ (qcow2_pread (view, &g->host.io, buf + at * SECTOR,
                                (uint32_t) (nr * SECTOR), at * SECTOR, &err),
                   0) ||
        !is_as_taken (t, buf + at * SECTOR, at, nr))
      return;
  }
}

static void
look_at (struct qcow2_image *view, const struct taken *t, struct rng *rng)
{
  const size_t size = scene.guest.ledger.nr_sectors * SECTOR;
  unsigned char *const first = calloc (2, size), *const again = first + size;

  REQUIRE (first != NULL);
  read_all (view, t, rng, first);
  usleep ((useconds_t) rng_below (rng, 1000));
  read_all (view, t, rng, again);
  CHECK_BYTES (first, again, size);
  free (first);
  atomic_fetch_add (&scene.looks, 1);
}

static void
viewer (struct rng *rng)
{
  while (!scene.stop && unit_failures () == 0) {
    struct qcow2_image *view;
    struct qcow2_name name;
    struct qcow2_error err;
    struct taken t;
    bool any;

    pthread_mutex_lock (&scene.lock);
    any = scene.nr > 0;
    if (any)
      t = scene.taken[rng_below (rng, scene.nr)];
    pthread_mutex_unlock (&scene.lock);
    if (!any) {
      usleep (300);
      continue;
    }
    name = view_name (t.name);
    view = qcow2_open_view (scene.guest.image, &scene.guest.host.io,
                            QCOW2_VIEW_SNAPSHOT, &name, &err);
    if (view != NULL)
      look_at (view, &t, rng);
    else                        /* deleted meanwhile, or just now */
      CHECK (err.kind == QCOW2_ERR_NOT_FOUND || err.kind == QCOW2_ERR_BUSY);
    qcow2_close (view);
    usleep ((useconds_t) rng_below (rng, 2000));
  }
}

/* ---- Runs --------------------------------------------------------------- */

#define MEMBERS 3               /* besides the clients */

static void
member (void *arg, unsigned nr)
{
  struct rng rng = { scene.seed * 100 + nr };

  unit_context ("%s, seed %" PRIu64, (const char *) arg, scene.seed);
  (nr == 0 ? editor : viewer) (&rng);
}

static void
begin (const struct kind *kind, uint64_t seed)
{
  static const unsigned char zeros[MAX_DISK];
  struct guest_files files = { .disk = zeros };
  struct qcow2_error err;
  struct host h;

  host_init (&h, &kind->w.host, "", 0);
  REQUIRE (qcow2_create (&h.io, &kind->create, &err) == 0);
  files.image = h.bytes;
  files.size = h.size;
  guest_init (&scene.guest, &kind->w, seed, &files);
  host_free (&h);
  guest_open (&scene.guest);
  scene.seed = seed;
  scene.stop = false;
  scene.nr = 0;
}

static void
end (void)
{
  struct guest *const g = &scene.guest;

  while (scene.nr > 0 && unit_failures () == 0)
    delete (0);
  guest_read_all (g);
  if (CHECK (guest_close (g, true)))
    CHECK (fsck_check (g->host.bytes, g->host.size, false));
  guest_free (g);
}

static void
run (const struct kind *kind, uint64_t seed)
{
  struct threads threads;

  unit_context ("%s, seed %" PRIu64, kind->w.name, seed);
  begin (kind, seed);
  threads_start (&threads, MEMBERS, member,
                 (void *) (uintptr_t) kind->w.name);
  for (unsigned i = 0; i < 3 && unit_failures () == 0; ++i)
    guest_run (&scene.guest);
  scene.stop = true;
  threads_join (&threads);
  end ();
}

static void
run_some (uint64_t first, uint64_t nr)
{
  for (uint64_t seed = first; seed < first + nr; ++seed) {
    const struct kind *const kind = &kinds[seed % NR_KINDS];

    if (can_compress (&kind->create))
      run (kind, seed);
    if (unit_failures () > 0)
      break;
  }
}

#ifdef Q2_PLANTS
/* What threads do differs from run to run. */
#define MANY 40

static unsigned long
play_planted (void)
{
  run_some (1, MANY);
  return unit_failures ();
}

static void
find_planted (void)
{
  static const struct busy_plant plants[] = {
    { Q2_PLANT_FORGET_DECOMPRESSED,
      "decompressed clusters outlive their streams" },
    { Q2_PLANT_KEEP_DECOMPRESSED, "and those of snapshots that are deleted" },
  };

  run_some (1, NR_KINDS);
  busy_find (&q2_planted, plants, sizeof plants / sizeof plants[0],
             play_planted);
}
#endif

int
main (int argc, char *argv[])
{
  threads_watchdog ();
#ifdef Q2_PLANTS
  (void) argc;
  (void) argv;
  if (!qcow2_has_zlib ())
    unit_skip ("the engine was built without zlib");
  find_planted ();
#else
  if (!qcow2_has_zlib () && !qcow2_has_zstd ())
    unit_skip ("the engine was built without zlib and zstd");
  run_some (argc > 1 ? strtoull (argv[1], NULL, 0) : 1,
            argc > 2 ? strtoull (argv[2], NULL, 0)
            : unit_scaled (2 * NR_KINDS));
  printf ("%lu looks, %lu deletions\n", scene.looks, scene.deletions);
  CHECK (scene.deletions > 0 && scene.looks > 0);
#endif
  return unit_finish ();
}
