/* SPDX-License-Identifier: BSD-3-Clause */
/* test-snapshots-busy.c - a guest writes while a snapshot is taken, and all of
 * it may be interrupted anywhere.
 *
 * Before operations of the thread that takes the snapshot the guest does a
 * request (beside.h).  No request may fail.  The snapshot reads as the disk
 * could be read in the moment in which it was captured, and a request that ran
 * then is in it as a whole, or not at all.  The files that a crash could leave
 * behind are as busy.h says; they have the snapshot, or not.
 *
 * Linked with a copy of the engine that has the bugs of base/plant.h built in,
 * it is test-snapshots-busy-planted, and must notice those that concern it.
 */
#include "config.h"

#include "base/plant.h"

#include "busy.h"
#include "qemu.h"
#include "tag.h"

#include "image/image.h"

#ifdef Q2_PLANTS
int q2_planted;
#define PLANTED true
#else
#define PLANTED false
#endif

#define KiB (UINT64_C (1) << 10)
#define BEFORE 12               /* requests that no commit has seen, ... */
#define AFTER 10                /* ... and those when it is taken */

static const struct kind {
  struct workload w;
  bool overflows;               /* no cluster can have two users */
} kinds[] = {
  { { .recipe = { .options = "cluster_size=512,refcount_bits=64",
                  .cluster_bits = 9, .disk_size = 256 * KiB,
                  .fill_percent = 80, .snapshots = 1, .zero_percent = 30 },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 30 }, false },
  { { .recipe = { .options = "cluster_size=512,refcount_bits=2",
                  .cluster_bits = 9, .disk_size = 128 * KiB,
                  .fill_percent = 60 },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 90 }, false },
  { { .recipe = { .options = "cluster_size=512,refcount_bits=1",
                  .cluster_bits = 9, .disk_size = 128 * KiB,
                  .fill_percent = 60, .zero_percent = 10 },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 90 }, true },
  { { .recipe = { .options = "cluster_size=1k", .cluster_bits = 10,
                  .disk_size = 512 * KiB, .fill_percent = 70,
                  .compressed = true },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 20 }, false },
  { { .recipe = { .options = "cluster_size=1k,compat=0.10",
                  .cluster_bits = 10, .disk_size = 384 * KiB,
                  .fill_percent = 60, .snapshots = 1 },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 40 }, false },
  { { .recipe = { .options = "cluster_size=2k,lazy_refcounts=on",
                  .cluster_bits = 11, .disk_size = 768 * KiB,
                  .fill_percent = 50, .snapshots = 2 },
      .host = BUSY_HOST, BUSY_REQUESTS }, false },
  { { .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                  .disk_size = 512 * KiB, .fill_percent = 60,
                  .zero_percent = 20 },
      .host = BUSY_HOST, BUSY_REQUESTS }, false },
  { { .recipe = { .options = "cluster_size=16k,extended_l2=on",
                  .cluster_bits = 14, .disk_size = 512 * KiB,
                  .fill_percent = 60, .snapshots = 1 },
      .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 70 }, false },
};
#define NR_KINDS (sizeof kinds / sizeof kinds[0])

struct scene {
  struct busy b;                /* first: its steps get a pointer to it */
  const struct kind *kind;
  struct busy_snapshot *new;
  bool taken, captured;
  uint64_t not_yet, by_then;    /* ticks, before the capture and after it */
};

static const struct qcow2_name new_name = { "new", 3 };

/* ---- The run ------------------------------------------------------------ */

/* The thread that takes the snapshot is about to do something.  In between it
 * has captured, perhaps, and no request has begun.
 */
static int
watch (void *opaque, enum host_op_kind kind)
{
  struct scene *const s = opaque;
  struct guest *const g = &s->b.guest;

  (void) kind;
  if (s->captured)
    return 0;
  s->captured = atomic_load (&g->image->writer.sharing.active);
  if (s->captured)
    s->by_then = host_tick (&g->host);
  else
    s->not_yet = host_tick (&g->host);
  return 0;
}

static void
take (struct scene *s)
{
  const struct qcow2_snapshot_options options = {
    .name = new_name, .date_sec = 1000000000,
  };
  struct guest *const g = &s->b.guest;
  struct qcow2_error err = { .text = "" };

  s->not_yet = host_tick (&g->host);
  s->captured = false;
  s->new = busy_add (&s->b, "new");
  s->new->may_from = s->not_yet;
  beside_begin (&s->b.beside);
  s->taken =
    qcow2_snapshot_create (g->image, &g->host.io, &options, &err) == 0;
  s->new->must_from = s->taken ? host_tick (&g->host) : TICK_NEVER;
  beside_end (&s->b.beside);
  if (!s->taken)
    s->new->may_from = TICK_NEVER;
  CHECK (s->captured || PLANTED);
  if (s->taken == s->kind->overflows)
    busy_failed (&s->b, "taking it",
                 s->taken ? "there is no overflow" : err.text);
}

