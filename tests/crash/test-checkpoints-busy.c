/* SPDX-License-Identifier: BSD-3-Clause */
/* test-checkpoints-busy.c - a guest writes while a checkpoint is made, and all
 * of it may be interrupted anywhere.
 *
 * A checkpoint is a snapshot and changes of bitmaps at one point in time.
 * Before operations of the thread that makes it the guest does a request
 * (beside.h).  No request may fail.  Of each file that a crash could leave
 * must hold, besides what busy.h says: it has the snapshot and the new set of
 * bitmaps, or neither; a bitmap that is enabled has each granule whose bytes
 * differ from what they were when it was clear - which for two of the new set
 * is in the snapshot - or is lazy, and marked as in use; one that is disabled
 * has at least what it had in the moment of the snapshot.  When all has ended
 * each has just its bits.
 *
 * Linked with a copy of the engine that has the bugs of base/plant.h built in,
 * it is test-checkpoints-busy-planted, and must notice those that concern it.
 */
#include "config.h"

#include "base/plant.h"

#include "bitmap_set.h"
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
#define BEFORE 8                /* requests that no commit has seen, ... */
#define AFTER 8                 /* ... and those when it is made */

#define NAME(s) { s, sizeof (s) - 1 }
#define ACT(v, s) { .verb = QCOW2_BITMAP_##v, .name = NAME (s) }
#define ADD(s, g)                                                             \
  { .verb = QCOW2_BITMAP_ADD, .name = NAME (s), .granularity = g }

static const struct workload kinds[] = {
  { .recipe = { .options = "cluster_size=512,refcount_bits=64",
                .cluster_bits = 9, .disk_size = 192 * KiB,
                .fill_percent = 50 },
    .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 20 },
  { .recipe = { .options = "cluster_size=1k,lazy_refcounts=on",
                .cluster_bits = 10, .disk_size = 384 * KiB,
                .fill_percent = 50, .snapshots = 1 },
    .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 30 },
  { .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 512 * KiB, .fill_percent = 60 },
    .host = BUSY_HOST, BUSY_REQUESTS, .max_sectors = 40 },
};
#define NR_KINDS (sizeof kinds / sizeof kinds[0])

static const struct qcow2_bitmap_action first_set[] = {
  ADD ("b1", 1024), ADD ("kept", 2048), ADD ("on", 512), ADD ("off", 4096),
};
static const struct qcow2_bitmap_action checkpoint[] = {
  ACT (DISABLE, "b1"), ADD ("b2", 1024), ACT (CLEAR, "kept"),
};

/* How a bitmap is to be judged, before the checkpoint and after it. */
enum since {
  ABSENT,
  CONSTANT,                     /* just what it had at the start */
  SINCE_START,                  /* that, and what has changed since then */
  UNTIL_MOMENT,                 /* that, and what had changed by the moment */
  SINCE_MOMENT,                 /* what has changed since that */
};
static const struct {
  const char *name;
  enum since before, after;
} bitmaps[] = {
  { "b1", SINCE_START, UNTIL_MOMENT },
  { "kept", SINCE_START, SINCE_MOMENT },
  { "on", SINCE_START, SINCE_START },
  { "off", CONSTANT, CONSTANT },
  { "b2", ABSENT, SINCE_MOMENT },
};
#define NR_BITMAPS (sizeof bitmaps / sizeof bitmaps[0])

struct scene {
  struct busy b;                /* first: its steps get a pointer to it */
  struct workload w;            /* of a kind, in one of the modes */
  struct bitmap_set start;
  unsigned char disk[BUSY_MAX_DISK];    /* then */
  size_t first_op;              /* of the ledger, after that */
  unsigned index;               /* of the snapshot */
  _Atomic bool captured;
  _Atomic uint64_t not_yet;     /* a tick before the moment, ... */
  uint64_t by_then;             /* ... and one after it */
  unsigned long unmarked;       /* bitmaps of states */
};

static const struct busy_snapshot *
snapshot_of (const struct scene *s)
{
  return &s->b.snapshots[s->index];
}

/* ---- Requests ----------------------------------------------------------- */

/* Whoever sees first that it was captured. */
static void
note_moment (struct scene *s)
{
  struct guest *const g = &s->b.guest;

  if (atomic_load (&s->captured))
    return;
  if (!atomic_load (&g->image->writer.sharing.active))
    s->not_yet = host_tick (&g->host);
  else if (!atomic_exchange (&s->captured, true))
    s->by_then = host_tick (&g->host);
}

