/* SPDX-License-Identifier: BSD-3-Clause */
/* test-apply-bitmaps.c - bitmaps stay true when a snapshot is applied, whatever
 * interrupts that.
 *
 * The disk, its snapshot and the disk that the bitmaps began with are known.
 * Of each file that a crash could leave behind must hold: it has the old disk
 * or the snapshot's; each part of it that is not as it was when the bitmaps
 * began has its bit in each bitmap that is enabled, and not in use; none is in
 * use because of the applying; those that are disabled or in use are as
 * before; its metadata is sound; and it can be written to, which is in the
 * bitmaps then.
 *
 * Linked with a copy of the engine that has the bugs of base/plant.h built
 * in, it is test-apply-bitmaps-planted, and must notice those that concern it.
 */
#include "config.h"

#include "base/plant.h"

#include "bitmap_set.h"
#include "fsck.h"
#include "host.h"
#include "qemu.h"
#include "qemu_bits.h"
#include "replay.h"
#include "seen.h"
#include "unit.h"

#include "base/be.h"

#ifdef Q2_PLANTS
int q2_planted;
#define PLANTED true
#else
#define PLANTED false
#endif

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (8 << 20)
#define MAX_DISK (1024 * KiB)
#define WRITE_AT (40 * KiB)     /* before the snapshot is applied */
#define WRITE (9 * KiB)
#define MORE_AT (90 * KiB)      /* after the crash */
#define QUIET (440 * KiB)       /* nobody writes from here to 512 KiB */
#define MAX_LEAKS 40            /* of the first write, mostly */

static const struct kind {
  const char *options;
  uint64_t small_size, size;    /* of the snapshot's disk, and now */
  enum qcow2_bitmaps mode;
  bool write_before;
  bool snapshot_is_full;        /* many tables differ */
  bool take;                    /* apply one that is taken after the write */
} kinds[] = {
  { "cluster_size=512,refcount_bits=64", 512 * KiB, 512 * KiB,
    QCOW2_BITMAPS_INVALIDATE,
    false, false, false },
  { "cluster_size=4k", 512 * KiB, 512 * KiB, QCOW2_BITMAPS_LAZY,
    true, false, false },
  { "cluster_size=1k", 512 * KiB, 512 * KiB, QCOW2_BITMAPS_DURABLE,
    true, true, false },
  { "cluster_size=16k,extended_l2=on", 512 * KiB, 512 * KiB,
    QCOW2_BITMAPS_DURABLE,
    false, false, false },
  { "cluster_size=2k,lazy_refcounts=on", 512 * KiB, 512 * KiB,
    QCOW2_BITMAPS_LAZY,
    true, true, false },
  { "cluster_size=512", 512 * KiB, 700 * KiB + 512, QCOW2_BITMAPS_DURABLE,
    true, false, false },
  { "cluster_size=4k", 900 * KiB + 512, 520 * KiB, QCOW2_BITMAPS_LAZY,
    true, false, false },
  { "cluster_size=2k", 512 * KiB, 512 * KiB, QCOW2_BITMAPS_LAZY,
    true, false, true },
};

struct scene {
  const struct kind *kind;
  unsigned char *bytes;         /* the image before */
  uint64_t size;
  unsigned char first[MAX_DISK];        /* when the bitmaps began, ... */
  unsigned char disk[MAX_DISK];         /* before the applying, ... */
  unsigned char written[MAX_DISK];      /* and with what is written first, */
  unsigned char target[MAX_DISK];       /* and the snapshot's; zeros follow */
  struct bitmap_set before;
  uint64_t returned;            /* the tick when the call had */
  uint64_t *seen;               /* NR_SEEN hashes of states */
  unsigned long states, old_states, new_states, failures;
};

/* ---- The image ---------------------------------------------------------- */

static void
load_disk (unsigned char *disk, uint64_t size, const char *options)
{
  unsigned char *bytes;
  uint64_t len;

  qemu_run (0, "qemu-img convert -O raw %s i.qcow2 i.raw", options);
  bytes = qemu_load ("i.raw", &len);
  REQUIRE (len == size && size <= MAX_DISK);
  memset (disk, 0, MAX_DISK);
  memcpy (disk, bytes, size);
  free (bytes);
}

/* As a program leaves it that has crashed. */
static void
mark_in_use (unsigned char *bytes, uint64_t size, const char *name)
{
  const size_t len = strlen (name);

  for (uint64_t i = 24; i + len <= size; ++i)
    if (memcmp (bytes + i, name, len) == 0 &&
        load_be16 (bytes + i - 6) == len) {
      bytes[i - 24 + 15] |= BITMAP_IN_USE;
      return;
    }
  REQUIRE (false);
}

