/* SPDX-License-Identifier: BSD-3-Clause */
/* test-check.c - a repair by qcow2_check may be interrupted anywhere.
 *
 * Images whose refcounts and flags are damaged are repaired; of each file
 * that a crash could leave behind, without a dirty bit, must hold:
 * no cluster has fewer refcounts, and no entry that says it is alone more
 * company, than before the repair; the disk reads as before; and another
 * repair leaves nothing to be found.
 *
 * Linked with a copy of the engine that has the bugs of base/plant.h built
 * in, it is test-check-planted, and must notice the one that concerns it.
 */
#include "config.h"

#include "base/plant.h"

#include "fsck.h"
#include "host.h"
#include "qemu.h"
#include "recipe.h"
#include "replay.h"
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
#define NR_SEEN (1u << 16)

struct scene {
  const char *name;
  struct recipe_image image;
  unsigned char before[MAX_CLUSTERS], now[MAX_CLUSTERS];      /* risks */
  uint64_t *seen;               /* NR_SEEN hashes of states */
  unsigned long states, failures;
};

/* ---- Damage ------------------------------------------------------------ */

struct damaged {
  unsigned char *bytes;
  uint64_t size, table, cluster;
  struct rng *rng;
};

static uint64_t
block_of (const struct damaged *d, uint64_t i)
{
  return load_be64 (d->bytes + d->table + 8 * i);
}

/* The lowest byte of the refcount of a cluster. */
static unsigned char *
refcount_byte (const struct damaged *d, uint64_t c)
{
  const uint64_t bits = 1u << load_be32 (d->bytes + 96);
  const uint64_t per_block = d->cluster * 8 / bits;
  const uint64_t block = block_of (d, c / per_block);

  return d->bytes + block + c % per_block * bits / 8 + bits / 8 - 1;
}

/* ... that is in the file. */
static unsigned char *
some_byte (const struct damaged *d)
{
  return refcount_byte (d, rng_below (d->rng, d->size / d->cluster));
}

static void
raise_some (struct damaged *d)
{
  for (unsigned i = 0; i < 12; ++i)
    *some_byte (d) |= 2;
}

static void
change_some (struct damaged *d)
{
  for (unsigned i = 0; i < 12; ++i)
    *some_byte (d) = (unsigned char) rng_below (d->rng, 3);
}

static void
lose_block (struct damaged *d)
{
  memset (d->bytes + d->table, 0, 8);
}

/* What is behind the first cluster of the table is lost; the table itself has
 * a refcount that is not.
 */
static void
cut_table (struct damaged *d)
{
  uint64_t c = 1;

  if (load_be32 (d->bytes + 56) == 1)
    return;                     /* the image is too small */
  while (*refcount_byte (d, c) != 0)
    ++c;
  *refcount_byte (d, c) = 1;
  memcpy (d->bytes + c * d->cluster, d->bytes + d->table, d->cluster);
  store_be64 (d->bytes + 48, c * d->cluster);
  store_be32 (d->bytes + 56, 1);
}

static void
flip_flags (struct damaged *d)
{
  const uint64_t l1 = load_be64 (d->bytes + 40);
  const uint64_t l2 = load_be64 (d->bytes + l1) & UINT64_C (0xfffffffffffe00);

  for (uint64_t i = 0; i < d->cluster; i += 8)
    if (l2 != 0 && (load_be64 (d->bytes + l2 + i) & 0xfffffffffffe00) != 0 &&
        !(d->bytes[l2 + i] & 0x40) && rng_below (d->rng, 3) == 0)
      d->bytes[l2 + i] ^= 0x80;
}

static void
mix (struct damaged *d)
{
  change_some (d);
  flip_flags (d);
}

/* ---- Repairing --------------------------------------------------------- */

