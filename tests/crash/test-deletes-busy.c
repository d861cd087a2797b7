/* SPDX-License-Identifier: BSD-3-Clause */
/* test-deletes-busy.c - a guest writes while snapshots are deleted, and all of
 * it may be interrupted anywhere.
 *
 * The snapshots share most tables with the disk, and some with each other,
 * when the first one is deleted.  Before operations of the thread that deletes
 * the guest does a request (beside.h).  No request may fail.  The files that a
 * crash could leave behind are as busy.h says: a snapshot that is deleted is
 * there, and right, or gone.  When all has ended nothing is leaked, and what
 * is alone is COPIED.
 *
 * Linked with a copy of the engine that has the bugs of base/plant.h built in,
 * it is test-deletes-busy-planted, and must notice those that concern it.
 */
#include "config.h"

#include "base/plant.h"

#include "busy.h"
#include "qemu.h"

#ifdef Q2_PLANTS
int q2_planted;
#define PLANTED true
#else
#define PLANTED false
#endif

#define KiB (UINT64_C (1) << 10)
#define BEFORE 3                /* requests when the disk has snapshots, ... */
#define DIRTY 4                 /* those that no commit has seen, ... */
#define AFTER 8                 /* ... and those after each deletion */

static const struct kind {
  struct workload w;
  unsigned nr;                  /* snapshots that are taken ... */
  unsigned deleted;             /* ... and deleted, one after the other */
} kinds[] = {
  { { .recipe = { .options = "cluster_size=512,refcount_bits=64",
                  .cluster_bits = 9, .disk_size = 512 * KiB,
                  .fill_percent = 50, .zero_percent = 20 },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 20 }, 1, 1 },
  { { .recipe = { .options = "cluster_size=512", .cluster_bits = 9,
                  .disk_size = 384 * KiB, .fill_percent = 50 },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 24 }, 2, 1 },
  { { .recipe = { .options = "cluster_size=512,refcount_bits=2",
                  .cluster_bits = 9, .disk_size = 256 * KiB,
                  .fill_percent = 50 },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 24 }, 2, 2 },
  { { .recipe = { .options = "cluster_size=1k", .cluster_bits = 10,
                  .disk_size = 768 * KiB, .fill_percent = 60,
                  .compressed = true },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 20 }, 1, 1 },
  { { .recipe = { .options = "cluster_size=1k", .cluster_bits = 10,
                  .disk_size = 768 * KiB, .fill_percent = 50,
                  .compressed = true, .snapshots = 1 },
      .host = BUSY_HOST, BUSY_REQUESTS, .compress = true,
      .max_sectors = 16 }, 1, 1 },
  { { .recipe = { .options = "cluster_size=1k,compat=0.10",
                  .cluster_bits = 10, .disk_size = 768 * KiB,
                  .fill_percent = 40 },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 24 }, 2, 2 },
  { { .recipe = { .options = "cluster_size=1k,lazy_refcounts=on",
                  .cluster_bits = 10, .disk_size = 768 * KiB,
                  .fill_percent = 40, .snapshots = 1 },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 24 }, 1, 1 },
  { { .recipe = { .options = "cluster_size=16k,extended_l2=on",
                  .cluster_bits = 14, .disk_size = 512 * KiB,
                  .fill_percent = 60 },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 70 }, 1, 1 },
};
#define NR_KINDS (sizeof kinds / sizeof kinds[0])

struct scene {
  struct busy b;                /* first: its steps get a pointer to it */
  const struct kind *kind;
};

/* ---- The run ------------------------------------------------------------ */

/* A snapshot, and a few requests, so that the next one is another. */
static void
take (struct scene *s, const char *name)
{
  struct guest *const g = &s->b.guest;
  const struct qcow2_snapshot_options options = {
    .name = { name, strlen (name) }, .date_sec = 1000000000,
  };
  struct qcow2_error err;

  if (!CHECK_EQ (qcow2_snapshot_create (g->image, &g->host.io, &options, &err),
                 0))
    printf ("%s\n", err.text);
  CHECK (busy_read_snapshot (&s->b, &g->host, g->image, name,
                             busy_add (&s->b, name)->disk));
  beside_steps (&s->b.beside, BEFORE);
}

/* Not all of it has been written since it was opened: most tables are not in
 * the cache.
 */
