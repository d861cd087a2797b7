/* SPDX-License-Identifier: BSD-3-Clause */
/* test-bitmaps-crowd.c - several clients write at once while durable bitmaps
 * and snapshots come and go, and all of it may be interrupted anywhere.
 *
 * The clients' threads run freely (crowd.h), and now and then one loses the
 * processor between two critical sections (jitter.h).  Beside them bitmaps are
 * added, cleared and removed, a checkpoint is made, a snapshot is deleted, and
 * zones are retired, in an order that the seed chooses.  No request may fail.
 *
 * Each edit replaces a bitmap whose name has its number, so a file that a
 * crash leaves says which edit was its last one.  Of each must hold, besides
 * what busy.h says: that edit had begun, and all that had returned are there;
 * it has the bitmaps and the snapshot of that edit; none is marked as in use.
 * One that is enabled has each granule with a sector that the disk cannot have
 * had in the moment when the bitmap was empty.  That moment is that of the
 * snapshot, or between two ticks; then it is enough for the sector to be what
 * any write of that time may have left there (ledger.h).  More than that is
 * not known, and nothing else is asked for; but when all has ended no bit is
 * set that no request can have set.  One that is disabled has what the disk
 * had got by then, and does not change any more.
 *
 * Linked with a copy of the engine that has the bugs of base/plant.h built in,
 * it is test-bitmaps-crowd-planted, and must notice those that concern it.
 */
#include "config.h"

#include "base/plant.h"

#include "bitmap_set.h"
#include "busy.h"
#include "crowd.h"
#include "qemu.h"
#include "tag.h"

#include <limits.h>

#ifdef Q2_PLANTS
int q2_planted;
#define PLANTED true
#else
#define PLANTED false
#endif

#define KiB (UINT64_C (1) << 10)
#define BEFORE 8                /* requests before there are bitmaps */
#define REQUESTS 72             /* of all clients */
#define MAX_BITMAPS 8

#define CROWD_HOST                                                            \
  { .capacity = BUSY_MAX_FILE, .grows = true, .delay_us = 60 }
#define CROWD_REQUESTS                                                        \
  .write = 60, .zero = 12, .trim = 10, .read = 4, .flush = 6, .idle = 2,      \
  .fua_percent = 5, .bitmaps = QCOW2_BITMAPS_DURABLE

static const struct workload kinds[] = {
  { .recipe = { .options = "cluster_size=512,refcount_bits=64",
                .cluster_bits = 9, .disk_size = 128 * KiB,
                .fill_percent = 50, .snapshots = 1 },
    .host = CROWD_HOST, CROWD_REQUESTS, .max_sectors = 12 },
  { .recipe = { .options = "cluster_size=1k,lazy_refcounts=on",
                .cluster_bits = 10, .disk_size = 256 * KiB,
                .fill_percent = 60, .snapshots = 1 },
    .host = CROWD_HOST, CROWD_REQUESTS, .max_sectors = 16 },
  { .recipe = { .options = "cluster_size=4k", .cluster_bits = 12,
                .disk_size = 256 * KiB, .fill_percent = 90, .snapshots = 1 },
    .host = CROWD_HOST, CROWD_REQUESTS, .max_sectors = 16 },
};
#define NR_KINDS (sizeof kinds / sizeof kinds[0])

/* What is done beside the clients, each once. */
enum verb { ADD, CLEAR, REMOVE, CHECKPOINT, DELETE };
#define NR_VERBS 5

/* The last edit of bitmaps that an image has. */
#define NR_ERAS NR_VERBS        /* one at the start, and without DELETE */

/* One bitmap, since it was empty. */
struct known {
  unsigned serial;              /* its name */
  bool enabled;
  uint64_t from, to;            /* it was empty in a moment between them, */
  const unsigned char *then;    /* with that disk; NULL: not known */
  const unsigned char *last;    /* the disk when it was disabled */
};

struct era {
  uint64_t began, returned;     /* ticks */
  int snapshot;                 /* index of the one that it took, or -1 */
  struct known known[MAX_BITMAPS];
  unsigned nr;
};

struct scene {
  struct busy b;                /* first: judge gets a pointer to it */
  struct workload w;
  struct crowd crowd;
  struct rng rng;
  enum verb verbs[NR_VERBS];    /* in their order */
  struct era era[NR_ERAS];
  unsigned nr;                  /* eras */
  unsigned nr_serials;
  unsigned char *frozen[MAX_BITMAPS];   /* bits of those that are disabled */
  unsigned long seen[NR_ERAS];  /* states */
  unsigned long tight;          /* bitmaps of states that miss some bits, but
                                   not those that they must have */
};