static bool
repair (struct host *h, enum qcow2_repair kind,
        struct qcow2_check_result *ret)
{
  const struct qcow2_options options = { .check = true, .writable = true };
  const struct qcow2_check_options check = { .repair = kind };
  struct qcow2_error err;
  struct qcow2_image *image;
  int r;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  if (!CHECK (image != NULL)) {
    fprintf (stderr, "%s\n", err.text);
    return false;
  }
  r = qcow2_check (image, &h->io, &check, ret, &err);
  if (!CHECK (r == 0))
    fprintf (stderr, "%s\n", err.text);
  qcow2_close (image);
  return r == 0;
}

static bool
reads_as_before (struct host *h, const struct scene *s)
{
  const struct qcow2_options options = { 0 };
  unsigned char *const disk = malloc (s->image.disk_size);
  struct qcow2_error err;
  struct qcow2_image *image;
  bool same;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  same = disk != NULL && image != NULL &&
    qcow2_pread (image, &h->io, disk, (uint32_t) s->image.disk_size, 0, &err)
    == 0 && memcmp (disk, s->image.disk, s->image.disk_size) == 0;
  qcow2_close (image);
  free (disk);
  return same;
}

/* ---- States ------------------------------------------------------------ */

static bool
is_new (struct scene *s, uint64_t hash)
{
  const size_t first = hash % NR_SEEN;

  hash |= 1;
  for (size_t i = first; i < first + 64; ++i) {
    if (s->seen[i % NR_SEEN] == hash)
      return false;
    if (s->seen[i % NR_SEEN] == 0) {
      s->seen[i % NR_SEEN] = hash;
      return true;
    }
  }
  return true;
}

static bool
is_riskier (struct scene *s, const struct state *state)
{
  struct fsck ignored;

  memset (s->now, 0, sizeof s->now);
  fsck_clusters (state->bytes, state->size, &ignored, s->now, MAX_CLUSTERS);
  for (size_t i = 0; i < MAX_CLUSTERS; ++i)
    if (s->now[i] & ~s->before[i])
      return true;
  return false;
}

static const char *
find_problem (struct scene *s, const struct state *state)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  struct qcow2_check_result result;
  const char *problem = NULL;
  struct fsck after;
  struct host h;

  if (is_riskier (s, state))
    return "a refcount is too low, or an entry COPIED, that was not before";
  host_init (&h, &spec, state->bytes, state->size);
  if (!reads_as_before (&h, s))
    problem = "the disk has changed";
  else if (!repair (&h, QCOW2_REPAIR_ALL, &result) ||
           result.corruptions + result.leaks > 0)
    problem = "it cannot be repaired any more";
  else {
    fsck_image (h.bytes, h.size, &after);
    if (after.corruptions + after.leaks > 0)
      problem = "a second repair does not end well";
    else if (!reads_as_before (&h, s))
      problem = "a second repair has changed the disk";
  }
  host_free (&h);
  return problem;
}

static bool
look (void *opaque, const struct state *state)
{
  struct scene *const s = opaque;
  const char *problem;

  if (!is_new (s, state->hash))
    return true;
  s->states++;
  problem = find_problem (s, state);
  if (problem == NULL)
    return true;
  if (s->failures++ == 0)
    printf ("%s, %s: %s\n", s->name, state->how, problem);
  return false;
}

/* ---- Scenes ------------------------------------------------------------ */

static const struct {
  const char *name;
  void (*damage) (struct damaged *d);
  enum qcow2_repair repair;
} damages[] = {
  { "leaks", raise_some, QCOW2_REPAIR_LEAKS },
  { "leaks, all", raise_some, QCOW2_REPAIR_ALL },
  { "refcounts", change_some, QCOW2_REPAIR_ALL },
  { "a lost block", lose_block, QCOW2_REPAIR_ALL },
  { "a short table", cut_table, QCOW2_REPAIR_ALL },
  { "flags", flip_flags, QCOW2_REPAIR_ALL },
  { "flags and refcounts", mix, QCOW2_REPAIR_ALL },
};

