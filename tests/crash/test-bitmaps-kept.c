/* SPDX-License-Identifier: BSD-3-Clause */
/* test-bitmaps-kept.c - bitmaps that are kept up, and crashes.
 *
 * Of each file that a crash could leave behind must hold: an enabled bitmap is
 * marked as in use, or each of its granules is set that was set before, or
 * whose bytes differ from those at the start; a disabled one is as it was; the
 * metadata is sound, but for leaks.  After a clean end no bitmap is in use,
 * and each has just the bits of before and of the requests.
 *
 * Linked with a copy of the engine that has the bugs of base/plant.h built in,
 * it is test-bitmaps-kept-planted, and must notice each that concerns it.
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

#include <errno.h>

#ifdef Q2_PLANTS
int q2_planted;
#define PLANTED true
#else
#define PLANTED false
#endif

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (8 << 20)
#define DISK (UINT64_C (513) * KiB)
#define SESSIONS 2
#define REQUESTS 6              /* of a session */
#define IDLE_CALLS 24           /* enough for bitmaps to become exact */

static const char *const kinds[] = {
  "cluster_size=512,refcount_bits=64", "cluster_size=4k,lazy_refcounts=on",
  "cluster_size=64k,extended_l2=on",
};

#define QEMU_EVERY 97
#define BITS_EVERY (8 * QEMU_EVERY)

static uint64_t
least (uint64_t a, uint64_t b)
{
  return a < b ? a : b;
}

struct scene {
  const char *options;
  enum qcow2_bitmaps mode;
  unsigned char *bytes, *disk;  /* at the start */
  uint64_t size;
  struct bitmap_set before, after;
  bool faulted;                 /* a write or flush has failed */
  bool recovers;                /* from that, so that others succeed */
  unsigned long states, unmarked, failures;
};

static void
scene_init (struct scene *s)
{
  uint64_t size;

  qemu_run (0, "qemu-img create -q -f qcow2 -o %s i.qcow2 %" PRIu64,
            s->options, DISK);
  qemu_run (0, "qemu-img bitmap --add -g 512 i.qcow2 off");
  qemu_run (0, "qemu-io -c 'write -q -P 1 0 3k' -c 'write -q -P 2 7k 90k' "
            "i.qcow2");
  qemu_run (0, "qemu-img bitmap --disable i.qcow2 off");
  qemu_run (0, "qemu-img bitmap --add -g 512 i.qcow2 fine");
  qemu_run (0, "qemu-img bitmap --add -g 16k i.qcow2 coarse");
  qemu_run (0, "qemu-io -c 'write -q -P 3 300k 70k' i.qcow2");
  qemu_run (0, "qemu-img bitmap --add -g 512 i.qcow2 empty");
  qemu_run (0, "qemu-img convert -O raw i.qcow2 i.raw");
  s->bytes = qemu_load ("i.qcow2", &s->size);
  s->disk = qemu_load ("i.raw", &size);
  REQUIRE (size == DISK);
  bitmap_set_load (&s->before, s->bytes, s->size);
  bitmap_set_copy (&s->after, &s->before);
}

static void
scene_free (struct scene *s)
{
  bitmap_set_free (&s->before);
  bitmap_set_free (&s->after);
  free (s->bytes);
  free (s->disk);
}

/* ---- Requests ----------------------------------------------------------- */

static int
request (struct qcow2_image *image, struct host *h, struct scene *s,
         struct rng *rng, struct qcow2_error *err)
{
  static unsigned char data[64 * KiB];
  const uint64_t at = rng_below (rng, DISK / 512) * 512;
  const uint64_t most = least (DISK - at, sizeof data);
  const uint64_t len = (1 + rng_below (rng, most / 512)) * 512;
  const bool fua = rng_below (rng, 3) == 0;

  bitmap_set_note (&s->after, at, len);
  memset (data, (int) (10 + rng_below (rng, 200)), len);
  switch (rng_below (rng, 4)) {
  case 0:
    return qcow2_zero (image, &h->io, len, at, fua ? QCOW2_ZERO_FUA : 0, err);
  case 1:
    return qcow2_trim (image, &h->io, len, at, fua, err);
  default:
    return qcow2_pwrite (image, &h->io, data, (uint32_t) len, at, fua, err);
  }
}

static void
print_line (void *opaque, enum qcow2_log_level level, const char *text,
            enum qcow2_advice advice)
{
  (void) advice;
  if (level == QCOW2_LOG_WARNING && !*(const bool *) opaque)
    printf ("warning: %s\n", text);
}

