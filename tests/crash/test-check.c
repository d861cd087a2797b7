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
 * in, it is test-check-planted, and must notice those that concern it.
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

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef Q2_PLANTS
int q2_planted;
#define WITH_BUGS true
#else
#define WITH_BUGS false
#endif

/* Before it reads again what could not be read the engine waits, which would
 * be minutes here.
 */
extern int __wrap_nanosleep (const struct timespec *, struct timespec *);

int
__wrap_nanosleep (const struct timespec *pause, struct timespec *left)
{
  (void) pause;
  (void) left;
  return 0;
}

#define KiB (UINT64_C (1) << 10)
#define CAPACITY (6144 * KiB)
#define MAX_CLUSTERS (CAPACITY / 512)

struct scene {
  const char *name;
  struct recipe_image image;
  bool has_snapshot;
  uint64_t memory;              /* of a check; 0: any */
  const unsigned char *old;     /* the damaged file, if its bytes stay, but for
                                   the place of the refcount table */
  uint64_t old_size;
  uint64_t bad_start, bad_end;  /* of the file: cannot be read */
  unsigned char before[MAX_CLUSTERS], now[MAX_CLUSTERS];      /* risks */
  uint64_t *seen;               /* NR_SEEN hashes of states */
  unsigned long states, failures, faults;
  unsigned long in_parts;       /* scenes */
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
nothing (struct damaged *d)
{
  (void) d;
}

static void
misplace_table (struct damaged *d)
{
  store_be64 (d->bytes + 48, d->size + 8 * d->cluster);
}

/* Its offset is no multiple of a cluster, or where data is. */
static void
misplace_block (struct damaged *d)
{
  const uint64_t l1 = load_be64 (d->bytes + 40);
  uint64_t at = load_be64 (d->bytes + l1) & UINT64_C (0xfffffffffffe00);

  while ((load_be64 (d->bytes + at) & UINT64_C (0xfffffffffffe00)) == 0)
    at += 8;
  store_be64 (d->bytes + d->table, d->cluster > 512 ? block_of (d, 0) | 512
              : load_be64 (d->bytes + at) & UINT64_C (0xfffffffffffe00));
}

/* What a block says is believed by nobody who cannot read it. */
static void
break_block (struct damaged *d)
{
  unsigned char *const block = d->bytes + block_of (d, 0);

  for (unsigned i = 0; i < 12; ++i)
    block[rng_below (d->rng, d->cluster)] ^= 2;
}

static void
mix (struct damaged *d)
{
  change_some (d);
  flip_flags (d);
}

/* A host with a file, parts of which perhaps cannot be read. */
static void
make_host (struct host *h, const struct scene *s, const unsigned char *bytes,
           uint64_t size)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };

  host_init (h, &spec, bytes, size);
  h->bad_start = s->bad_start;
  h->bad_end = s->bad_end;
}

/* ---- Repairing --------------------------------------------------------- */

static bool
try_repair (struct host *h, enum qcow2_repair kind, uint64_t memory,
            struct qcow2_check_result *ret, struct qcow2_error *err)
{
  const struct qcow2_options options = { .check = true, .writable = true };
  const struct qcow2_check_options check = {
    .repair = kind, .memory = memory,
  };
  struct qcow2_image *image;
  int r = -1;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, err);
  if (image != NULL)
    r = qcow2_check (image, &h->io, &check, ret, err);
  qcow2_close (image);
  return r == 0;
}

static bool
repair (struct host *h, enum qcow2_repair kind, uint64_t memory,
        struct qcow2_check_result *ret)
{
  struct qcow2_error err;

  if (CHECK (try_repair (h, kind, memory, ret, &err)))
    return true;
  fprintf (stderr, "%s\n", err.text);
  return false;
}

static bool
reads_as (struct host *h, struct qcow2_image *image, const void *wanted,
          uint64_t size)
{
  unsigned char *const disk = malloc (size);
  struct qcow2_error err;
  const bool same = disk != NULL && image != NULL &&
    qcow2_pread (image, &h->io, disk, (uint32_t) size, 0, &err) == 0 &&
    memcmp (disk, wanted, size) == 0;

  free (disk);
  return same;
}

static bool
snapshot_reads_as_before (struct host *h, const struct scene *s,
                          struct qcow2_image *image)
{
  const struct qcow2_name id = { "1", 1 };
  struct qcow2_error err;
  struct qcow2_image *view;
  bool same;

  if (!s->has_snapshot || image == NULL)
    return true;
  view = qcow2_open_view (image, &h->io, QCOW2_VIEW_SNAPSHOT_ID, &id, &err);
  same = reads_as (h, view, s->image.snapshot, s->image.disk_size);
  qcow2_close (view);
  return same;
}

static bool
reads_as_before (struct host *h, const struct scene *s)
{
  const struct qcow2_options options = { 0 };
  struct qcow2_error err;
  struct qcow2_image *image;
  bool same;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, &err);
  same = reads_as (h, image, s->image.disk, s->image.disk_size) &&
    snapshot_reads_as_before (h, s, image);
  qcow2_close (image);
  return same;
}

