/* SPDX-License-Identifier: BSD-3-Clause */
/* test-edit-bitmaps.c - changing bitmaps may be interrupted anywhere.
 *
 * Of each file that a crash could leave behind must hold: it has the bitmaps
 * of before or of after, all of them and bit by bit, and those of after once
 * the call has returned; its metadata is sound, but for leaks; the disk reads
 * as before, or, once it is written to, bitmaps that are enabled are marked
 * as in use; and bitmaps can be changed again.
 *
 * Linked with a copy of the engine that has the bugs of base/plant.h built
 * in, it is test-edit-bitmaps-planted, and must notice each that concerns it.
 */
#include "config.h"

#include "base/plant.h"

#include "bitmap_set.h"
#include "fsck.h"
#include "host.h"
#include "qemu.h"
#include "replay.h"
#include "seen.h"
#include "unit.h"

#ifdef Q2_PLANTS
int q2_planted;
#define PLANTED true
#else
#define PLANTED false
#endif

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (8 << 20)
#define DISK (512 * KiB)
#define BEFORE_AT (3 * KiB)     /* where is written before, and after */
#define AFTER_AT (200 * KiB)
#define WRITE (9 * KiB)

#define NAME(s) { s, sizeof (s) - 1 }

/* ---- Scenes ------------------------------------------------------------ */

static const struct qcow2_bitmap_source from_fine[] = {
  { .name = NAME ("fine") }, { .name = NAME ("coarse") },
};
static const struct qcow2_bitmap_source from_new[] = {
  { .name = NAME ("new") },
};

#define ADD(s)                                                                \
  { .verb = QCOW2_BITMAP_ADD, .name = NAME (s), .granularity = 1024 }
#define ACT(v, s) { .verb = QCOW2_BITMAP_##v, .name = NAME (s) }
#define MERGE(s, from)                                                        \
  { .verb = QCOW2_BITMAP_MERGE, .name = NAME (s), .sources = from,            \
    .nr_sources = sizeof (from) / sizeof (from)[0] }

static const struct play {
  const char *name;
  size_t nr;
  struct qcow2_bitmap_action action[6];
  bool write_before, write_after;
} plays[] = {
  { "add", 1, { ADD ("new") }, false, false },
  { "add, and write", 1, { ADD ("new") }, true, true },
  { "remove", 1, { ACT (REMOVE, "fine") }, false, true },
  { "remove all", 3, { ACT (REMOVE, "fine"), ACT (REMOVE, "coarse"),
                       ACT (REMOVE, "empty") }, false, false },
  { "clear", 1, { ACT (CLEAR, "fine") }, false, false },
  { "enable", 1, { ACT (ENABLE, "fine") }, false, true },
  { "disable", 1, { ACT (DISABLE, "coarse") }, false, true },
  { "merge", 1, { MERGE ("empty", from_fine) }, false, false },
  { "merge into one with bits", 1, { MERGE ("coarse", from_fine) }, false,
    false },
  { "a group", 6, { ADD ("new"), MERGE ("new", from_fine),
                    ACT (CLEAR, "fine"), MERGE ("fine", from_new),
                    ACT (DISABLE, "new"), ACT (REMOVE, "coarse") }, false,
    true },
};

static const struct kind {
  const char *options;
  bool snapshot;
  bool trims_to_garbage;
} kinds[] = {
  { "cluster_size=512,refcount_bits=64", false, true },
  { "cluster_size=4k", true, true },
  { "cluster_size=64k", false, false },
  { "cluster_size=4k,lazy_refcounts=on", false, true },
};

struct scene {
  const struct play *play;
  const struct kind *kind;
  unsigned char *bytes;         /* the image before */
  uint64_t size;
  unsigned char *disk, *written;        /* before, and with what is written */
  uint64_t cluster_size;
  struct bitmap_set before, after;
  uint64_t began, returned;     /* ticks when the call had */
  uint64_t *seen;               /* NR_SEEN hashes of states */
  unsigned long states, new_states, failures;
};

/* Bits that fill more than a cluster, and others in a pattern. */
static void
make_image (struct scene *s)
{
  qemu_run (0, "qemu-img create -q -f qcow2 -o %s i.qcow2 %" PRIu64,
            s->kind->options, DISK);
  qemu_run (0, "qemu-img bitmap --add -g 512 i.qcow2 fine");
  qemu_run (0, "qemu-img bitmap --add -g 2k i.qcow2 coarse");
  qemu_run (0, "qemu-io -c 'write -q -P 1 0 1k' -c 'write -q -P 2 7k 130k' "
            "-c 'write -q -P 3 300k 512' -c 'write -q -P 4 511k 1k' i.qcow2");
  qemu_run (0, "qemu-img bitmap --disable i.qcow2 fine");
  if (s->kind->snapshot) {
    qemu_run (0, "qemu-img snapshot -c s i.qcow2");
    qemu_run (0, "qemu-io -c 'write -q -P 5 20k 9k' i.qcow2");
  }
  qemu_run (0, "qemu-img bitmap --add --disable -g 1k i.qcow2 empty");
  qemu_run (0, "qemu-img convert -O raw i.qcow2 i.raw");
  s->bytes = qemu_load ("i.qcow2", &s->size);
}