static bool
session (struct host *h, struct scene *s, struct rng *rng)
{
  const struct qcow2_options options = {
    .writable = true, .bitmaps = s->mode, .log = print_line,
    .log_opaque = &s->faulted,
    .overlap_check = QCOW2_OVERLAP_CACHED,
  };
  struct qcow2_error err = { .text = "" };
  struct qcow2_image *image;
  bool prepared = false;
  int r = -1;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  if (image != NULL)
    r = 0;
  /* Clients go on after errors. */
  for (unsigned i = 0; (r == 0 || (image && s->recovers)) && i < REQUESTS;
       ++i) {
    r = request (image, h, s, rng, &err);
    prepared |= r == 0 && i == 0;
    for (unsigned j = 0; r == 0 && i % 3 == 2 && j < IDLE_CALLS; ++j)
      r = qcow2_idle_commit (image, &h->io, &err);
  }
  if (image && s->recovers && prepared && h->failed > 0) {
    h->fail_kinds = 0;
    r = request (image, h, s, rng, &err);
    if (!CHECK (r == 0))
      printf ("after the outage: %s\n", err.text);
  }
  if (r == 0)
    r = qcow2_end (image, &h->io, &err);
  if (!s->faulted && !CHECK (r == 0))
    printf ("%s\n", err.text);
  qcow2_close (image);
  return r == 0;
}

/* ---- States ------------------------------------------------------------- */

static bool
read_disk (const struct state *state, unsigned char *disk)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const struct qcow2_options options = { .writable = false };
  struct qcow2_image *image;
  struct qcow2_error err;
  struct host h;
  bool ok;

  host_init (&h, &spec, state->bytes, state->size);
  host_reopen (&h);
  image = qcow2_open (&h.io, &options, &err);
  ok = image != NULL &&
    qcow2_pread (image, &h.io, disk, (uint32_t) DISK, 0, &err) == 0;
  qcow2_close (image);
  host_free (&h);
  return ok;
}

static bool
is_true (const struct scene *s, const unsigned char *disk,
         const struct bitmap_seen *old, const struct bitmap_seen *b)
{
  if (b->nr_bits != old->nr_bits)
    return false;
  for (uint64_t g = 0; g < b->nr_bits; ++g) {
    const bool before = bitmap_has (old, g);

    if (b->flags & BITMAP_AUTO
        ? !bitmap_has (b, g) &&
          (before || bitmap_part_differs (b, g, disk, s->disk, DISK))
        : bitmap_has (b, g) != before)
      return false;
  }
  return true;
}

static const char *
check_bitmaps (struct scene *s, const unsigned char *disk,
               struct bitmap_set *seen)
{
  if (seen->problem[0] != '\0' || seen->nr != s->before.nr)
    return "the bitmap directory is damaged";
  for (size_t i = 0; i < seen->nr; ++i) {
    const struct bitmap_seen *const b = &seen->bitmap[i];
    const bool marked = b->flags & BITMAP_IN_USE;

    if (marked && !(b->flags & BITMAP_AUTO))
      return "a disabled bitmap is marked as in use";
    if (marked && s->mode == QCOW2_BITMAPS_DURABLE && !s->faulted)
      return "a bitmap that is true at any moment is marked as in use";
    if (!marked && !is_true (s, disk, &s->before.bitmap[i], b))
      return "a bitmap is not marked and lacks a change";
    s->unmarked += !marked;
  }
  return NULL;
}

static void
ask_qemu (struct scene *s, const struct state *state)
{
  if (s->states % QEMU_EVERY == 0)
    qemu_submit (state->bytes, state->size, NULL, QEMU_SOUND, NULL, 0,
                 state->how);
  if (s->states % BITS_EVERY == 0)
    qemu_check_bits (state->bytes, state->size, s->states / BITS_EVERY,
                     state->how);
}

static bool
look (void *opaque, const struct state *state)
{
  static unsigned char disk[DISK];
  struct scene *const s = opaque;
  const char *problem;
  struct bitmap_set seen;
  struct fsck f;

  bitmap_set_load (&seen, state->bytes, state->size);
  fsck_image (state->bytes, state->size, &f);
  problem = f.corruptions > 0 ? "the metadata is damaged"
    : !read_disk (state, disk) ? "the disk cannot be read"
    : check_bitmaps (s, disk, &seen);
  bitmap_set_free (&seen);
  if (problem == NULL && !PLANTED)
    ask_qemu (s, state);
  s->states++;
  if (problem == NULL)
    return true;
  if (s->failures++ == 0)
    printf ("%s, %s: %s\n", s->options, state->how, problem);
  return false;
}

/* ---- The whole ---------------------------------------------------------- */

/* QEMU reads them, too. */
static void
check_end (struct scene *s, const struct host *h)
{
  struct bitmap_set seen;

  bitmap_set_load (&seen, h->bytes, h->size);
  if (!CHECK (bitmap_set_equal (&seen, &s->after))) {
    bitmap_set_print (&seen);
    bitmap_set_print (&s->after);
  }
  bitmap_set_free (&seen);
}