static void
make_image (struct scene *s)
{
  const struct kind *const k = s->kind;

  qemu_run (0, "qemu-img create -q -f qcow2 -o %s i.qcow2 %" PRIu64,
            k->options, k->small_size);
  qemu_run (0, "qemu-io -c 'write -q -P 1 0 1k' -c 'write -q -P 2 7k 130k' "
            "-c 'write -q -P 3 300k 5k' -c 'write -q -P 4 450k 20k' i.qcow2");
  if (k->small_size > 800 * KiB)
    qemu_run (0, "qemu-io -c 'write -q -P 5 800k 20k' i.qcow2");
  qemu_run (0, "qemu-img snapshot -c s0 i.qcow2");
  load_disk (s->target, k->small_size, "");
  if (k->small_size != k->size)
    qemu_run (0, "qemu-img resize -q --shrink i.qcow2 %" PRIu64, k->size);
  qemu_run (0, "qemu-io -c 'write -q -P 6 20k 5k' i.qcow2");
  load_disk (s->first, k->size, "");
  qemu_run (0, "qemu-img bitmap --add -g 512 i.qcow2 fine");
  qemu_run (0, "qemu-img bitmap --add -g 32k i.qcow2 coarse");
  qemu_run (0, "qemu-img bitmap --add -g 2k i.qcow2 disabled");
  if (k->small_size == k->size)
    qemu_run (0, "qemu-img bitmap --add -g 1k i.qcow2 broken");
  qemu_run (0, "qemu-io -c 'write -q -P 7 10k 3k' -c 'write -q -P 8 200k 30k'"
            " -c 'write -qz 300k 5k' i.qcow2");
  if (k->snapshot_is_full)
    qemu_run (0, "qemu-io -c 'write -q -P 9 60k 300k' i.qcow2");
  if (k->size > 600 * KiB)
    qemu_run (0, "qemu-io -c 'write -q -P 10 600k 10k' i.qcow2");
  qemu_run (0, "qemu-img bitmap --disable i.qcow2 disabled");
  load_disk (s->disk, k->size, "");
  s->bytes = qemu_load ("i.qcow2", &s->size);
  if (k->small_size == k->size)
    mark_in_use (s->bytes, s->size, "broken");
}

static void
scene_init (struct scene *s)
{
  make_image (s);
  memcpy (s->written, s->disk, MAX_DISK);
  if (s->kind->write_before)
    memset (s->written + WRITE_AT, 'B', WRITE);
  if (s->kind->take)
    memcpy (s->target, s->written, MAX_DISK);
  bitmap_set_load (&s->before, s->bytes, s->size);
  REQUIRE (s->before.problem[0] == '\0');
}

static struct qcow2_image *
open_image (struct host *h, bool writable, enum qcow2_bitmaps mode)
{
  const struct qcow2_options options = {
    .writable = writable, .bitmaps = mode,
    .overlap_check = QCOW2_OVERLAP_ALL,
  };
  struct qcow2_error err;
  struct qcow2_image *image;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  if (image == NULL)
    printf ("%s\n", err.text);
  return image;
}

static bool
run (struct host *h, struct scene *s)
{
  const struct qcow2_name name = { s->kind->take ? "s1" : "s0", 2 };
  const struct qcow2_snapshot_options options = {
    .name = name, .date_sec = 1000000000,
  };
  struct qcow2_error err = { .text = "" };
  struct qcow2_image *const image = open_image (h, true, s->kind->mode);
  int r = image == NULL ? -1 : 0;

  if (r == 0 && s->kind->write_before)
    r = qcow2_pwrite (image, &h->io, s->written + WRITE_AT, WRITE, WRITE_AT,
                      false, &err);
  if (r == 0 && s->kind->take)
    r = qcow2_snapshot_create (image, &h->io, &options, &err);
  if (r == 0)
    r = qcow2_snapshot_apply (image, &h->io, &name, false, NULL, &err);
  s->returned = host_tick (h);
  if (!CHECK (r == 0))
    printf ("%s: %s\n", s->kind->options, err.text);
  qcow2_close (image);
  return r == 0;
}

/* ---- States ------------------------------------------------------------ */

enum disk { WRONG, OLD, NEW };

/* Of the old one the first write may be there in part. */
static enum disk
read_disk (struct host *h, const struct scene *s, unsigned char *disk)
{
  struct qcow2_image *const image =
    open_image (h, false, QCOW2_BITMAPS_INVALIDATE);
  struct qcow2_error err;
  uint64_t size = 0;
  bool ok;

  memset (disk, 0, MAX_DISK);
  ok = image != NULL;
  if (ok)
    size = qcow2_get_info (image).virtual_size;
  ok = ok && size <= MAX_DISK &&
    qcow2_pread (image, &h->io, disk, (uint32_t) size, 0, &err) == 0;
  qcow2_close (image);
  if (!ok)
    return WRONG;
  if (size == s->kind->small_size && memcmp (disk, s->target, size) == 0)
    return NEW;
  if (size != s->kind->size)
    return WRONG;
  for (uint64_t i = 0; i < size; ++i)
    if (disk[i] != s->disk[i] && disk[i] != s->written[i])
      return WRONG;
  return OLD;
}