/* ---- Edits -------------------------------------------------------------- */

struct edit {
  struct qcow2_bitmap_action action[6];
  char name[6][16];
  size_t nr;
};

static struct qcow2_bitmap_action *
act (struct edit *e, enum qcow2_bitmap_verb verb, char letter, unsigned serial)
{
  struct qcow2_bitmap_action *const a = &e->action[e->nr];
  char *const name = e->name[e->nr++];

  snprintf (name, sizeof e->name[0], "%c%u", letter, serial);
  *a = (struct qcow2_bitmap_action) {
    .verb = verb, .name = { name, strlen (name) },
  };
  return a;
}

static struct known *
some_enabled (struct scene *s, struct era *era, unsigned not_this)
{
  for (;;) {
    struct known *const k = &era->known[rng_below (&s->rng, era->nr)];

    if (k->enabled && k->serial != not_this)
      return k;
  }
}

static struct known *
add_known (struct scene *s, struct era *era, struct edit *e)
{
  struct known *const k = &era->known[era->nr++];

  REQUIRE (era->nr <= MAX_BITMAPS && s->nr_serials < MAX_BITMAPS);
  *k = (struct known) { .serial = s->nr_serials++, .enabled = true };
  act (e, QCOW2_BITMAP_ADD, 'b', k->serial)->granularity =
    UINT64_C (512) << rng_below (&s->rng, 3);
  return k;
}

/* Its number, in the name of a bitmap. */
static void
add_marker (struct scene *s, struct edit *e)
{
  struct qcow2_bitmap_action *a;

  if (s->nr > 0)
    act (e, QCOW2_BITMAP_REMOVE, 'm', s->nr - 1);
  a = act (e, QCOW2_BITMAP_ADD, 'm', s->nr);
  a->granularity = 64 * KiB;
  a->disabled = true;
}

static void
is_empty (struct known *k, const struct era *era, const unsigned char *then)
{
  k->from = era->began;
  k->to = era->returned;
  k->then = then;
}

static void
transact (struct scene *s, struct era *era, struct edit *e,
          const struct qcow2_snapshot_options *snapshot)
{
  struct guest *const g = &s->b.guest;
  struct qcow2_part part = {
    .image = g->image, .io = &g->host.io, .actions = e->action,
    .nr_actions = e->nr, .snapshot = snapshot,
  };
  struct qcow2_error err;
  size_t ignored;

  era->began = host_tick (&g->host);
  if (qcow2_transact (&part, 1, &ignored, &err) == -1)
    busy_failed (&s->b, "an edit", err.text);
  era->returned = host_tick (&g->host);
}

static struct era *
begin_era (struct scene *s, struct edit *e)
{
  struct era *const era = &s->era[s->nr];

  REQUIRE (s->nr < NR_ERAS);
  if (s->nr > 0)
    *era = s->era[s->nr - 1];
  era->snapshot = -1;
  e->nr = 0;
  add_marker (s, e);
  s->nr++;
  return era;
}

static void
end_era (struct scene *s, const struct era *era)
{
  s->b.marks[s->b.nr_marks++] = era->began;
  s->b.marks[s->b.nr_marks++] = era->returned;
  REQUIRE (s->b.nr_marks <= BUSY_MAX_MARKS);
}

static void
edit_bitmaps (struct scene *s, enum verb verb)
{
  struct edit e;
  struct era *const era = begin_era (s, &e);
  struct known *k;

  switch (verb) {
  case ADD:
    k = add_known (s, era, &e);
    transact (s, era, &e, NULL);
    is_empty (k, era, NULL);
    break;
  case CLEAR:
    k = some_enabled (s, era, UINT_MAX);
    act (&e, QCOW2_BITMAP_CLEAR, 'b', k->serial);
    transact (s, era, &e, NULL);
    is_empty (k, era, NULL);
    break;
  default:
    k = &era->known[rng_below (&s->rng, era->nr)];
    act (&e, QCOW2_BITMAP_REMOVE, 'b', k->serial);
    transact (s, era, &e, NULL);
    *k = era->known[--era->nr];
    break;
  }
  end_era (s, era);
}