static const struct recipe recipes[] = {
  { .options = "cluster_size=512,refcount_bits=64", .cluster_bits = 9,
    .disk_size = 2560 * KiB, .fill_percent = 95 },
  { .options = "cluster_size=4k", .cluster_bits = 12,
    .disk_size = 256 * KiB, .fill_percent = 60, .snapshots = 2 },
  { .options = "cluster_size=1k,refcount_bits=8", .cluster_bits = 10,
    .disk_size = 256 * KiB, .fill_percent = 90, .compressed = true },
};

/* A refcount block that cannot be used may have had refcounts of clusters
 * that were not counted, if references are unknown: nothing is written.
 */
static void
nothing_is_guessed (void)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const struct recipe recipe = {
    .options = "cluster_size=4k", .cluster_bits = 12,
    .disk_size = 256 * KiB, .fill_percent = 60, .snapshots = 2,
  };
  struct recipe_image image;
  struct qcow2_check_result result;
  unsigned char *before, *field;
  uint64_t size;
  struct host h;

  unit_context ("%s", __func__);
  recipe_make (&image, &recipe, 1);
  host_init (&h, &spec, image.bytes, image.size);
  /* No snapshot table is there, and no refcount block. */
  store_be64 (h.bytes + 64, load_be64 (h.bytes + 64) + 512);
  field = h.bytes + load_be64 (h.bytes + 48);
  store_be64 (field, load_be64 (field) + 512);
  size = h.size;
  before = malloc (size);
  REQUIRE (before != NULL);
  memcpy (before, h.bytes, size);
  if (repair (&h, QCOW2_REPAIR_ALL, &result)) {
    CHECK (result.incomplete);
    CHECK (result.corruptions > 0);
    CHECK_EQ (result.corruptions_fixed, 0);
    CHECK_EQ (h.size, size);
    CHECK_BYTES (h.bytes, before, size);
  }
  free (before);
  host_free (&h);
  recipe_free (&image);
}

/* Returns how many states were wrong. */
static unsigned long
play (struct scene *s, size_t i, uint64_t seed)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const struct replay_spec how = {
    .seed = seed, .all_subsets = 5, .subsets = 6, .prefix_percent = 100,
  };
  struct rng rng = { seed };
  struct qcow2_check_result result;
  struct fsck ignored;
  struct damaged d;
  struct host h;

  s->name = damages[i].name;
  s->failures = 0;
  memset (s->seen, 0, NR_SEEN * sizeof *s->seen);
  host_init (&h, &spec, s->image.bytes, s->image.size);
  d = (struct damaged) {
    .bytes = h.bytes, .size = h.size, .table = load_be64 (h.bytes + 48),
    .cluster = UINT64_C (1) << load_be32 (h.bytes + 20), .rng = &rng,
  };
  damages[i].damage (&d);
  memset (s->before, 0, sizeof s->before);
  fsck_clusters (h.bytes, h.size, &ignored, s->before, MAX_CLUSTERS);
  host_reopen (&h);
  host_record (&h);
  if (repair (&h, damages[i].repair, &result)) {
    if (damages[i].repair == QCOW2_REPAIR_ALL)
      CHECK_EQ (result.corruptions, 0);
    CHECK_EQ (result.leaks, 0);
    CHECK (reads_as_before (&h, s));
    replay (&h, &how, look, s);
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
  for (size_t r = 0; r < sizeof recipes / sizeof recipes[0]; ++r) {
    recipe_make (&s.image, &recipes[r], seed);
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; ++i)
      failures += play (&s, i, seed + i);
    recipe_free (&s.image);
  }
  printf ("%lu states\n", s.states);
  CHECK (s.states > 100);
  free (s.seen);
  return failures;
}

int
main (void)
{
  qemu_init ();
  nothing_is_guessed ();
#ifdef Q2_PLANTS
  q2_planted = Q2_PLANT_FREE_TABLE_EARLY;
  CHECK (play_all (1) > 0);
#else
  CHECK_EQ (play_all (1), 0);
#endif
  qemu_finish ();
  return unit_finish ();
}