static void
request (void *opaque, struct rng *rng)
{
  struct scene *const s = opaque;

  unit_context ("%s", s->b.what);
  guest_request (&s->b.guest, rng);
  note_moment (s);
}

static int
watch (void *opaque, enum host_op_kind kind)
{
  (void) kind;
  note_moment (opaque);
  return 0;
}

/* At most one has run in the moment; of zeros it is not known whether they are
 * in the snapshot.
 */
static bool
may_be_before (const struct scene *s, const struct guest_op *op)
{
  const unsigned char *const disk = snapshot_of (s)->disk;
  bool found = op->id == TAG_ZERO;

  if (op->end <= s->not_yet || op->start >= s->by_then)
    return op->end <= s->not_yet;
  for (uint64_t i = op->sector; i < op->sector + op->count; ++i)
    found |= tag_read (disk + i * SECTOR, i) == op->id;
  return found;
}

static bool
may_be_after (const struct scene *s, const struct guest_op *op)
{
  return (op->id == TAG_ZERO && op->end > s->not_yet) ||
    !may_be_before (s, op);
}

/* ---- Bits --------------------------------------------------------------- */

static bool
concerns (const struct scene *s, const struct guest_op *op, enum since since)
{
  switch (since) {
  case SINCE_START:
    return true;
  case UNTIL_MOMENT:
    return may_be_before (s, op);
  case SINCE_MOMENT:
    return may_be_after (s, op);
  default:
    return false;
  }
}

static bool
overlaps (const struct bitmap_seen *b, uint64_t bit, uint64_t from,
          uint64_t to)
{
  const uint64_t at = bit << b->granularity_bits;

  return from < to && at < to && from < at + (UINT64_C (1) <<
                                              b->granularity_bits);
}

/* What is trimmed, but no whole cluster of the disk, is not in the ledger. */
static bool
touches (const struct scene *s, const struct guest_op *op,
         const struct bitmap_seen *b, uint64_t bit, bool for_certain)
{
  const uint64_t more =
    op->id == TAG_ZERO ? UINT64_C (1) << s->w.recipe.cluster_bits : 0;
  const uint64_t from = op->sector * SECTOR;
  const uint64_t to = from + op->count * SECTOR;

  if (op->flush || (for_certain && op->id == TAG_ZERO))
    return false;
  return overlaps (b, bit, from > more ? from - more : 0, to + more);
}

static bool
was_set (struct scene *s, const struct bitmap_seen *b, uint64_t bit)
{
  const struct bitmap_seen *const old = bitmap_set_find (&s->start, b->name);

  return old != NULL && bitmap_has (old, bit);
}

/* Requests of the ledger set this bit, or may have. */
static bool
is_asked_for (const struct scene *s, const struct bitmap_seen *b,
              uint64_t bit, enum since since, bool for_certain)
{
  const struct ledger *const l = &s->b.guest.ledger;

  for (size_t i = s->first_op; i < l->nr_ops; ++i)
    if (touches (s, &l->ops[i], b, bit, for_certain) &&
        concerns (s, &l->ops[i], since))
      return true;
  return false;
}

/* Of a disk that is 'disk' now, or was in the moment. */
static bool
must_have (struct scene *s, const struct bitmap_seen *b, uint64_t bit,
           enum since since, const unsigned char *disk)
{
  const uint64_t size = s->b.image.disk_size;
  const unsigned char *const then = snapshot_of (s)->disk;

  switch (since) {
  case SINCE_START:
    return was_set (s, b, bit) ||
      bitmap_part_differs (b, bit, disk, s->disk, size);
  case UNTIL_MOMENT:
    return was_set (s, b, bit) ||
      bitmap_part_differs (b, bit, then, s->disk, size) ||
      is_asked_for (s, b, bit, since, true);
  case SINCE_MOMENT:
    return bitmap_part_differs (b, bit, disk, then, size);
  default:
    return was_set (s, b, bit);
  }
}

/* ---- States ------------------------------------------------------------- */