/* ---- States ------------------------------------------------------------ */

static bool
is_riskier (struct scene *s, const struct state *state)
{
  struct fsck ignored;

  memset (s->now, 0, sizeof s->now);
  fsck_clusters (state->bytes, state->size, &ignored, s->now, MAX_CLUSTERS);
  for (size_t i = 0; i < MAX_CLUSTERS; ++i)
    if (s->now[i] & ~s->before[i] & (FSCK_TOO_LOW | FSCK_SHARED))
      return true;
  return false;
}

/* All that is in front of the new refcounts. */
static bool
keeps_bytes (const struct scene *s, const struct state *state)
{
  return s->old == NULL ||
    (state->size >= s->old_size && memcmp (state->bytes, s->old, 48) == 0 &&
     memcmp (state->bytes + 60, s->old + 60, s->old_size - 60) == 0);
}

static const char *
find_problem (struct scene *s, const struct state *state)
{
  struct qcow2_check_result result;
  const char *problem = NULL;
  struct fsck after;
  struct host h;

  if (is_riskier (s, state))
    return "a refcount is too low, or an entry COPIED, that was not before";
  if (!keeps_bytes (s, state))
    return "something else than the refcounts has changed";
  make_host (&h, s, state->bytes, state->size);
  if (!reads_as_before (&h, s))
    problem = "the disk has changed";
  else if (!repair (&h, QCOW2_REPAIR_ALL, s->memory, &result) ||
           result.corruptions + result.leaks + result.check_errors > 0)
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

  if (!seen_is_new (s->seen, state->hash))
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
  bool in_parts;                /* as much as the image can be */
  bool rebuilds;                /* and changes nothing in front of that */
  enum { NONE, BLOCK, TABLE } unread;   /* of the refcounts, the first */
} damages[] = {
  { "leaks", raise_some, QCOW2_REPAIR_LEAKS, false, false, NONE },
  { "leaks, all", raise_some, QCOW2_REPAIR_ALL, false, false, NONE },
  { "refcounts", change_some, QCOW2_REPAIR_ALL, false, false, NONE },
  { "a lost block", lose_block, QCOW2_REPAIR_ALL, false, false, NONE },
  { "a short table", cut_table, QCOW2_REPAIR_ALL, false, false, NONE },
  { "flags", flip_flags, QCOW2_REPAIR_ALL, false, false, NONE },
  { "flags and refcounts", mix, QCOW2_REPAIR_ALL, false, false, NONE },
  { "the same, in parts", mix, QCOW2_REPAIR_ALL, true, false, NONE },
  { "a lost block, in parts", lose_block, QCOW2_REPAIR_ALL, true, false,
    NONE },
  { "a lost table", misplace_table, QCOW2_REPAIR_ALL, false, true, NONE },
  { "the same, in parts", misplace_table, QCOW2_REPAIR_ALL, true, true, NONE },
  { "no block", misplace_block, QCOW2_REPAIR_ALL, false, true, NONE },
  { "a rebuild", nothing, QCOW2_REPAIR_REBUILD, false, true, NONE },
  { "a rebuild, in parts", nothing, QCOW2_REPAIR_REBUILD, true, true, NONE },
  { "a rebuild of others", change_some, QCOW2_REPAIR_REBUILD, false, false,
    NONE },
  { "an unreadable block", nothing, QCOW2_REPAIR_ALL, false, true, BLOCK },
  { "the same, rebuilt", nothing, QCOW2_REPAIR_REBUILD, false, true, BLOCK },
  { "the same, in parts", break_block, QCOW2_REPAIR_ALL, true, true, BLOCK },
  { "the same, and flags", flip_flags, QCOW2_REPAIR_ALL, false, false, BLOCK },
  { "the same, and refcounts", change_some, QCOW2_REPAIR_REBUILD, false, false,
    BLOCK },
  { "an unreadable table", nothing, QCOW2_REPAIR_ALL, false, true, TABLE },
  { "the same, in parts", change_some, QCOW2_REPAIR_REBUILD, true, true,
    TABLE },
};

/* Little enough for parts of the images, and enough for their tables. */
#define LITTLE_MEMORY (11 * KiB)

