/* SPDX-License-Identifier: BSD-3-Clause */
/* test-snapshots.c - taking, deleting and applying a snapshot may be
 * interrupted anywhere.
 *
 * Of each file that a crash could leave behind must hold: it has the list of
 * snapshots of before or of after, the disk and every snapshot read as they
 * must, no cluster has fewer refcounts than users, and none that may be
 * written in place has several.  Then the disk is written to, as a server
 * would after the crash: still every snapshot reads as it must, and the image
 * is clean; in version 2, which has no dirty bit, after a repair of leaks.
 *
 * Linked with a copy of the engine that has the bugs of base/plant.h built in,
 * it is test-snapshots-planted, and must notice those that concern it.
 */
#include "config.h"

#include "base/plant.h"

#include "fsck.h"
#include "host.h"
#include "qemu.h"
#include "recipe.h"
#include "replay.h"
#include "seen.h"
#include "unit.h"

#include "base/be.h"

#include <stdlib.h>
#include <string.h>

#ifdef Q2_PLANTS
int q2_planted;
#endif

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (6144 * KiB)
#define MAX_CLUSTERS (CAPACITY / 512)
#define MAX_DISK (512 * KiB)
#define QEMU_EVERY 20
#define MAX_LEAKS 4

enum change { TAKE, SAVE, DELETE, APPLY };       /* SAVE: with a VM state */
#define STATE (70 * KiB)

static const struct recipe recipes[] = {
  { .options = "cluster_size=512,refcount_bits=64", .cluster_bits = 9,
    .disk_size = 256 * KiB, .fill_percent = 80, .snapshots = 2,
    .zero_percent = 30 },
  { .options = "cluster_size=4k", .cluster_bits = 12,
    .disk_size = 512 * KiB, .fill_percent = 60, .snapshots = 1,
    .zero_percent = 30 },
  { .options = "cluster_size=4k,compat=0.10", .cluster_bits = 12,
    .disk_size = 256 * KiB, .fill_percent = 70, .snapshots = 1 },
  { .options = "cluster_size=1k,refcount_bits=8", .cluster_bits = 10,
    .disk_size = 256 * KiB, .fill_percent = 90, .compressed = true,
    .snapshots = 1 },
  { .options = "cluster_size=16k,extended_l2=on", .cluster_bits = 14,
    .disk_size = 512 * KiB, .fill_percent = 60, .snapshots = 1 },
  { .options = "cluster_size=2k,lazy_refcounts=on", .cluster_bits = 11,
    .disk_size = 256 * KiB, .fill_percent = 60, .snapshots = 2 },
  /* Some tables are shared with the only snapshot, until it is deleted. */
  { .options = "cluster_size=1k,refcount_bits=32", .cluster_bits = 10,
    .disk_size = 512 * KiB, .fill_percent = 70, .snapshots = 1 },
};
#define NR_RECIPES (sizeof recipes / sizeof recipes[0])

struct scene {
  enum change change;
  const struct recipe *recipe;
  struct recipe_image image;
  unsigned version;
  unsigned char disk[MAX_DISK];         /* before the change, and after it
                                           unless a snapshot is applied */
  unsigned old_nr;                      /* of snapshots */
  char what[100];
  unsigned char risks[MAX_CLUSTERS];
  uint64_t *seen;                       /* NR_SEEN hashes of states */
  unsigned long states, failures, old, new;
};

static const struct qcow2_name new_name = { "new", 3 }, s0_name = { "s0", 2 };

/* ---- The engine -------------------------------------------------------- */

static struct qcow2_image *
open_image (struct host *h, bool writable)
{
  const struct qcow2_options options = {
    .writable = writable, .cache_size = 64 * KiB,
  };
  struct qcow2_error err;
  struct qcow2_image *image;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  if (image == NULL)
    fprintf (stderr, "%s\n", err.text);
  return image;
}

static bool
end_image (struct host *h, struct qcow2_image *image)
{
  struct qcow2_error err;
  const int r = qcow2_end (image, &h->io, &err);

  if (r == -1)
    fprintf (stderr, "%s\n", err.text);
  qcow2_close (image);
  return r == 0;
}

static int
read_state (void *opaque, void *buf, uint32_t count, uint64_t off,
            struct qcow2_error *err)
{
  (void) opaque;
  (void) err;
  for (uint32_t i = 0; i < count; ++i)
    ((unsigned char *) buf)[i] = (unsigned char) ((off + i) / 512 * 7 + 1);
  return 0;
}

static const struct qcow2_vm_state vm_state = { STATE, read_state, NULL };

