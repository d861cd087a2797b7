/* SPDX-License-Identifier: BSD-3-Clause */
/* test-bitmaps-live.c - bitmaps are changed, and snapshots taken, while others
 * are kept up in memory, and crashes.
 *
 * Requests and edits take turns.  Each edit adds a bitmap with a number, so a
 * file that a crash leaves says which edit was its last one.  Of each must
 * hold: that edit had begun, and all that had returned are there; it has the
 * bitmaps, and the snapshot, that this edit has made, or neither; a bitmap
 * that is enabled is marked as in use, or has each bit that it had after that
 * edit, and those of all granules that differ from what they were then, and,
 * if it is lazy, no bit that no request has set; a durable one is never
 * marked; one that is disabled has just its bits; the metadata is sound, but
 * for leaks.  After a clean end none is in use, and each has just its bits.
 *
 * Linked with a copy of the engine that has the bugs of base/plant.h built in,
 * it is test-bitmaps-live-planted, and must notice each that concerns it.
 */
#include "config.h"

#include "base/plant.h"

#include "bitmap_set.h"
#include "fsck.h"
#include "host.h"
#include "qemu.h"
#include "qemu_bits.h"
#include "replay.h"
#include "unit.h"

#ifdef Q2_PLANTS
int q2_planted;
#define PLANTED true
#else
#define PLANTED false
#endif

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (8 << 20)
#define DISK (UINT64_C (257) * KiB)
#define NR_EDITS 5
#define REQUESTS 3              /* between two edits */

#define QEMU_EVERY 197
#define BITS_EVERY (4 * QEMU_EVERY)

static const struct kind {
  const char *options;
  bool snapshots;
} kinds[] = {
  { "cluster_size=512,refcount_bits=64", false },
  { "cluster_size=4k,lazy_refcounts=on", true },
  { "cluster_size=64k", true },
};

/* The image after an edit; the first is that at the start. */
struct era {
  uint64_t began, returned;     /* ticks */
  struct bitmap_set after, most; /* when it began; when the next one did */
  unsigned char disk[DISK];
};

struct scene {
  const struct kind *kind;
  enum qcow2_bitmaps mode;
  unsigned char *bytes;
  uint64_t size;
  struct era era[NR_EDITS + 1];
  unsigned nr;                  /* the last of them */
  unsigned char disk[DISK];     /* now */
  struct bitmap_set now;
  unsigned long states, unmarked, failures;
};

static struct qcow2_name
name_of (const char *text)
{
  return (struct qcow2_name) { text, strlen (text) };
}

static uint64_t
least (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

static void
scene_init (struct scene *s)
{
  unsigned char *raw;
  uint64_t size;

  qemu_run (0, "qemu-img create -q -f qcow2 -o %s i.qcow2 %" PRIu64,
            s->kind->options, DISK);
  qemu_run (0, "qemu-img bitmap --add -g 512 i.qcow2 off");
  qemu_run (0, "qemu-io -c 'write -q -P 1 0 3k' -c 'write -q -P 2 7k 90k' "
            "i.qcow2");
  qemu_run (0, "qemu-img bitmap --disable i.qcow2 off");
  qemu_run (0, "qemu-img bitmap --add -g 1k i.qcow2 on");
  qemu_run (0, "qemu-img bitmap --add -g 4k i.qcow2 kept");
  qemu_run (0, "qemu-io -c 'write -q -P 3 100k 7k' i.qcow2");
  qemu_run (0, "qemu-img convert -O raw i.qcow2 i.raw");
  s->bytes = qemu_load ("i.qcow2", &s->size);
  raw = qemu_load ("i.raw", &size);
  REQUIRE (size == DISK);
  memcpy (s->disk, raw, DISK);
  free (raw);
  bitmap_set_load (&s->now, s->bytes, s->size);
}

static void
begin_era (struct scene *s, uint64_t began)
{
  struct era *const e = &s->era[s->nr];

  bitmap_set_copy (&e->after, &s->now);
  memcpy (e->disk, s->disk, DISK);
  e->began = began;
}

static void
end_era (struct scene *s)
{
  bitmap_set_copy (&s->era[s->nr].most, &s->now);
}

static void
scene_free (struct scene *s)
{
  for (unsigned i = 0; i <= s->nr; ++i) {
    bitmap_set_free (&s->era[i].after);
    bitmap_set_free (&s->era[i].most);
  }
  bitmap_set_free (&s->now);
  free (s->bytes);
}

/* ---- Requests ----------------------------------------------------------- */

static int
request (struct qcow2_image *image, struct host *h, struct scene *s,
         struct rng *rng, struct qcow2_error *err)
{
  const uint64_t at = rng_below (rng, DISK / 512) * 512;
  const uint64_t most = least (DISK - at, 24 * KiB);
  const uint64_t len = (1 + rng_below (rng, most / 512)) * 512;
  const bool fua = rng_below (rng, 3) == 0, zero = rng_below (rng, 4) == 0;

  bitmap_set_note (&s->now, at, len);
  memset (s->disk + at, zero ? 0 : (int) (10 + rng_below (rng, 200)), len);
  return zero
    ? qcow2_zero (image, &h->io, len, at, fua ? QCOW2_ZERO_FUA : 0, err)
    : qcow2_pwrite (image, &h->io, s->disk + at, (uint32_t) len, at, fua,
                    err);
}

/* ---- Edits -------------------------------------------------------------- */

#define ADD(s) { .verb = QCOW2_BITMAP_ADD, .name = { s, sizeof (s) - 1 },     \
                 .granularity = 1024 }