/* A snapshot; one bitmap ends with it, a new one and another begin. */
static void
make_checkpoint (struct scene *s)
{
  static const char name[] = "new";
  const struct qcow2_snapshot_options options = {
    .name = { name, sizeof name - 1 }, .date_sec = 1000000000,
  };
  struct guest *const g = &s->b.guest;
  struct edit e;
  struct era *const era = begin_era (s, &e);
  struct known *const off = some_enabled (s, era, UINT_MAX);
  struct known *const again = some_enabled (s, era, off->serial);
  struct known *const new = add_known (s, era, &e);
  struct busy_snapshot *const taken = busy_add (&s->b, name);

  era->snapshot = (int) s->b.nr_snapshots - 1;
  act (&e, QCOW2_BITMAP_DISABLE, 'b', off->serial);
  act (&e, QCOW2_BITMAP_CLEAR, 'b', again->serial);
  transact (s, era, &e, &options);
  taken->may_from = era->began;
  taken->must_from = era->returned;
  if (s->b.failures == 0 &&
      !busy_read_snapshot (&s->b, &g->host, g->image, name, taken->disk))
    busy_failed (&s->b, "a checkpoint", "the snapshot cannot be read");
  is_empty (again, era, taken->disk);
  is_empty (new, era, taken->disk);
  off->enabled = false;
  off->last = taken->disk;
  end_era (s, era);
}

/* The one that was there at the start. */
static void
delete_snapshot (struct scene *s)
{
  struct guest *const g = &s->b.guest;
  struct busy_snapshot *const gone = &s->b.snapshots[0];
  const struct qcow2_name name = { gone->name, strlen (gone->name) };
  struct qcow2_error err;

  gone->must_until = host_tick (&g->host);
  if (qcow2_snapshot_delete (g->image, &g->host.io, &name, false, NULL, &err)
      == -1)
    busy_failed (&s->b, "deleting a snapshot", err.text);
  else
    gone->may_until = host_tick (&g->host);
}

static void
edit (struct scene *s, enum verb verb)
{
  switch (verb) {
  case CHECKPOINT:
    make_checkpoint (s);
    break;
  case DELETE:
    delete_snapshot (s);
    break;
  default:
    edit_bitmaps (s, verb);
    break;
  }
}

/* ---- Bits --------------------------------------------------------------- */

/* The disk may have had this sector in the moment when the bitmap was empty.
 */
static bool
may_have_had (struct scene *s, const struct known *k, uint64_t sector,
              const unsigned char *disk)
{
  if (k->then != NULL)
    return memcmp (disk + sector * SECTOR, k->then + sector * SECTOR, SECTOR)
      == 0;
  return ledger_may_read (&s->b.guest.ledger, sector,
                          tag_read (disk + sector * SECTOR, sector), k->from,
                          k->to);
}

static bool
must_have (struct scene *s, const struct known *k, const struct bitmap_seen *b,
           uint64_t bit, const unsigned char *disk)
{
  const uint64_t nr = (UINT64_C (1) << b->granularity_bits) / SECTOR;
  const uint64_t all = s->b.image.disk_size / SECTOR;

  for (uint64_t i = bit * nr; i < (bit + 1) * nr && i < all; ++i)
    if (!may_have_had (s, k, i, disk))
      return true;
  return false;
}

static const char *
judge_bits (struct scene *s, const struct known *k,
            const struct bitmap_seen *b, const unsigned char *disk)
{
  static char text[160];
  bool some = false, all = true;

  for (uint64_t bit = 0; bit < b->nr_bits; ++bit) {
    const bool has = bitmap_has (b, bit);
    const bool must = must_have (s, k, b, bit, disk);

    some |= must;
    all &= has;
    if (!must || has)
      continue;
    snprintf (text, sizeof text, "'%.10s', empty in %" PRIu64 "..%" PRIu64
              ", lacks granule %" PRIu64 " of 2^%u", b->name, k->from, k->to,
              bit, b->granularity_bits);
    return text;
  }
  s->tight += some && !all;
  return NULL;
}

/* Just as in the first state in which it was disabled. */
static bool
is_frozen (struct scene *s, const struct known *k,
           const struct bitmap_seen *b)
{
  const size_t len = b->nr_bits / 8 + 1;
  unsigned char **const p = &s->frozen[k->serial];

  if (*p == NULL) {
    *p = malloc (len);
    REQUIRE (*p != NULL);
    memcpy (*p, b->bits, len);
  }
  return memcmp (*p, b->bits, len) == 0;
}