static bool
same_bits (const struct bitmap_seen *a, const struct bitmap_seen *b)
{
  const uint64_t nr = a->nr_bits < b->nr_bits ? a->nr_bits : b->nr_bits;

  for (uint64_t i = 0; i < nr; ++i)
    if (bitmap_has (a, i) != bitmap_has (b, i))
      return false;
  return true;
}

/* One that is enabled, and not in use. */
static const char *
check_true (const struct scene *s, const struct bitmap_seen *b,
            const struct bitmap_seen *was, const unsigned char *disk,
            uint64_t size, enum disk which)
{
  for (uint64_t i = 0; i < b->nr_bits; ++i)
    if (bitmap_part_differs (b, i, disk, s->first, size) && !bitmap_has (b, i))
      return "a bitmap has not what has changed";
  for (uint64_t i = 0; i < was->nr_bits && i < b->nr_bits; ++i)
    if (bitmap_has (was, i) && !bitmap_has (b, i))
      return "a bitmap has lost a bit";
  for (uint64_t i = 0; which == NEW && i < b->nr_bits; ++i) {
    const uint64_t at = i << b->granularity_bits;

    if (at >= QUIET + 32 * KiB && at + 32 * KiB <= 512 * KiB &&
        bitmap_has (b, i))
      return "a bitmap has what has not changed";
  }
  return NULL;
}

static const char *
check_one (const struct scene *s, const struct state *state,
           const struct bitmap_seen *b, const struct bitmap_seen *was,
           const unsigned char *disk, enum disk which)
{
  const uint64_t size =
    which == NEW ? s->kind->small_size : s->kind->size;
  const bool marked = s->kind->write_before &&
    s->kind->mode != QCOW2_BITMAPS_DURABLE;

  if (b->nr_bits != (size + (UINT64_C (1) << b->granularity_bits) - 1)
      >> b->granularity_bits)
    return "a bitmap is of another size than the disk";
  if (!(was->flags & BITMAP_AUTO) || (was->flags & BITMAP_IN_USE))
    return b->flags != was->flags ? "a bitmap has other flags"
      : !same_bits (b, was) ? "a bitmap has other bits" : NULL;
  if (!(b->flags & BITMAP_AUTO))
    return "a bitmap is not enabled any more";
  if (b->flags & BITMAP_IN_USE)
    return marked && (which == OLD || s->kind->take) &&
      state->tick <= s->returned ? NULL
      : "a bitmap is in use";
  return check_true (s, b, was, disk, size, which);
}

static const char *
check_set (struct scene *s, const struct state *state,
           const unsigned char *disk, enum disk which)
{
  struct bitmap_set seen;
  const char *problem = NULL;

  bitmap_set_load (&seen, state->bytes, state->size);
  if (seen.problem[0] != '\0') {
    printf ("%s\n", seen.problem);
    problem = "the bitmaps break a rule";
  }
  else if (seen.nr != s->before.nr)
    problem = "a bitmap is missing";
  for (size_t i = 0; problem == NULL && i < seen.nr; ++i)
    problem = check_one (s, state, &seen.bitmap[i], &s->before.bitmap[i],
                         disk, which);
  if (problem != NULL)
    bitmap_set_print (&seen);
  bitmap_set_free (&seen);
  return problem;
}

/* After the crash; what is written then is in bitmaps that are true. */
static const char *
go_on (struct host *h, const struct scene *s, const struct state *state)
{
  static const unsigned char more[3 * KiB] = { 'M' };
  struct qcow2_image *const image =
    open_image (h, true, QCOW2_BITMAPS_DURABLE);
  struct qcow2_error err = { .text = "" };
  struct bitmap_set seen;
  struct fsck f;
  bool ok = image != NULL, told = true;

  ok = ok && qcow2_pwrite (image, &h->io, more, sizeof more, MORE_AT, true,
                           &err) == 0 &&
    qcow2_end (image, &h->io, &err) == 0;
  qcow2_close (image);
  if (!ok) {
    printf ("%s\n", err.text);
    return "it cannot be written to";
  }
  bitmap_set_load (&seen, h->bytes, h->size);
  for (size_t i = 0; i < seen.nr; ++i)
    if (seen.bitmap[i].flags == BITMAP_AUTO)
      told = told && bitmap_has (&seen.bitmap[i],
                                 MORE_AT >> seen.bitmap[i].granularity_bits);
  ok = seen.problem[0] == '\0' && seen.nr == s->before.nr;
  bitmap_set_free (&seen);
  fsck_image (h->bytes, h->size, &f);
  if (f.corruptions > 0 ||
      f.leaks > (state->tick > s->returned ? 0 : MAX_LEAKS)) {
    printf ("%s %s (%u)\n", f.text, f.leak_text, f.leaks);
    return "it is not clean after it was written to";
  }
  return !ok ? "the bitmaps are not sound after it was written to"
    : told ? NULL : "a bitmap does not know of a later write";
}