static unsigned long
play (struct scene *s, uint64_t seed)
{
  const struct host_spec spec = {
    .capacity = CAPACITY, .grows = true, .trim = HOST_TRIM_GARBAGE,
  };
  const struct replay_spec how = {
    .seed = seed, .all_subsets = 4, .subsets = 8, .prefix_percent = 100,
  };
  struct rng rng = { seed };
  struct host h;
  bool ok = true;

  host_init (&h, &spec, s->bytes, s->size);
  host_reopen (&h);
  host_record (&h);
  for (unsigned i = 0; ok && i < SESSIONS; ++i)
    ok = session (&h, s, &rng);
  if (ok && !PLANTED)
    check_end (s, &h);
  if (ok)
    replay (&h, &how, look, s);
  host_free (&h);
  return s->failures;
}

/* Each write fails, then each flush, and 'more' of them after it; whatever
 * comes of it, bitmaps are true or marked.
 */
static unsigned long
play_faults (struct scene *s, unsigned kind, unsigned more, uint64_t seed)
{
  const struct host_spec spec = {
    .capacity = CAPACITY, .grows = true, .trim = HOST_TRIM_GARBAGE,
  };
  const struct replay_spec how = {
    .seed = seed, .all_subsets = 3, .subsets = 2, .prefix_percent = 50,
  };
  unsigned long failures = 0;
  bool failed = true;

  s->faulted = true;
  s->recovers = kind == HOST_WRITE;
  for (unsigned long n = 1; failed && failures == 0; n += 1 + more / 2) {
    struct rng rng = { seed };
    struct host h;

    unit_context ("%s, failure %lu of kind %u", s->options, n, kind);
    host_init (&h, &spec, s->bytes, s->size);
    host_reopen (&h);
    host_record (&h);
    host_fail (&h, 1u << kind, n, more, EIO);
    session (&h, s, &rng);
    failed = h.failed > 0;
    if (failed)
      replay (&h, &how, look, s);
    failures += s->failures;
    host_free (&h);
  }
  s->faulted = s->recovers = false;
  return failures;
}

/* One bug is about that only. */
static bool
has_faults (void)
{
#ifdef Q2_PLANTS
  return q2_planted == Q2_PLANT_BITMAPS_NO_MARK;
#else
  return true;
#endif
}

static unsigned long
play_all (enum qcow2_bitmaps mode, uint64_t seed)
{
  unsigned long failures = 0, states = 0, unmarked = 0;

  for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; ++k) {
    struct scene s = { .options = kinds[k], .mode = mode };

    scene_init (&s);
    unit_context ("%s", s.options);
    failures += play (&s, seed + k);
    if (mode == QCOW2_BITMAPS_DURABLE && k == 0 && has_faults ())
      failures += play_faults (&s, HOST_WRITE, 0, seed) +
        play_faults (&s, HOST_WRITE, 4, seed) +
        play_faults (&s, HOST_FLUSH, 0, seed);
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

int
main (void)
{
  qemu_init ();
#ifdef Q2_PLANTS
  static const struct { int bug; enum qcow2_bitmaps mode; } plants[] = {
    { Q2_PLANT_EARLY_SWITCH, QCOW2_BITMAPS_LAZY },
    { Q2_PLANT_BITMAPS_EARLY_RELEASE, QCOW2_BITMAPS_LAZY },
    { Q2_PLANT_BITMAPS_STORE_NOTHING, QCOW2_BITMAPS_LAZY },
    { Q2_PLANT_BITMAPS_SET_NOTHING, QCOW2_BITMAPS_LAZY },
    { Q2_PLANT_BITMAPS_SET_NOTHING, QCOW2_BITMAPS_DURABLE },
    { Q2_PLANT_BITMAPS_NO_FLUSH, QCOW2_BITMAPS_DURABLE },
    { Q2_PLANT_BITMAPS_EARLY_ENTRY, QCOW2_BITMAPS_DURABLE },
    { Q2_PLANT_BITMAPS_RETIRE_ALL, QCOW2_BITMAPS_DURABLE },
    { Q2_PLANT_BITMAPS_RETIRE_KEPT, QCOW2_BITMAPS_DURABLE },
    { Q2_PLANT_BITMAPS_SET_LATE, QCOW2_BITMAPS_DURABLE },
    { Q2_PLANT_BITMAPS_NO_MARK, QCOW2_BITMAPS_DURABLE },
  };

  for (size_t i = 0; i < sizeof plants / sizeof plants[0]; ++i) {
    q2_planted = plants[i].bug;
    printf ("planted bug %d, mode %d\n", plants[i].bug, plants[i].mode);
    CHECK (play_all (plants[i].mode, 1) > 0);
  }
#else
  CHECK_EQ (play_all (QCOW2_BITMAPS_LAZY, 1), 0);
  CHECK_EQ (play_all (QCOW2_BITMAPS_DURABLE, 1), 0);
#endif
  qemu_finish ();
  return unit_finish ();
}