#define ACT(v, s)                                                             \
  { .verb = QCOW2_BITMAP_##v, .name = { s, sizeof (s) - 1 } }

static const struct qcow2_bitmap_source from_on[] = {
  { .name = { "on", 2 } }, { .name = { "n1", 2 } },
};

/* What each does; 'kept' is left alone, and kept up all the time. */
static const struct {
  struct qcow2_bitmap_action action[4];
  size_t nr;
} edits[NR_EDITS] = {
  { { ADD ("n1") }, 1 },
  { { ADD ("n2"), ACT (DISABLE, "n1") }, 2 },
  { { ADD ("n3"), { .verb = QCOW2_BITMAP_MERGE, .name = { "off", 3 },
                    .sources = from_on, .nr_sources = 2 },
      ACT (ENABLE, "off") }, 3 },
  { { ADD ("n4"), ACT (CLEAR, "on"), ACT (REMOVE, "n2"),
      ACT (DISABLE, "off") }, 4 },
  { { ADD ("n5"), ACT (DISABLE, "n4"), ACT (ENABLE, "n1") }, 3 },
};

static int
edit (struct qcow2_image *image, struct host *h, struct scene *s,
      struct qcow2_error *err)
{
  const unsigned i = s->nr;
  const char text[] = { 's', (char) ('1' + i), '\0' };
  const struct qcow2_snapshot_options snapshot = { .name = name_of (text) };
  struct qcow2_part part = {
    .image = image, .io = &h->io, .actions = edits[i].action,
    .nr_actions = edits[i].nr,
    .snapshot = s->kind->snapshots ? &snapshot : NULL,
  };
  size_t ignored;
  int r;

  end_era (s);
  s->nr++;
  for (size_t a = 0; a < edits[i].nr; ++a)
    bitmap_set_apply (&s->now, &edits[i].action[a], DISK,
                      UINT64_C (1) << s->bytes[23], NULL);
  begin_era (s, host_tick (h));
  r = qcow2_transact (&part, 1, &ignored, err);
  CHECK (r == -1 || part.outcome == QCOW2_OUTCOME_DONE);
  s->era[s->nr].returned = host_tick (h);
  return r;
}

static bool
session (struct host *h, struct scene *s, struct rng *rng)
{
  const struct qcow2_options options = {
    .writable = true, .bitmaps = s->mode,
    .overlap_check = QCOW2_OVERLAP_CACHED,
  };
  struct qcow2_error err = { .text = "" };
  struct qcow2_image *image;
  int r;

  begin_era (s, 0);
  image = qcow2_open (&h->io, &options, &err);
  r = image == NULL ? -1 : 0;
  for (unsigned e = 0; r == 0 && e <= NR_EDITS; ++e) {
    for (unsigned i = 0; r == 0 && i < REQUESTS; ++i)
      r = request (image, h, s, rng, &err);
    if (r == 0 && e < NR_EDITS)
      r = edit (image, h, s, &err);
  }
  end_era (s);
  if (r == 0)
    r = qcow2_end (image, &h->io, &err);
  if (!CHECK (r == 0))
    printf ("%s\n", err.text);
  qcow2_close (image);
  return r == 0;
}

/* ---- States ------------------------------------------------------------- */

static struct qcow2_image *
open_state (struct host *h, const struct state *state)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const struct qcow2_options options = { .writable = false };
  struct qcow2_error err;

  host_init (h, &spec, state->bytes, state->size);
  host_reopen (h);
  return qcow2_open (&h->io, &options, &err);
}