static int
change (struct host *h, struct qcow2_image *image, enum change change,
        struct qcow2_error *err)
{
  const struct qcow2_snapshot_options options = {
    .name = new_name, .date_sec = 1000000000,
    .vm_state = change == SAVE ? &vm_state : NULL,
  };

  switch (change) {
  case TAKE:
  case SAVE:
    return qcow2_snapshot_create (image, &h->io, &options, err);
  case DELETE:
    return qcow2_snapshot_delete (image, &h->io, &s0_name, false, NULL, err);
  case APPLY:
    return qcow2_snapshot_apply (image, &h->io, &s0_name, false, NULL, err);
  }
  return -1;
}

static bool
make_change (struct host *h, const struct scene *s)
{
  struct qcow2_image *const image = open_image (h, true);
  struct qcow2_error err;

  if (!CHECK (image != NULL))
    return false;
  if (!CHECK (change (h, image, s->change, &err) == 0)) {
    printf ("%s\n", err.text);
    qcow2_close (image);
    return false;
  }
  return CHECK (end_image (h, image));
}

/* ---- What must be there ------------------------------------------------ */

struct listing {
  const struct scene *s;
  struct host *h;
  struct qcow2_image *image;
  unsigned nr;
  bool has_new, has_s0, wrong;
};

static bool
reads_as (struct host *h, struct qcow2_image *image,
          const unsigned char *expected, uint64_t size)
{
  static unsigned char buf[MAX_DISK];
  struct qcow2_error err;

  return qcow2_get_info (image).virtual_size == size &&
    qcow2_pread (image, &h->io, buf, (uint32_t) size, 0, &err) == 0 &&
    memcmp (buf, expected, size) == 0;
}

static bool
has_state (struct host *h, struct qcow2_image *image,
           const struct qcow2_name *id)
{
  static unsigned char expected[STATE];
  struct qcow2_error err;
  struct qcow2_image *const view =
    qcow2_open_vm_state (image, &h->io, id, true, &err);
  bool same;

  if (view == NULL || read_state (NULL, expected, STATE, 0, &err) == -1)
    return false;
  same = reads_as (h, view, expected, STATE);
  qcow2_close (view);
  return same;
}

static int
look_at_snapshot (void *opaque, const struct qcow2_snapshot *snapshot)
{
  struct listing *const l = opaque;
  struct qcow2_error err;
  const bool is_new = snapshot->name.len == 3;
  const struct qcow2_name id = snapshot->id;
  struct qcow2_image *const view =
    qcow2_open_view (l->image, &l->h->io, QCOW2_VIEW_SNAPSHOT_ID, &id, &err);

  l->nr++;
  l->has_new |= is_new;
  l->has_s0 |= snapshot->name.len == 2 && snapshot->name.bytes[1] == '0';
  if (view == NULL ||
      !reads_as (l->h, view, is_new ? l->s->disk : l->s->image.snapshot,
                 l->s->image.disk_size))
    l->wrong = true;
  if (is_new && (l->s->change == SAVE) != has_state (l->h, l->image, &id))
    l->wrong = true;
  qcow2_close (view);
  return 0;
}

/* NULL: all is as it must be. */
static const char *
look_at_snapshots (struct host *h, struct scene *s, struct qcow2_image *image,
                   bool *ret_new)
{
  struct listing l = { s, h, image, 0, false, false, false };
  struct qcow2_error err;

  if (qcow2_list_snapshots (image, &h->io, look_at_snapshot, &l, &err) == -1)
    return "snapshots cannot be listed";
  if (l.wrong)
    return "a snapshot does not read as it must";
  if (s->change == APPLY)
    return l.nr == s->old_nr ? NULL : "a snapshot is missing";
  *ret_new = s->change == DELETE ? !l.has_s0 : l.has_new;
  return l.nr == s->old_nr + (!*ret_new ? 0 : s->change == DELETE ? -1u : 1)
    ? NULL : "a snapshot is missing, or there is one too many";
}

/* ---- After a crash ----------------------------------------------------- */

static bool
write_some (struct host *h, struct qcow2_image *image, unsigned char *disk,
            uint64_t size)
{
  static const unsigned char pattern[1536] = { 1, 2, 3 };
  struct qcow2_error err;

  for (uint64_t at = 0; at + sizeof pattern <= size; at += 37 * 512) {
    memcpy (disk + at, pattern, sizeof pattern);
    if (qcow2_pwrite (image, &h->io, pattern, sizeof pattern, at, false, &err)
        == -1) {
      printf ("%s\n", err.text);
      return false;
    }
  }
  return true;
}