static void
begin (struct scene *s, uint64_t seed)
{
  struct busy *const b = &s->b;

  busy_begin (b, &s->kind->w, seed, BEFORE);
  guest_open (&b->guest);
  for (unsigned i = 0; i < s->kind->nr; ++i)
    take (s, i == 0 ? "a" : "b");
  CHECK (guest_close (&b->guest, true));
  host_record (&b->guest.host);
  busy_open_guest (b);
  beside_steps (&b->beside, DIRTY);
}

static void
delete (struct scene *s, struct busy_snapshot *gone)
{
  const struct qcow2_name name = { gone->name, strlen (gone->name) };
  struct guest *const g = &s->b.guest;
  struct qcow2_error err;

  gone->must_until = host_tick (&g->host);
  beside_begin (&s->b.beside);
  if (qcow2_snapshot_delete (g->image, &g->host.io, &name, false, NULL, &err)
      == -1)
    busy_failed (&s->b, "deleting it", err.text);
  else
    gone->may_until = host_tick (&g->host);
  beside_end (&s->b.beside);
  beside_steps (&s->b.beside, AFTER);
}

static void
look_at_others (struct scene *s)
{
  struct guest *const g = &s->b.guest;
  unsigned ignored;
  const char *const problem =
    busy_look_at_snapshots (&s->b, &g->host, g->image, host_tick (&g->host),
                            &ignored);

  if (problem != NULL)
    busy_failed (&s->b, "after it was deleted", problem);
}

static void
run (struct scene *s, uint64_t seed)
{
  struct busy *const b = &s->b;
  const unsigned first = s->kind->w.recipe.snapshots;

  begin (s, seed);
  for (unsigned i = 0; i < s->kind->deleted; ++i)
    delete (s, &b->snapshots[first + (i + seed) % s->kind->nr]);
  look_at_others (s);
  busy_look_at_now (b);
  if (!guest_close (&b->guest, true))
    busy_failed (b, "at the end", "it does not end well");
  if (atomic_load (&b->guest.errors) > 0)
    busy_failed (b, "deleting it", "a request has failed");
  if (b->failures == 0)
    busy_has_leaks (b, &b->guest.host, "at the end");
}

/* ---- Scenes ------------------------------------------------------------- */

/* There were states with all of them, and with those that are left. */
static void
check_shown (const struct scene *s)
{
  const struct busy *const b = &s->b;
  unsigned left = 0;

  for (unsigned i = 0; i < b->nr_snapshots; ++i)
    left |= (unsigned) (b->snapshots[i].may_until == TICK_NEVER) << i;
  CHECK (b->shown[(1u << b->nr_snapshots) - 1] > 0 && b->shown[left] > 0);
}

static unsigned long
play (struct scene *s, uint64_t seed)
{
  struct busy *const b = &s->b;

  run (s, seed);
  if (b->failures == 0)
    busy_replay (b, seed);
  if (b->failures == 0)
    check_shown (s);
  busy_end (b);
  return b->failures;
}

/* 'enough': until something was found. */
static unsigned long
play_all (uint64_t first, uint64_t nr, bool enough)
{
  static struct scene s;
  unsigned long failures = 0;

  busy_init (&s.b, PLANTED);
  s.b.only_lowered = true;
  for (size_t k = 0; k < NR_KINDS && !(enough && failures > 0); ++k) {
    s.kind = &kinds[k];
    recipe_make (&s.b.image, &kinds[k].w.recipe, first);
    for (uint64_t i = 0; i < nr && !(enough && failures > 0); ++i)
      failures += play (&s, first + i);
    recipe_free (&s.b.image);
  }
  busy_free (&s.b);
  return failures;
}

#ifdef Q2_PLANTS
static unsigned long
play_planted (void)
{
  return play_all (1, 2, true);
}

static void
find_planted (void)
{
  static const struct busy_plant plants[] = {
    { Q2_PLANT_LOWER_EARLY, "refcounts are lowered before it is gone" },
    { Q2_PLANT_OWN_EARLY, "entries are COPIED before it is true" },
  };

  CHECK_EQ (play_all (1, 1, false), 0);
  busy_find (&q2_planted, plants, sizeof plants / sizeof plants[0],
             play_planted);
}
#endif

int
main (void)
{
  qemu_init ();
#ifdef Q2_PLANTS
  find_planted ();
#else
  CHECK_EQ (play_all (1, unit_scaled (1), false), 0);
#endif
  qemu_finish ();
  return unit_finish ();
}