static bool
read_disk (const struct state *state, unsigned char *disk,
           unsigned *ret_snapshots)
{
  struct host h;
  struct qcow2_image *const image = open_state (&h, state);
  struct qcow2_error err;
  const bool ok = image != NULL &&
    qcow2_pread (image, &h.io, disk, (uint32_t) DISK, 0, &err) == 0;

  *ret_snapshots = ok ? qcow2_get_info (image).nr_snapshots : 0;
  qcow2_close (image);
  host_free (&h);
  return ok;
}

/* The last edit that the bitmaps have. */
static unsigned
find_era (struct bitmap_set *seen)
{
  unsigned era = NR_EDITS;

  while (era > 0) {
    const char text[] = { 'n', (char) ('0' + era), '\0' };

    if (bitmap_set_find (seen, text) != NULL)
      break;
    --era;
  }
  return era;
}

static const char *
check_bits (const struct scene *s, const struct era *e,
            const unsigned char *disk, size_t i, const struct bitmap_seen *b)
{
  const struct bitmap_seen *const least_bits = &e->after.bitmap[i];
  const struct bitmap_seen *const most = &e->most.bitmap[i];
  const bool is_auto = b->flags & BITMAP_AUTO;

  for (uint64_t g = 0; g < b->nr_bits; ++g) {
    const bool bit = bitmap_has (b, g);

    if (!is_auto && bit != bitmap_has (least_bits, g))
      return "a disabled bitmap has changed";
    if (is_auto && !bit &&
        (bitmap_has (least_bits, g) ||
         bitmap_part_differs (b, g, disk, e->disk, DISK)))
      return "a bitmap is not marked and lacks a change";
    if (is_auto && bit && !bitmap_has (most, g) &&
        s->mode == QCOW2_BITMAPS_LAZY)
      return "a bitmap has a bit that nobody has set";
  }
  return NULL;
}

static const char *
check_bitmaps (struct scene *s, const struct era *e,
               const unsigned char *disk, const struct bitmap_set *seen)
{
  if (seen->nr != e->after.nr)
    return "other bitmaps than after that edit";
  for (size_t i = 0; i < seen->nr; ++i) {
    const struct bitmap_seen *const b = &seen->bitmap[i];
    const struct bitmap_seen *const expected = &e->after.bitmap[i];
    const bool marked = b->flags & BITMAP_IN_USE;
    const char *problem;

    if (strcmp (b->name, expected->name) != 0 ||
        b->nr_bits != expected->nr_bits ||
        (b->flags | BITMAP_IN_USE) != (expected->flags | BITMAP_IN_USE))
      return "another bitmap than after that edit";
    if (marked && !(b->flags & BITMAP_AUTO))
      return "a disabled bitmap is marked as in use";
    if (marked && s->mode == QCOW2_BITMAPS_DURABLE)
      return "a bitmap that is true at any moment is marked as in use";
    if (!marked && (problem = check_bits (s, e, disk, i, b)) != NULL)
      return problem;
    s->unmarked += !marked;
  }
  return NULL;
}

static const char *
find_problem (struct scene *s, const struct state *state,
              struct bitmap_set *seen)
{
  static unsigned char disk[DISK];
  const unsigned era = find_era (seen);
  unsigned snapshots;
  struct fsck f;

  fsck_image (state->bytes, state->size, &f);
  if (f.corruptions > 0)
    return "the metadata is damaged";
  if (seen->problem[0] != '\0')
    return "the bitmap directory is damaged";
  if (!read_disk (state, disk, &snapshots))
    return "the disk cannot be read";
  if (era > 0 && state->tick < s->era[era].began)
    return "an edit that has not begun";
  if (era < s->nr && state->tick >= s->era[era + 1].returned)
    return "an edit that has returned is lost";
  if (s->kind->snapshots && snapshots != era)
    return "an edit without its snapshot, or a snapshot without its edit";
  return check_bitmaps (s, &s->era[era], disk, seen);
}