static const char *
repair (struct host *h, enum qcow2_repair kind)
{
  const struct qcow2_options options = { .check = true, .writable = true };
  const struct qcow2_check_options check = { .repair = kind };
  struct qcow2_check_result result;
  struct qcow2_error err;
  struct qcow2_image *image;
  int r;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  if (image == NULL)
    return "it cannot be opened to be repaired";
  r = qcow2_check (image, &h->io, &check, &result, &err);
  qcow2_close (image);
  return r == 0 && result.corruptions + result.leaks == 0 ? NULL
    : "a repair of leaks is not enough";
}

/* A few clusters of tables may be leaked: of the old snapshot table, or of a
 * new one that was never named.  In version 2 more may be, and flags that are
 * not set are allowed.
 */
static const char *
is_clean (struct host *h, const struct scene *s)
{
  struct fsck f;

  fsck_image (h->bytes, h->size, &f);
  if (s->version >= 3 && (f.corruptions > 0 || f.leaks > MAX_LEAKS)) {
    printf ("%s %s\n", f.text, f.leak_text);
    return "it is not clean after it was written to";
  }
  return repair (h, QCOW2_REPAIR_LEAKS);
}

static const char *
go_on (struct host *h, struct scene *s, const unsigned char *before)
{
  static unsigned char disk[MAX_DISK];
  struct qcow2_image *image = open_image (h, true);
  const char *problem;
  bool ignored;

  if (image == NULL)
    return "it cannot be opened";
  memcpy (disk, before, s->image.disk_size);
  if (!write_some (h, image, disk, s->image.disk_size))
    problem = "it cannot be written to";
  else if (!reads_as (h, image, disk, s->image.disk_size))
    problem = "the disk does not read as was written";
  else
    problem = look_at_snapshots (h, s, image, &ignored);
  if (!end_image (h, image) && problem == NULL)
    problem = "it does not end well";
  return problem ? problem : is_clean (h, s);
}

/* ---- States ------------------------------------------------------------ */

static uint64_t
load (const struct state *state, uint64_t off, unsigned len)
{
  uint64_t v = 0;

  while (off < state->size && len-- > 0)
    v = v << 8 | state->bytes[off++];
  return v;
}

static uint64_t
refcount (const struct state *state, uint64_t cluster, unsigned bits)
{
  const unsigned order =
    load (state, 4, 4) == 3 ? (unsigned) load (state, 96, 4) : 4;
  const uint64_t per_block = (UINT64_C (8) << bits) >> order;
  const uint64_t block =
    load (state, load (state, 48, 8) + cluster / per_block * 8, 8);
  const unsigned bytes = 1u << order >> 3;

  return load (state, block + cluster % per_block * bytes, bytes);
}

/* An entry of the disk says that it is alone, and its refcount does not: while
 * a snapshot is deleted that is wrong (SNAP-5).
 */
static bool
has_early_flag (const struct scene *s, const struct state *state)
{
  const unsigned bits = s->recipe->cluster_bits;
  const uint64_t l1 = load (state, 40, 8), nr = load (state, 36, 4);
  const uint64_t mask = UINT64_C (0xfffffffffffe00);

  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t table = load (state, l1 + 8 * i, 8) & mask;

    for (uint64_t k = 0; table != 0 && k < UINT64_C (1) << bits; k += 8) {
      const uint64_t entry = load (state, table + k, 8);

      if (entry >> 63 && (entry & mask) != 0 &&
          refcount (state, (entry & mask) >> bits, bits) != 1)
        return true;
    }
  }
  return false;
}

static bool
has_risk (struct scene *s, const struct state *state)
{
  struct fsck ignored;

  /* With lazy refcounts they may be too low as long as the dirty bit says so;
   * what is shared may never be written in place.
   */
  memset (s->risks, 0, sizeof s->risks);
  fsck_clusters (state->bytes, state->size, &ignored, s->risks, MAX_CLUSTERS);
  for (size_t i = 0; i < MAX_CLUSTERS; ++i)
    if (s->risks[i] & (FSCK_SHARED | FSCK_TOO_LOW))
      return true;
  return false;
}

static void
ask_qemu (struct scene *s, const struct host *h, const unsigned char *disk)
{
#ifdef Q2_PLANTS
  (void) s;
  (void) h;
  (void) disk;
#else
  if (s->states % QEMU_EVERY == 0)
    qemu_submit (h->bytes, h->size, NULL, QEMU_REPAIRED, disk,
                 s->image.disk_size, s->what);
#endif
}

static const char *
look_inside (struct host *h, struct scene *s)
{
  struct qcow2_image *const image = open_image (h, false);
  const unsigned char *disk;
  const char *problem;
  bool new = false;

  if (image == NULL)
    return "it cannot be opened";
  if (s->change == APPLY)
    new = reads_as (h, image, s->image.snapshot, s->image.disk_size);
  disk = s->change == APPLY && new ? s->image.snapshot : s->disk;
  problem = reads_as (h, image, disk, s->image.disk_size)
    ? look_at_snapshots (h, s, image, &new) : "the disk has changed";
  qcow2_close (image);
  s->old += !new;
  s->new += new;
  ask_qemu (s, h, disk);
  return problem ? problem : go_on (h, s, disk);
}