static const char *
judge_bitmap (struct scene *s, const struct known *k,
              const struct bitmap_seen *b, const unsigned char *disk)
{
  if (b == NULL)
    return "a bitmap is missing";
  if (k->enabled != (b->flags & BITMAP_AUTO) / BITMAP_AUTO)
    return "a bitmap is enabled that should not be, or the other way round";
  if (b->flags & BITMAP_IN_USE)
    return "a bitmap that is true at any moment is marked as in use";
  if (!k->enabled && !is_frozen (s, k, b))
    return "a bitmap that is disabled has changed";
  return judge_bits (s, k, b, k->enabled ? disk : k->last);
}

/* ---- States ------------------------------------------------------------- */

/* The last edit that the bitmaps have. */
static unsigned
find_era (const struct scene *s, struct bitmap_set *seen)
{
  unsigned era = s->nr;

  while (era-- > 0) {
    char name[16];

    snprintf (name, sizeof name, "m%u", era);
    if (bitmap_set_find (seen, name) != NULL)
      break;
  }
  return era;
}

static const char *
judge_era (struct scene *s, unsigned i, uint64_t tick, unsigned shown)
{
  if (i >= s->nr)
    return "the bitmaps are those of no edit";
  if (i > 0 && tick < s->era[i].began)
    return "an edit that has not begun";
  if (i + 1 < s->nr && tick >= s->era[i + 1].returned)
    return "an edit that has returned is lost";
  for (unsigned j = 0; j < s->nr; ++j)
    if (s->era[j].snapshot >= 0 &&
        (shown >> s->era[j].snapshot & 1) != (j <= i))
      return "a snapshot without the bitmaps, or bitmaps without it";
  return NULL;
}

static const char *
judge_set (struct scene *s, struct bitmap_set *seen, uint64_t tick,
           const unsigned char *disk, unsigned shown)
{
  const unsigned i = find_era (s, seen);
  const char *problem = seen->problem[0] != '\0'
    ? "the bitmap directory is damaged" : judge_era (s, i, tick, shown);

  for (unsigned j = 0; problem == NULL && j < s->era[i].nr; ++j) {
    const struct known *const k = &s->era[i].known[j];
    char name[16];

    snprintf (name, sizeof name, "b%u", k->serial);
    problem = judge_bitmap (s, k, bitmap_set_find (seen, name), disk);
  }
  if (problem == NULL && seen->nr != s->era[i].nr + 1)
    problem = "a bitmap that nobody has made";
  if (problem == NULL)
    s->seen[i]++;
  return problem;
}

static const char *
judge (struct busy *b, const struct state *state, const unsigned char *disk,
       unsigned shown)
{
  struct scene *const s = (struct scene *) b;
  struct bitmap_set seen;
  const char *problem;

  bitmap_set_load (&seen, state->bytes, state->size);
  problem = judge_set (s, &seen, state->tick, disk, shown);
  bitmap_set_free (&seen);
  return problem;
}

/* ---- The end ------------------------------------------------------------ */

/* Whether a request may have set the bit since it was empty.  What is trimmed,
 * but no whole cluster of the disk, is not in the ledger.
 */
static bool
is_asked_for (const struct scene *s, const struct known *k,
              const struct bitmap_seen *b, uint64_t bit)
{
  const struct ledger *const l = &s->b.guest.ledger;
  const uint64_t size = UINT64_C (1) << b->granularity_bits;
  const uint64_t cluster = UINT64_C (1) << s->w.recipe.cluster_bits;

  for (size_t i = 0; i < l->nr_ops; ++i) {
    const struct guest_op *const op = &l->ops[i];
    const uint64_t more = op->id == TAG_ZERO ? cluster : 0;
    const uint64_t from = op->sector * SECTOR;

    if (!op->flush && op->end >= k->from && bit * size < from + op->count *
        SECTOR + more && from < (bit + 1) * size + more)
      return true;
  }
  return false;
}

static void
look_at_end (struct scene *s)
{
  const struct host *const h = &s->b.guest.host;
  const struct era *const era = &s->era[s->nr - 1];
  struct bitmap_set seen;

  bitmap_set_load (&seen, h->bytes, h->size);
  for (unsigned i = 0; i < era->nr; ++i) {
    const struct bitmap_seen *b;
    char name[16];

    snprintf (name, sizeof name, "b%u", era->known[i].serial);
    b = bitmap_set_find (&seen, name);
    for (uint64_t bit = 0; b != NULL && bit < b->nr_bits; ++bit)
      if (bitmap_has (b, bit) && !is_asked_for (s, &era->known[i], b, bit)) {
        busy_failed (&s->b, "at the end", "a bit that nobody has set");
        break;
      }
  }
  bitmap_set_free (&seen);
}

/* ---- The run ------------------------------------------------------------ */