static const char *
find_problem (struct scene *s, const struct state *state)
{
  static unsigned char disk[MAX_DISK];
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const char *problem;
  enum disk which;
  struct fsck f;
  struct host h;

  fsck_image (state->bytes, state->size, &f);
  if (f.corruptions > 0 && !f.dirty) {
    printf ("%s\n", f.text);
    return "the metadata is damaged";
  }
  host_init (&h, &spec, state->bytes, state->size);
  which = read_disk (&h, s, disk);
  s->old_states += which == OLD;
  s->new_states += which == NEW;
  problem = which == WRONG ? "the disk is neither the old nor the new one"
    : which == OLD && state->tick > s->returned
    ? "the old disk, although the call has returned"
    : check_set (s, state, disk, which);
  if (problem == NULL)
    problem = go_on (&h, s, state);
  host_free (&h);
  return problem;
}

static bool
look (void *opaque, const struct state *state)
{
  struct scene *const s = opaque;
  const char *problem;

  if (!seen_is_new (s->seen, state->hash + (state->tick > s->returned)))
    return true;
  problem = find_problem (s, state);
  if (s->states++ % 97 == 0 && problem == NULL && !PLANTED)
    qemu_submit (state->bytes, state->size, NULL, QEMU_REPAIRED, NULL, 0,
                 s->kind->options);
  if (problem == NULL)
    return true;
  if (s->failures++ == 0)
    printf ("%s, %s: %s\n", s->kind->options, state->how, problem);
  return false;
}

/* Returns how many states were wrong. */
static unsigned long
play (struct scene *s, uint64_t seed)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const struct replay_spec how = {
    .seed = seed, .all_subsets = 5, .subsets = 12, .prefix_percent = 100,
  };
  struct host h;

  s->failures = s->old_states = s->new_states = 0;
  memset (s->seen, 0, NR_SEEN * sizeof *s->seen);
  scene_init (s);
  host_init (&h, &spec, s->bytes, s->size);
  host_reopen (&h);
  host_record (&h);
  if (run (&h, s)) {
    if (!PLANTED)
      qemu_check_bits (h.bytes, h.size, seed, s->kind->options);
    replay (&h, &how, look, s);
    if (s->failures == 0)
      CHECK (s->old_states > 0 && s->new_states > 0);
  }
  host_free (&h);
  bitmap_set_free (&s->before);
  free (s->bytes);
  return s->failures;
}

static unsigned long
play_all (void)
{
  static struct scene s;
  unsigned long failures = 0;

  s.states = 0;
  s.seen = calloc (NR_SEEN, sizeof *s.seen);
  REQUIRE (s.seen != NULL);
  for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; ++k) {
    s.kind = &kinds[k];
    unit_context ("%s, kind %zu", s.kind->options, k);
    failures += play (&s, 1 + k);
  }
  qemu_wait ();
  printf ("%lu states\n", s.states);
  CHECK (s.states > 100);
  free (s.seen);
  return failures;
}

int
main (void)
{
  qemu_init ();
#ifdef Q2_PLANTS
  static const struct { int nr; const char *name; } plants[] = {
    { Q2_PLANT_APPLY_FORGET, "no bits of what differs" },
    { Q2_PLANT_APPLY_LATE, "bitmaps after the disk" },
    { Q2_PLANT_BITMAPS_EARLY_RELEASE, "old bitmaps released early" },
    { Q2_PLANT_BITMAPS_STORE_NOTHING, "bits in memory are not stored" },
    { Q2_PLANT_EARLY_SWITCH, "switched to what is not durable" },
  };

  for (size_t i = 0; i < sizeof plants / sizeof plants[0]; ++i) {
    q2_planted = plants[i].nr;
    printf ("%s:\n", plants[i].name);
    CHECK (play_all () > 0);
  }
#else
  CHECK_EQ (play_all (), 0);
  CHECK (qemu_bits_checks () > 0);
#endif
  qemu_finish ();
  return unit_finish ();
}