static unsigned char *
copy_of (const void *bytes, uint64_t size)
{
  unsigned char *const p = malloc (size);

  REQUIRE (p != NULL);
  memcpy (p, bytes, size);
  return p;
}

static void
scene_init (struct scene *s)
{
  uint64_t size;

  make_image (s);
  s->disk = qemu_load ("i.raw", &size);
  REQUIRE (size == DISK);
  s->written = copy_of (s->disk, DISK);
  memset (s->written + BEFORE_AT, 'B', WRITE);
  memset (s->written + AFTER_AT, 'A', WRITE);
  s->cluster_size = UINT64_C (1) << s->bytes[23];
}

static void
scene_free (struct scene *s)
{
  free (s->bytes);
  free (s->disk);
  free (s->written);
}

/* ---- The image ---------------------------------------------------------- */

static struct qcow2_image *
open_image (struct host *h, bool writable)
{
  const struct qcow2_options options = { .writable = writable };
  struct qcow2_error err;
  struct qcow2_image *image;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  if (image == NULL)
    printf ("%s\n", err.text);
  return image;
}

static int
write_some (struct qcow2_image *image, struct host *h,
            const struct scene *s, uint64_t at, struct qcow2_error *err)
{
  return qcow2_pwrite (image, &h->io, s->written + at, WRITE, at, true, err);
}

/* What the image is changed by; before it the log begins. */
static bool
run (struct host *h, struct scene *s)
{
  struct qcow2_error err = { .text = "" };
  struct qcow2_image *const image = open_image (h, true);
  int r = image == NULL ? -1 : 0;

  if (r == 0 && s->play->write_before)
    r = write_some (image, h, s, BEFORE_AT, &err);
  s->began = host_tick (h);
  if (r == 0)
    r = qcow2_edit_bitmaps (image, &h->io, s->play->action, s->play->nr, NULL,
                            NULL, &err);
  s->returned = host_tick (h);
  if (r == 0 && s->play->write_after)
    r = write_some (image, h, s, AFTER_AT, &err);
  if (r == 0)
    r = qcow2_end (image, &h->io, &err);
  if (!CHECK (r == 0))
    printf ("%s: %s\n", s->play->name, err.text);
  qcow2_close (image);
  return r == 0;
}

/* ---- States ------------------------------------------------------------ */

/* Marks of writes are not the call's; returns whether all that are enabled
 * have one.
 */
static bool
strip_marks (struct bitmap_set *set)
{
  bool all = true;

  for (size_t i = 0; i < set->nr; ++i) {
    struct bitmap_seen *const b = &set->bitmap[i];

    if ((b->flags & (BITMAP_AUTO | BITMAP_IN_USE)) == BITMAP_AUTO)
      all = false;
    if (b->flags & BITMAP_AUTO)
      b->flags &= ~BITMAP_IN_USE;
  }
  return all;
}

enum disk { WRONG, UNCHANGED, WRITTEN_BEFORE, WRITTEN_AFTER };

/* Writes reach the disk in pieces; all else is as it was. */
static enum disk
read_disk (struct host *h, const struct scene *s)
{
  static unsigned char disk[DISK];
  struct qcow2_image *const image = open_image (h, false);
  struct qcow2_error err;
  enum disk r = UNCHANGED;

  if (image == NULL ||
      qcow2_pread (image, &h->io, disk, (uint32_t) DISK, 0, &err) == -1)
    r = WRONG;
  for (uint64_t i = 0; r != WRONG && i < DISK; ++i)
    if (disk[i] != s->disk[i])
      r = disk[i] != s->written[i] ? WRONG
        : i >= AFTER_AT ? WRITTEN_AFTER : WRITTEN_BEFORE;
  qcow2_close (image);
  return r;
}

static const char *
check_set (struct scene *s, const struct state *state, bool *ret_marked)
{
  struct bitmap_set seen;
  const char *problem = NULL;

  bitmap_set_load (&seen, state->bytes, state->size);
  *ret_marked = strip_marks (&seen);
  if (bitmap_set_equal (&seen, &s->after))
    s->new_states++;
  else if (!bitmap_set_equal (&seen, &s->before))
    problem = "neither the old bitmaps nor the new ones";
  else if (state->tick > s->returned)
    problem = "the old bitmaps, although the call has returned";
  if (problem != NULL && seen.problem[0] != '\0')
    printf ("%s\n", seen.problem);
  bitmap_set_free (&seen);
  return problem;
}