/* Three bitmaps, in a file that was ended. */
static void
begin (struct scene *s, uint64_t seed)
{
  struct busy *const b = &s->b;
  struct edit e;
  struct era *era;

  busy_begin (b, &s->w, seed, BEFORE);
  b->nr_marks = 0;
  b->judge = judge;
  s->rng.state = seed;
  s->nr = s->nr_serials = 0;
  s->tight = 0;
  memset (s->seen, 0, sizeof s->seen);
  memset (s->era, 0, sizeof s->era);
  for (unsigned i = 0; i < NR_VERBS; ++i) {
    const uint64_t j = rng_below (&s->rng, i + 1);

    s->verbs[i] = s->verbs[j];
    s->verbs[j] = (enum verb) i;
  }
  guest_open (&b->guest);
  era = begin_era (s, &e);
  for (unsigned i = 0; i < 3; ++i)
    add_known (s, era, &e);
  transact (s, era, &e, NULL);
  for (unsigned i = 0; i < 3; ++i)
    is_empty (&era->known[i], era, NULL);
  CHECK (guest_close (&b->guest, true));
}

/* Zones are retired until the clients have done so many requests. */
static void
be_idle (struct scene *s, unsigned nr)
{
  struct guest *const g = &s->b.guest;
  struct qcow2_error err;

  while (s->b.failures == 0 && atomic_load (&s->crowd.done) < nr)
    if (qcow2_idle_commit (g->image, &g->host.io, &err) == -1)
      busy_failed (&s->b, "being idle", err.text);
}

static void
run_crowd (struct scene *s, uint64_t seed)
{
  const unsigned all = s->w.clients * s->w.requests;

  host_record (&s->b.guest.host);
  busy_open_guest (&s->b);
  crowd_begin (&s->crowd, &s->b.guest, seed % 3 ? 40 : 0);
  for (unsigned i = 0; i < NR_VERBS; ++i) {
    const unsigned nr = all * (i + 1) / (NR_VERBS + 1);

    if (rng_below (&s->rng, 2))
      be_idle (s, nr);
    crowd_wait (&s->crowd, nr);
    if (s->b.failures == 0)
      edit (s, s->verbs[i]);
  }
  crowd_end (&s->crowd);
}

static void
run (struct scene *s, uint64_t seed)
{
  struct busy *const b = &s->b;

  begin (s, seed);
  run_crowd (s, seed);
  busy_look_at_now (b);
  if (!guest_close (&b->guest, true))
    busy_failed (b, "at the end", "it does not end well");
  if (atomic_load (&b->guest.errors) > 0)
    busy_failed (b, "beside it", "a request has failed");
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

  s->w.clients = 2 + (unsigned) (seed % 3);
  s->w.requests = REQUESTS / s->w.clients;
  run (s, seed);
  if (b->failures == 0)
    busy_replay (b, seed);
  if (b->failures == 0) {
    for (unsigned i = 0; i < s->nr; ++i)
      CHECK (s->seen[i] > 0);
    CHECK (s->tight > 0);
  }
  for (unsigned i = 0; i < MAX_BITMAPS; ++i) {
    free (s->frozen[i]);
    s->frozen[i] = NULL;
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
    s.w = kinds[k];
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
  return play_all (1, 20, true);
}

static void
find_planted (void)
{
  static const struct busy_plant plants[] = {
    { Q2_PLANT_BITMAPS_NO_FLUSH, "no flush when a zone becomes active" },
    { Q2_PLANT_BITMAPS_SET_LATE, "bits are set after the change" },
    { Q2_PLANT_BITMAPS_RETIRE_KEPT, "zones stay active in memory" },
    { Q2_PLANT_FORGET_SINCE, "what changes meanwhile is forgotten" },
  };

  CHECK_EQ (play_all (1, 1, false), 0);
  busy_find (&q2_planted, plants, sizeof plants / sizeof plants[0],
             play_planted);
}
#endif

/* Usage: [FIRST SEED [SEEDS]]. */
int
main (int argc, char *argv[])
{
  qemu_init ();
#ifdef Q2_PLANTS
  (void) argc;
  (void) argv;
  find_planted ();
#else
  const uint64_t first = argc > 1 ? strtoull (argv[1], NULL, 0) : 1;
  const uint64_t nr = argc > 2 ? strtoull (argv[2], NULL, 0)
    : unit_scaled (2);

  CHECK_EQ (play_all (first, nr, false), 0);
#endif
  qemu_finish ();
  return unit_finish ();
}