/* The one that may have run then: those before it had ended. */
static const struct guest_op *
last_begun (const struct scene *s)
{
  const struct ledger *const l = &s->b.guest.ledger;
  const struct guest_op *last = NULL;

  for (size_t i = 0; i < l->nr_ops; ++i)
    if (!l->ops[i].flush && l->ops[i].start < s->by_then)
      last = &l->ops[i];
  return last;
}

/* A request that ran is in it as a whole, or not at all. */
static void
look_at_across (struct scene *s)
{
  const struct guest_op *const op = last_begun (s);
  uint64_t nr = 0;

  if (op == NULL || op->id == TAG_ZERO)
    return;
  for (uint64_t i = op->sector; i < op->sector + op->count; ++i)
    nr += tag_read (s->new->disk + i * SECTOR, i) == op->id;
  if (nr > 0 && nr < op->count)
    busy_failed (&s->b, "in the snapshot", "a part of a request");
}

static void
look_at_new (struct scene *s)
{
  struct guest *const g = &s->b.guest;
  const char *problem = NULL;
  unsigned ignored;

  if (s->taken && !busy_read_snapshot (&s->b, &g->host, g->image, "new",
                                       s->new->disk))
    problem = "the snapshot cannot be read";
  if (problem == NULL)
    problem = busy_look_at_snapshots (&s->b, &g->host, g->image,
                                      host_tick (&g->host), &ignored);
  for (uint64_t i = 0; problem == NULL && s->taken && i < g->ledger.nr_sectors;
       ++i) {
    const uint32_t id = tag_read (s->new->disk + i * SECTOR, i);

    if (id == TAG_FOREIGN || !ledger_may_read (&g->ledger, i, id, s->not_yet,
                                               s->by_then))
      problem = "the snapshot does not show the moment";
  }
  if (problem != NULL)
    busy_failed (&s->b, "after it was taken", problem);
  else if (s->taken)
    look_at_across (s);
}

/* In a copy, since the log goes on. */
static void
delete_new (struct scene *s)
{
  const struct host_spec spec = BUSY_HOST;
  struct qcow2_image *image;
  struct qcow2_error err;
  struct host h;

  host_init (&h, &spec, s->b.guest.host.bytes, s->b.guest.host.size);
  image = busy_open (&h, true);
  if (image == NULL ||
      qcow2_snapshot_delete (image, &h.io, &new_name, false, NULL, &err) == -1)
    busy_failed (&s->b, "deleting it", image ? err.text
                 : "it cannot be opened");
  if (image == NULL || busy_end_image (&h, image))
    busy_has_leaks (&s->b, &h, "when it was deleted");
  host_free (&h);
}

/* The disk differs from its snapshots, and shares some tables with them. */
static void
run (struct scene *s, uint64_t seed)
{
  struct busy *const b = &s->b;
  struct guest *const g = &b->guest;

  busy_begin (b, &s->kind->w, seed, BEFORE);
  b->beside.before = watch;
  host_record (&g->host);
  busy_open_guest (b);
  beside_steps (&b->beside, BEFORE);
  take (s);
  beside_steps (&b->beside, AFTER);
  look_at_new (s);
  busy_look_at_now (b);
  if (!guest_close (g, true))
    busy_failed (b, "at the end", "it does not end well");
  if (atomic_load (&g->errors) > 0)
    busy_failed (b, "taking it", "a request has failed");
  if (b->failures == 0 && !busy_has_leaks (b, &g->host, "at the end") &&
      s->taken)
    delete_new (s);
}

/* ---- Scenes ------------------------------------------------------------- */

static unsigned long
play (struct scene *s, uint64_t seed)
{
  struct busy *const b = &s->b;
  const unsigned old = (1u << s->kind->w.recipe.snapshots) - 1;

  run (s, seed);
  if (b->failures == 0) {
    busy_replay (b, seed);
    CHECK (b->failures > 0 ||
           (b->shown[old] > 0 && (b->shown[2 * old + 1] > 0) == s->taken));
  }
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
  return play_all (1, 1, true);
}

static void
find_planted (void)
{
  static const struct busy_plant plants[] = {
    { Q2_PLANT_EARLY_SWITCH, "published before it is durable" },
    { Q2_PLANT_KEEP_COPIED, "L2 entries stay COPIED" },
    { Q2_PLANT_KEEP_COPIED_L1, "L1 entries stay COPIED" },
    { Q2_PLANT_FORGET_SHARING, "a table is copied, and not shared" },
    { Q2_PLANT_COPY_FLAGS, "it is copied with its flags" },
    { Q2_PLANT_SHARE_UNSETTLED, "it is shared as it is in the file" },
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
  CHECK_EQ (play_all (1, unit_scaled (2), false), 0);
#endif
  qemu_finish ();
  return unit_finish ();
}