static void
ask_qemu (struct scene *s, const struct state *state)
{
  /* Unless it is to be repaired first: the dirty bit. */
  if (s->states % QEMU_EVERY == 0 && !(state->bytes[79] & 1))
    qemu_submit (state->bytes, state->size, NULL, QEMU_SOUND, NULL, 0,
                 state->how);
  if (s->states % BITS_EVERY == 0)
    qemu_check_bits (state->bytes, state->size, s->states / BITS_EVERY,
                     state->how);
}

static bool
look (void *opaque, const struct state *state)
{
  struct scene *const s = opaque;
  struct bitmap_set seen;
  const char *problem;

  bitmap_set_load (&seen, state->bytes, state->size);
  problem = find_problem (s, state, &seen);
  bitmap_set_free (&seen);
  if (problem == NULL && !PLANTED)
    ask_qemu (s, state);
  s->states++;
  if (problem == NULL)
    return true;
  if (s->failures++ == 0)
    printf ("%s, %s: %s\n", s->kind->options, state->how, problem);
  return false;
}

/* ---- The whole ---------------------------------------------------------- */

static void
check_end (struct scene *s, const struct host *h)
{
  struct bitmap_set seen;

  bitmap_set_load (&seen, h->bytes, h->size);
  if (!CHECK (bitmap_set_equal (&seen, &s->now))) {
    bitmap_set_print (&seen);
    bitmap_set_print (&s->now);
  }
  bitmap_set_free (&seen);
}

static void
play (struct scene *s, uint64_t seed)
{
  const struct host_spec spec = {
    .capacity = CAPACITY, .grows = true, .trim = HOST_TRIM_GARBAGE,
  };
  const struct replay_spec how = {
    .seed = seed, .all_subsets = 3, .subsets = 6, .prefix_percent = 100,
  };
  struct rng rng = { seed };
  struct host h;

  host_init (&h, &spec, s->bytes, s->size);
  host_reopen (&h);
  host_record (&h);
  if (session (&h, s, &rng)) {
    if (!PLANTED)
      check_end (s, &h);
    replay (&h, &how, look, s);
  }
  host_free (&h);
}

static unsigned long
play_all (enum qcow2_bitmaps mode, uint64_t seed)
{
  unsigned long failures = 0, states = 0, unmarked = 0;
  static struct scene s;

  for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; ++k) {
    s = (struct scene) { .kind = &kinds[k], .mode = mode };
    scene_init (&s);
    unit_context ("%s", s.kind->options);
    play (&s, seed + k);
    failures += s.failures;
    states += s.states;
    unmarked += s.unmarked;
    scene_free (&s);
  }
  qemu_wait ();
  printf ("%lu states, QEMU has read %lu bitmaps\n", states,
          qemu_bits_checks ());
  CHECK (states > 100 && unmarked > states);
  return failures;
}

#ifdef Q2_PLANTS
/* What a bug does may need a cluster that is used again at the right moment. */
static bool
is_noticed (void)
{
  bool noticed = false;

  for (uint64_t seed = 1; seed < 20 && !noticed; ++seed)
    noticed = play_all (QCOW2_BITMAPS_LAZY, seed) > 0;
  return noticed;
}
#endif

int
main (void)
{
  qemu_init ();
#ifdef Q2_PLANTS
  static const int plants[] = {
    Q2_PLANT_EARLY_SWITCH, Q2_PLANT_LAZY_SWITCH,
    Q2_PLANT_BITMAPS_EARLY_RELEASE, Q2_PLANT_BITMAPS_STORE_NOTHING,
    Q2_PLANT_BITMAPS_NEXT_UNMARKED, Q2_PLANT_KEEP_COPIED,
  };

  for (size_t i = 0; i < sizeof plants / sizeof plants[0]; ++i) {
    q2_planted = plants[i];
    printf ("planted bug %d\n", plants[i]);
    CHECK (is_noticed ());
  }
#else
  CHECK_EQ (play_all (QCOW2_BITMAPS_LAZY, 1), 0);
  CHECK_EQ (play_all (QCOW2_BITMAPS_DURABLE, 1), 0);
#endif
  qemu_finish ();
  return unit_finish ();
}