/* Another change, after the crash. */
static bool
goes_on (struct host *h)
{
  static const struct qcow2_bitmap_action more = ADD ("one more");
  struct qcow2_image *const image = open_image (h, true);
  struct qcow2_error err = { .text = "" };
  struct bitmap_set seen;
  struct fsck f;
  bool ok;

  ok = image != NULL &&
    qcow2_edit_bitmaps (image, &h->io, &more, 1, NULL, NULL, &err) == 0 &&
    qcow2_end (image, &h->io, &err) == 0;
  if (!ok)
    printf ("%s\n", err.text);
  qcow2_close (image);
  fsck_image (h->bytes, h->size, &f);
  bitmap_set_load (&seen, h->bytes, h->size);
  ok = ok && f.corruptions == 0 && seen.problem[0] == '\0' &&
    bitmap_set_find (&seen, "one more") != NULL;
  bitmap_set_free (&seen);
  return ok;
}

static const char *
find_problem (struct scene *s, const struct state *state)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const char *problem;
  struct fsck f;
  struct host h;
  enum disk disk;
  bool marked;

  fsck_image (state->bytes, state->size, &f);
  if (f.corruptions > 0) {
    printf ("%s\n", f.text);
    return "the metadata is damaged";
  }
  problem = check_set (s, state, &marked);
  if (problem != NULL)
    return problem;
  host_init (&h, &spec, state->bytes, state->size);
  disk = read_disk (&h, s);
  if (disk == WRONG)
    problem = "the disk has changed";
  else if (!marked && (disk == WRITTEN_AFTER ||
                       (disk == WRITTEN_BEFORE && state->tick < s->began)))
    problem = "a bitmap that does not know of a write is not marked";
  else if (!goes_on (&h))
    problem = "bitmaps cannot be changed any more";
  else if (read_disk (&h, s) != disk)
    problem = "changing bitmaps again has changed the disk";
  host_free (&h);
  return problem;
}

static bool
look (void *opaque, const struct state *state)
{
  struct scene *const s = opaque;
  const char *problem;

  if (!seen_is_new (s->seen, state->hash + (state->tick > s->began) +
               (state->tick > s->returned)))
    return true;
  problem = find_problem (s, state);
  /* With a bug planted QEMU may notice what is no problem of this test. */
  if (s->states++ % 97 == 0 && problem == NULL && !PLANTED) {
    char what[200];

    snprintf (what, sizeof what, "%s, %s, %s", s->kind->options,
              s->play->name, state->how);
    qemu_submit (state->bytes, state->size, NULL, QEMU_SOUND, NULL, 0, what);
  }
  if (problem == NULL)
    return true;
  if (s->failures++ == 0)
    printf ("%s, %s, %s: %s\n", s->kind->options, s->play->name, state->how,
            problem);
  return false;
}

/* Returns how many states were wrong. */
static unsigned long
play (struct scene *s, uint64_t seed)
{
  const struct host_spec spec = {
    .capacity = CAPACITY, .grows = true,
    .trim = s->kind->trims_to_garbage ? HOST_TRIM_GARBAGE : HOST_TRIM_ZEROS,
  };
  const struct replay_spec how = {
    .seed = seed, .all_subsets = 5, .subsets = 16, .prefix_percent = 100,
  };
  struct host h;

  s->failures = s->new_states = 0;
  memset (s->seen, 0, NR_SEEN * sizeof *s->seen);
  bitmap_set_load (&s->before, s->bytes, s->size);
  bitmap_set_copy (&s->after, &s->before);
  for (size_t i = 0; i < s->play->nr; ++i)
    bitmap_set_apply (&s->after, &s->play->action[i], DISK, s->cluster_size,
                      NULL);
  host_init (&h, &spec, s->bytes, s->size);
  host_reopen (&h);
  host_record (&h);
  if (run (&h, s)) {
    replay (&h, &how, look, s);
    if (s->failures == 0)
      CHECK (s->new_states > 0);
  }
  host_free (&h);
  bitmap_set_free (&s->before);
  bitmap_set_free (&s->after);
  return s->failures;
}

static unsigned long
play_all (uint64_t seed)
{
  static struct scene s;
  unsigned long failures = 0;

  s.seen = calloc (NR_SEEN, sizeof *s.seen);
  REQUIRE (s.seen != NULL);
  for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; ++k) {
    s.kind = &kinds[k];
    scene_init (&s);
    for (size_t i = 0; i < sizeof plays / sizeof plays[0]; ++i) {
      s.play = &plays[i];
      unit_context ("%s, %s", s.kind->options, s.play->name);
      failures += play (&s, seed + i);
    }
    scene_free (&s);
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
  static const int plants[] = {
    Q2_PLANT_EARLY_SWITCH, Q2_PLANT_LAZY_SWITCH,
    Q2_PLANT_BITMAPS_EARLY_RELEASE, Q2_PLANT_BITMAPS_IN_PLACE,
    Q2_PLANT_BITMAPS_KEEP_PROMISE,
  };

  for (size_t i = 0; i < sizeof plants / sizeof plants[0]; ++i) {
    q2_planted = plants[i];
    printf ("planted bug %d\n", plants[i]);
    CHECK (play_all (1) > 0);
  }
#else
  CHECK_EQ (play_all (1), 0);
#endif
  qemu_finish ();
  return unit_finish ();
}