static const struct recipe recipes[] = {
  { .options = "cluster_size=512,refcount_bits=64", .cluster_bits = 9,
    .disk_size = 2560 * KiB, .fill_percent = 95 },
  /* Neighbours have different counts, so these take memory. */
  { .options = "cluster_size=512,refcount_bits=64", .cluster_bits = 9,
    .disk_size = 2560 * KiB, .fill_percent = 95, .snapshots = 1,
    .zero_percent = 50 },
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
  if (repair (&h, QCOW2_REPAIR_ALL, 0, &result)) {
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

static void
damage (struct host *h, size_t i, struct rng *rng)
{
  struct damaged d = {
    .bytes = h->bytes, .size = h->size, .table = load_be64 (h->bytes + 48),
    .cluster = UINT64_C (1) << load_be32 (h->bytes + 20), .rng = rng,
  };

  damages[i].damage (&d);
  if (damages[i].unread != NONE) {
    h->bad_start = damages[i].unread == TABLE ? d.table : block_of (&d, 0);
    h->bad_end = h->bad_start + d.cluster;
  }
}

/* Requests but reads fail, one at a time: the disk is as before, and a repair
 * without faults leaves nothing to be found.
 */
static void
fail_everywhere (struct scene *s, size_t i, uint64_t seed)
{
  const unsigned kinds =
    1u << HOST_WRITE | 1u << HOST_FLUSH | 1u << HOST_GROW;
  bool failed = true;

  for (unsigned long at = 1; failed && at < 100; at += 1 + at / 8) {
    struct rng rng = { seed };
    struct qcow2_check_result result;
    struct qcow2_error err;
    struct host h;

    make_host (&h, s, s->image.bytes, s->image.size);
    damage (&h, i, &rng);
    host_reopen (&h);
    host_fail (&h, kinds, at, 0, EIO);
    failed = !try_repair (&h, damages[i].repair, s->memory, &result, &err);
    host_fail (&h, 0, 0, 0, 0);
    if (failed) {
      s->faults++;
      CHECK (err.kind == QCOW2_ERR_IO);
      CHECK (reads_as_before (&h, s));
      if (repair (&h, QCOW2_REPAIR_ALL, s->memory, &result))
        CHECK_EQ (result.corruptions + result.leaks, 0);
      CHECK (reads_as_before (&h, s));
    }
    host_free (&h);
  }
}

/* Behind the header, in what was there. */
static uint64_t
first_write (const struct host *h)
{
  uint64_t first = h->initial_size;

  for (size_t k = 0; k < h->nr_log; ++k)
    if (h->log[k]->kind == HOST_WRITE && h->log[k]->host_off >= 512 &&
        h->log[k]->host_off < first)
      first = h->log[k]->host_off;
  return first;
}

/* Returns how many states were wrong. */
static unsigned long
play (struct scene *s, size_t i, uint64_t seed)
{
  const struct replay_spec how = {
    .seed = seed, .all_subsets = 5, .subsets = 6, .prefix_percent = 100,
  };
  struct rng rng = { seed };
  struct qcow2_check_result result;
  struct fsck ignored;
  struct host h;

  s->name = damages[i].name;
  s->failures = 0;
  memset (s->seen, 0, NR_SEEN * sizeof *s->seen);
  s->bad_start = s->bad_end = 0;
  make_host (&h, s, s->image.bytes, s->image.size);
  damage (&h, i, &rng);
  s->bad_start = h.bad_start;
  s->bad_end = h.bad_end;
  memset (s->before, 0, sizeof s->before);
  fsck_clusters (h.bytes, h.size, &ignored, s->before, MAX_CLUSTERS);
  /* What a lost table has does not count. */
  if (damages[i].damage == misplace_table)
    memset (s->before, 0xff, sizeof s->before);
  s->memory = damages[i].in_parts ? LITTLE_MEMORY : 0;
  host_reopen (&h);
  host_record (&h);
  if (repair (&h, damages[i].repair, s->memory, &result)) {
    if (damages[i].repair != QCOW2_REPAIR_LEAKS)
      CHECK_EQ (result.corruptions + result.check_errors, 0);
    CHECK_EQ (result.leaks, 0);
    CHECK (reads_as_before (&h, s));
    s->old = damages[i].rebuilds ? h.initial : NULL;
    s->old_size = first_write (&h);
    s->in_parts += result.windows > 1;
    replay (&h, &how, look, s);
  }
  host_free (&h);
  if (!WITH_BUGS)
    fail_everywhere (s, i, seed);
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
    s.has_snapshot = recipes[r].snapshots > 0;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; ++i)
      if (failures == 0 || !WITH_BUGS)
        failures += play (&s, i, seed + i);
    recipe_free (&s.image);
  }
  printf ("%lu states, %lu faults\n", s.states, s.faults);
  CHECK (failures > 0 || (s.states > 100 && s.in_parts > 0));
  free (s.seen);
  return failures;
}

int
main (void)
{
  qemu_init ();
  nothing_is_guessed ();
#ifdef Q2_PLANTS
  static const int bugs[] = {
    Q2_PLANT_FREE_TABLE_EARLY, Q2_PLANT_EARLY_SWITCH,
    Q2_PLANT_REBUILD_IN_PLACE,
  };

  for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; ++i) {
    unit_context ("bug %d", bugs[i]);
    q2_planted = bugs[i];
    CHECK (play_all (1) > 0);
  }
#else
  CHECK_EQ (play_all (1), 0);
#endif
  qemu_finish ();
  return unit_finish ();
}