static const char *
judge_bits (struct scene *s, const struct bitmap_seen *b, enum since since,
            const unsigned char *disk)
{
  static char text[100];

  for (uint64_t bit = 0; bit < b->nr_bits; ++bit) {
    const bool has = bitmap_has (b, bit);

    if (!has && must_have (s, b, bit, since, disk)) {
      snprintf (text, sizeof text, "'%.10s' lacks granule %" PRIu64, b->name,
                bit);
      return text;
    }
    if (has && since == CONSTANT && !was_set (s, b, bit))
      return "one that is disabled has changed";
  }
  return NULL;
}

static const char *
judge_bitmap (struct scene *s, const struct bitmap_seen *b, enum since since,
              const unsigned char *disk)
{
  const bool enabled = since == SINCE_START || since == SINCE_MOMENT;

  if (enabled != (b->flags & BITMAP_AUTO) / BITMAP_AUTO)
    return "a bitmap is enabled that should not be, or the other way round";
  if (!(b->flags & BITMAP_IN_USE)) {
    s->unmarked++;
    return judge_bits (s, b, since, disk);
  }
  return !enabled ? "one that is disabled is marked as in use"
    : s->w.bitmaps == QCOW2_BITMAPS_DURABLE
    ? "one that is true at any moment is marked as in use" : NULL;
}

static const char *
judge_set (struct scene *s, struct bitmap_set *seen,
           const unsigned char *disk, bool is_new)
{
  size_t nr = 0;

  if (seen->problem[0] != '\0')
    return "the bitmap directory is damaged";
  for (size_t i = 0; i < NR_BITMAPS; ++i) {
    const struct bitmap_seen *const b =
      bitmap_set_find (seen, bitmaps[i].name);
    const enum since since = is_new ? bitmaps[i].after : bitmaps[i].before;
    const char *problem;

    if ((since == ABSENT) != (b == NULL))
      return "a snapshot without the bitmaps, or bitmaps without it";
    if (b != NULL && (problem = judge_bitmap (s, b, since, disk)) != NULL)
      return problem;
    nr += b != NULL;
  }
  return nr == seen->nr ? NULL : "a bitmap that nobody has made";
}

static const char *
judge (struct busy *b, const struct state *state, const unsigned char *disk,
       unsigned shown)
{
  struct scene *const s = (struct scene *) b;
  struct bitmap_set seen;
  const char *problem;

  bitmap_set_load (&seen, state->bytes, state->size);
  problem = judge_set (s, &seen, disk, shown >> s->index & 1);
  bitmap_set_free (&seen);
  return problem;
}

/* ---- The end ------------------------------------------------------------ */

static void
look_at_bits (struct scene *s, const struct bitmap_seen *b, enum since since)
{
  for (uint64_t bit = 0; bit < b->nr_bits; ++bit) {
    const bool old = since != SINCE_MOMENT && was_set (s, b, bit);

    if (bitmap_has (b, bit)
        ? old || is_asked_for (s, b, bit, since, false) ||
          /* What was written until its bits were stored. */
          (since == UNTIL_MOMENT && is_asked_for (s, b, bit, SINCE_START,
                                                  false))
        : !old && !is_asked_for (s, b, bit, since, true))
      continue;
    printf ("'%s', granule %" PRIu64 "\n", b->name, bit);
    busy_failed (&s->b, "at the end", bitmap_has (b, bit)
                 ? "a bit that nobody has set" : "a bit is missing");
    return;
  }
}

static void
look_at_end (struct scene *s)
{
  const struct host *const h = &s->b.guest.host;
  struct bitmap_set seen;

  bitmap_set_load (&seen, h->bytes, h->size);
  for (size_t i = 0; i < NR_BITMAPS; ++i) {
    const struct bitmap_seen *const b =
      bitmap_set_find (&seen, bitmaps[i].name);

    if (b == NULL || (b->flags & BITMAP_IN_USE))
      busy_failed (&s->b, "at the end", "a bitmap is missing, or in use");
    else
      look_at_bits (s, b, bitmaps[i].after);
  }
  bitmap_set_free (&seen);
}

/* ---- The run ------------------------------------------------------------ */