static const char *
find_problem (struct scene *s, const struct state *state)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const char *problem;
  struct host h;

  if (has_risk (s, state))
    return "a refcount is too low, or a shared cluster COPIED";
  if (s->change == DELETE && strstr (s->recipe->options, "extended") == NULL &&
      !s->recipe->compressed && has_early_flag (s, state))
    return "an entry is COPIED before its refcount is lowered";
  host_init (&h, &spec, state->bytes, state->size);
  problem = look_inside (&h, s);
  host_free (&h);
  return problem;
}

static bool
look (void *opaque, const struct state *state)
{
  struct scene *const s = opaque;
  const char *problem;

  if (!seen_is_new (s->seen, state->hash))
    return true;
  s->states++;
  problem = find_problem (s, state);
  if (problem == NULL)
    return true;
  if (s->failures++ == 0)
    printf ("%s, %s: %s\n", s->what, state->how, problem);
  return false;
}

/* ---- Scenes ------------------------------------------------------------ */

/* The disk differs from its snapshots, and shares some tables with them. */
static void
prepare (struct host *h, struct scene *s)
{
  struct qcow2_image *const image = open_image (h, true);

  memcpy (s->disk, s->image.disk, s->image.disk_size);
  REQUIRE (image != NULL);
  CHECK (write_some (h, image, s->disk, s->image.disk_size / 2));
  CHECK (end_image (h, image));
}

/* Returns how many states were wrong. */
static unsigned long
play (struct scene *s, uint64_t seed)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const struct replay_spec how = {
    .seed = seed, .all_subsets = 5, .subsets = 10, .prefix_percent = 100,
  };
  static const char *const names[] = { "take", "save", "delete", "apply" };
  struct host h;

  snprintf (s->what, sizeof s->what, "%s, %s", names[s->change],
            s->recipe->options);
  unit_context ("%s", s->what);
  s->failures = s->old = s->new = 0;
  s->old_nr = s->recipe->snapshots;
  memset (s->seen, 0, NR_SEEN * sizeof *s->seen);
  host_init (&h, &spec, s->image.bytes, s->image.size);
  s->version = load_be32 (h.bytes + 4);
  prepare (&h, s);
  host_reopen (&h);
  host_record (&h);
  if (make_change (&h, s)) {
    replay (&h, &how, look, s);
    if (s->failures == 0)
      CHECK (s->old > 0 && s->new > 0);
  }
  host_free (&h);
  return s->failures;
}

static unsigned long
play_all (uint64_t seed)
{
  static struct scene s;
  unsigned long failures = 0;

  s.seen = calloc (NR_SEEN, sizeof *s.seen);
  if (s.seen == NULL)
    abort ();
  s.states = 0;
  for (size_t r = 0; r < NR_RECIPES; ++r) {
    s.recipe = &recipes[r];
    recipe_make (&s.image, &recipes[r], seed);
    for (unsigned c = TAKE; c <= APPLY; ++c) {
      s.change = (enum change) c;
      failures += play (&s, seed + c);
    }
    recipe_free (&s.image);
  }
  printf ("%lu states\n", s.states);
  free (s.seen);
  return failures;
}

#ifdef Q2_PLANTS
static void
find_planted (void)
{
  static const struct { int nr; const char *name; } plants[] = {
    { 0, "no bug" },
    { Q2_PLANT_EARLY_SWITCH, "published before it is durable" },
    { Q2_PLANT_KEEP_COPIED, "L2 entries stay COPIED" },
    { Q2_PLANT_KEEP_COPIED_L1, "L1 entries stay COPIED" },
    { Q2_PLANT_LOWER_EARLY, "lowered before it is deleted" },
    { Q2_PLANT_OWN_EARLY, "COPIED before it is lowered" },
  };

  for (size_t i = 0; i < sizeof plants / sizeof plants[0]; ++i) {
    unsigned long found;

    q2_planted = plants[i].nr;
    printf ("%s:\n", plants[i].name);
    found = play_all (1);
    unit_context ("%s", plants[i].name);
    CHECK ((found > 0) == (plants[i].nr != 0));
  }
}
#endif

int
main (void)
{
  qemu_init ();
#ifdef Q2_PLANTS
  find_planted ();
#else
  CHECK_EQ (play_all (1), 0);
#endif
  qemu_finish ();
  return unit_finish ();
}