/* Bitmaps with some bits, in a file that was ended. */
static void
begin (struct scene *s, uint64_t seed)
{
  static const struct qcow2_bitmap_action off[] = { ACT (DISABLE, "off") };
  struct busy *const b = &s->b;
  struct guest *const g = &b->guest;
  struct qcow2_error err;

  busy_begin (b, &s->w, seed, BEFORE);
  guest_open (g);
  CHECK_EQ (qcow2_edit_bitmaps (g->image, &g->host.io, first_set,
                                sizeof first_set / sizeof first_set[0], NULL,
                                NULL, &err), 0);
  beside_steps (&b->beside, 3);
  CHECK_EQ (qcow2_edit_bitmaps (g->image, &g->host.io, off, 1, NULL, NULL,
                                &err), 0);
  REQUIRE (qcow2_pread (g->image, &g->host.io, s->disk,
                        (uint32_t) b->image.disk_size, 0, &err) == 0);
  CHECK (guest_close (g, true));
  bitmap_set_load (&s->start, g->host.bytes, g->host.size);
  CHECK_EQ (s->start.nr, sizeof first_set / sizeof first_set[0]);
}

static void
open_again (struct scene *s)
{
  struct busy *const b = &s->b;
  struct guest *const g = &b->guest;

  s->first_op = g->ledger.nr_ops;
  s->captured = false;
  b->beside.step = request;
  b->beside.before = watch;
  b->judge = judge;
  host_record (&g->host);
  busy_open_guest (b);
  s->not_yet = host_tick (&g->host);
  beside_steps (&b->beside, BEFORE);
}

static void
make (struct scene *s)
{
  const struct qcow2_snapshot_options options = {
    .name = NAME ("new"), .date_sec = 1000000000,
  };
  struct guest *const g = &s->b.guest;
  struct qcow2_part part = {
    .image = g->image, .io = &g->host.io, .actions = checkpoint,
    .nr_actions = sizeof checkpoint / sizeof checkpoint[0],
    .snapshot = &options,
  };
  struct busy_snapshot *const new = busy_add (&s->b, "new");
  struct qcow2_error err;
  size_t ignored;
  int r;

  s->index = s->b.nr_snapshots - 1;
  new->may_from = host_tick (&g->host);
  beside_begin (&s->b.beside);
  r = qcow2_transact (&part, 1, &ignored, &err);
  new->must_from = host_tick (&g->host);
  beside_end (&s->b.beside);
  if (r == -1)
    busy_failed (&s->b, "making it", err.text);
  else if (!busy_read_snapshot (&s->b, &g->host, g->image, "new", new->disk))
    busy_failed (&s->b, "making it", "the snapshot cannot be read");
  CHECK (s->captured || PLANTED);
}

static void
run (struct scene *s, uint64_t seed)
{
  struct busy *const b = &s->b;

  begin (s, seed);
  open_again (s);
  make (s);
  beside_steps (&b->beside, AFTER);
  busy_look_at_now (b);
  if (!guest_close (&b->guest, true))
    busy_failed (b, "at the end", "it does not end well");
  if (atomic_load (&b->guest.errors) > 0)
    busy_failed (b, "making it", "a request has failed");
  if (b->failures == 0)
    busy_has_leaks (b, &b->guest.host, "at the end");
  /* Bugs are to be found in what a crash leaves. */
  if (b->failures == 0 && !PLANTED)
    look_at_end (s);
}

/* ---- Scenes ------------------------------------------------------------- */

static unsigned long
play (struct scene *s, uint64_t seed)
{
  struct busy *const b = &s->b;
  const unsigned old = (1u << s->w.recipe.snapshots) - 1;

  s->unmarked = 0;
  run (s, seed);
  if (b->failures == 0)
    busy_replay (b, seed);
  if (b->failures == 0)
    CHECK (b->shown[old] > 0 && b->shown[2 * old + 1] > 0 &&
           s->unmarked > b->shown[old] + b->shown[2 * old + 1]);
  bitmap_set_free (&s->start);
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
  for (size_t k = 0; k < 2 * NR_KINDS && !(enough && failures > 0); ++k) {
    s.w = kinds[k / 2];
    s.w.bitmaps = k % 2 ? QCOW2_BITMAPS_DURABLE : QCOW2_BITMAPS_LAZY;
    s.w.name = k % 2 ? "durable" : "lazy";
    recipe_make (&s.b.image, &s.w.recipe, first);
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
    { Q2_PLANT_FORGET_SINCE, "what changes meanwhile is forgotten" },
    { Q2_PLANT_EARLY_SWITCH, "published before it is durable" },
    { Q2_PLANT_BITMAPS_STORE_NOTHING, "no bits are stored" },
    { Q2_PLANT_BITMAPS_NEXT_UNMARKED, "no marks in the next directory" },
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
