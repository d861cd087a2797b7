/* SPDX-License-Identifier: BSD-3-Clause */
/* test-bitmaps.c - changing the persistent bitmaps of an image.
 *
 * Owns      nothing.
 * Method    QEMU makes images with bitmaps and writes to them; then groups of
 *           actions, most of them random, are applied here, to a model
 *           (crash/bitmap_set.c) and by qemu-img to a copy.  All three must
 *           have the same bitmaps, bit by bit; fsck.c and QEMU find nothing
 *           wrong.  Each operation of the host, and each allocation, fails
 *           once: then the old set is there, or the new one.
 */
#include "config.h"

#include "alloc_faults.h"
#include "bitmap_set.h"
#include "fsck.h"
#include "host.h"
#include "qemu.h"
#include "unit.h"

#include <errno.h>

#define KiB (UINT64_C (1) << 10)
#define MiB (UINT64_C (1) << 20)
#define CAPACITY (64 * MiB)

static struct qcow2_name
name_of (const char *s)
{
  return (struct qcow2_name) { s, strlen (s) };
}

/* ---- Images ------------------------------------------------------------ */

struct base {
  const char *options;
  uint64_t cluster_size, disk_size;
  unsigned char *bytes;
  uint64_t size;
};

/* QEMU's, with three bitmaps: 'a' is fine and was disabled, 'b' coarse, 'c' as
 * QEMU chooses it.
 */
static void
base_make (struct base *b, const char *options, uint64_t cluster_size,
           uint64_t disk_size, uint64_t seed)
{
  struct rng rng = { seed };

  *b = (struct base) { options, cluster_size, disk_size, NULL, 0 };
  qemu_run (0, "qemu-img create -q -f qcow2 -o %s b.qcow2 %" PRIu64, options,
            disk_size);
  qemu_run (0, "qemu-img bitmap --add -g 512 b.qcow2 a");
  qemu_run (0, "qemu-img bitmap --add -g 16k b.qcow2 b");
  for (unsigned i = 0; i < 3; ++i) {
    const uint64_t at = rng_below (&rng, disk_size / 512) * 512;
    const uint64_t most = (disk_size - at) / 512;
    const uint64_t len = (1 + rng_below (&rng, most < 300 ? most : 300)) * 512;

    qemu_run (0, "qemu-io -c 'write -q %" PRIu64 " %" PRIu64 "' -c "
              "'write -q 0 512' b.qcow2", at, len);
    if (i == 0)
      qemu_run (0, "qemu-img bitmap --disable b.qcow2 a");
    if (i == 1)
      qemu_run (0, "qemu-img bitmap --add b.qcow2 c");
  }
  b->bytes = qemu_load ("b.qcow2", &b->size);
}

/* ---- Changing ---------------------------------------------------------- */

static int
edit_bytes (struct host *h, const struct qcow2_bitmap_action *actions,
            size_t nr, struct qcow2_error *err)
{
  const struct qcow2_options options = { .writable = true };
  struct qcow2_image *image;
  int r;

  host_reopen (h);
  image = qcow2_open (&h->io, &options, err);
  if (image == NULL)
    return -1;
  r = qcow2_edit_bitmaps (image, &h->io, actions, nr, NULL, NULL, err);
  if (r == 0)
    r = qcow2_end (image, &h->io, err);
  qcow2_close (image);
  return r;
}

static void
check_bytes (const struct host *h, const struct bitmap_set *want,
             bool leaks_allowed, const char *what)
{
  struct bitmap_set seen;
  struct fsck f;

  bitmap_set_load (&seen, h->bytes, h->size);
  if (!CHECK (bitmap_set_equal (&seen, want))) {
    printf (" found:\n");
    bitmap_set_print (&seen);
    printf (" wanted:\n");
    bitmap_set_print (want);
  }
  bitmap_set_free (&seen);
  fsck_image (h->bytes, h->size, &f);
  if (!CHECK_EQ (f.corruptions, 0))
    printf ("%s\n", f.text);
  if (!leaks_allowed && !CHECK_EQ (f.leaks, 0))
    printf ("%s\n", f.leak_text);
  if (what != NULL)
    qemu_submit (h->bytes, h->size, NULL,
                 leaks_allowed ? QEMU_SOUND : QEMU_CLEAN, NULL, 0, what);
}

/* ---- What QEMU makes of it ---------------------------------------------- */

static const char *const verbs[] = {
  [QCOW2_BITMAP_ADD] = "--add", [QCOW2_BITMAP_REMOVE] = "--remove",
  [QCOW2_BITMAP_CLEAR] = "--clear", [QCOW2_BITMAP_ENABLE] = "--enable",
  [QCOW2_BITMAP_DISABLE] = "--disable", [QCOW2_BITMAP_MERGE] = "--merge",
};

static void
qemu_act (const struct qcow2_bitmap_action *a)
{
  char granularity[40] = "";

  if (a->granularity > 0)
    snprintf (granularity, sizeof granularity, "-g %" PRIu64, a->granularity);
  if (a->verb == QCOW2_BITMAP_ADD)
    qemu_run (0, "qemu-img bitmap --add %s %s q.qcow2 %s", granularity,
              a->disabled ? "--disable" : "", a->name.bytes);
  else if (a->verb != QCOW2_BITMAP_MERGE)
    qemu_run (0, "qemu-img bitmap %s q.qcow2 %s", verbs[a->verb],
              a->name.bytes);
  else
    for (size_t i = 0; i < a->nr_sources; ++i)
      qemu_run (0, "qemu-img bitmap --merge %s q.qcow2 %s",
                a->sources[i].name.bytes, a->name.bytes);
}

/* QEMU does the same to the image as it was before. */
static void
compare_with_qemu (const void *before, uint64_t size,
                   const struct qcow2_bitmap_action *actions, size_t nr,
                   const struct bitmap_set *want)
{
  struct bitmap_set seen;
  unsigned char *bytes;

  qemu_save ("q.qcow2", before, size);
  for (size_t i = 0; i < nr; ++i)
    qemu_act (&actions[i]);
  bytes = qemu_load ("q.qcow2", &size);
  bitmap_set_load (&seen, bytes, size);
  if (!CHECK (bitmap_set_equal (&seen, want))) {
    printf (" QEMU:\n");
    bitmap_set_print (&seen);
    printf (" we:\n");
    bitmap_set_print (want);
  }
  bitmap_set_free (&seen);
  free (bytes);
}

/* $1 is the number of the bitmap, $2 its name, $3 its granularity, $4 its
 * flags as jq prints them, $5 the number of bits that are set.
 */
static const char ask[] =
  "set -e\n"
  "qemu-img info --output=json o.qcow2 > info\n"
  "jq -e --argjson i $1 --arg n $2 --argjson g $3 --argjson f \"$4\" '\n"
  "  .\"format-specific\".data.bitmaps[$i] |\n"
  "  .name == $n and .granularity == $g and .flags == $f' info\n"
  "qemu-nbd -r -t -f qcow2 -B $2 -k $PWD/sock --pid-file=pid --fork o.qcow2\n"
  "nbdinfo --map=qemu:dirty-bitmap:$2 --json"
  " \"nbd+unix:///?socket=$PWD/sock\" > map || :\n"
  "kill $(cat pid)\n"
  "while kill -0 $(cat pid) 2>/dev/null; do sleep 0.01; done\n"
  /* The last bit may stand for less. */
  "jq -e --argjson g $3 --argjson n $5 '\n"
  "  [.[] | select(.type == 1) | (.length + $g - 1) / $g | floor] |\n"
  "  (add // 0) == $n' map\n";

/* QEMU lists our bitmaps, and exports as many bits. */
static void
ask_qemu (const struct host *h, const struct bitmap_set *want)
{
  qemu_save ("o.qcow2", h->bytes, h->size);
  qemu_save ("ask.sh", ask, sizeof ask - 1);
  for (size_t i = 0; i < want->nr; ++i) {
    const struct bitmap_seen *const b = &want->bitmap[i];
    uint64_t n = 0;

    for (uint64_t bit = 0; bit < b->nr_bits; ++bit)
      n += b->bits[bit / 8] >> bit % 8 & 1;
    qemu_run (0, "sh ask.sh %zu %s %" PRIu64 " '%s' %" PRIu64, i, b->name,
              UINT64_C (1) << b->granularity_bits,
              b->flags & BITMAP_AUTO ? "[\"auto\"]" : "[]", n);
  }
}

/* ---- Random actions ---------------------------------------------------- */

#define MAX_ACTIONS 4
#define MAX_SOURCES 3

struct group {
  struct qcow2_bitmap_action action[MAX_ACTIONS];
  struct qcow2_bitmap_source source[MAX_ACTIONS][MAX_SOURCES];
  size_t nr;
};

static const char *const names[] = {
  "a", "b", "c", "d", "a-bitmap-with-a-longer-name", "f", "g",
};
#define NR_NAMES (sizeof names / sizeof names[0])

static struct qcow2_name
some_name (struct bitmap_set *model, struct rng *rng, bool there)
{
  const char *name;

  do
    name = names[rng_below (rng, NR_NAMES)];
  while ((bitmap_set_find (model, name) != NULL) != there);
  return name_of (name);
}

/* One that is possible. */
static void
choose (struct group *g, struct bitmap_set *model, struct rng *rng)
{
  struct qcow2_bitmap_action *const a = &g->action[g->nr];
  const uint64_t kind = rng_below (rng, 10);

  *a = (struct qcow2_bitmap_action) { .verb = QCOW2_BITMAP_ADD };
  if (model->nr == 0 || (kind < 3 && model->nr < NR_NAMES)) {
    a->name = some_name (model, rng, false);
    a->granularity = rng_below (rng, 4) == 0 ? 0
      : UINT64_C (512) << rng_below (rng, 12);
    a->disabled = rng_below (rng, 2);
    return;
  }
  a->name = some_name (model, rng, true);
  a->verb = kind == 3 ? QCOW2_BITMAP_CLEAR : kind == 4 ? QCOW2_BITMAP_ENABLE
    : kind == 5 ? QCOW2_BITMAP_DISABLE : kind == 6 ? QCOW2_BITMAP_REMOVE
    : QCOW2_BITMAP_MERGE;
  if (a->verb != QCOW2_BITMAP_MERGE)
    return;
  a->sources = g->source[g->nr];
  a->nr_sources = 1 + rng_below (rng, MAX_SOURCES);
  for (size_t i = 0; i < a->nr_sources; ++i)
    g->source[g->nr][i] = (struct qcow2_bitmap_source) {
      .name = some_name (model, rng, true),
    };
}

static void
choose_group (struct group *g, const struct base *b, struct bitmap_set *model,
              struct rng *rng)
{
  const size_t nr = 1 + rng_below (rng, MAX_ACTIONS);

  for (g->nr = 0; g->nr < nr; ++g->nr) {
    choose (g, model, rng);
    bitmap_set_apply (model, &g->action[g->nr], b->disk_size,
                      b->cluster_size, NULL);
  }
}

static void
play (const struct base *b, uint64_t seed)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  struct rng rng = { seed };
  struct bitmap_set model;
  struct qcow2_error err;
  struct host h;

  host_init (&h, &spec, b->bytes, b->size);
  bitmap_set_load (&model, b->bytes, b->size);
  CHECK_EQ (model.nr, 3);
  for (unsigned n = 0; n < 8; ++n) {
    const uint64_t size = h.size;
    unsigned char *const before = malloc (size);
    struct group g;
    char what[160];

    REQUIRE (before != NULL);
    memcpy (before, h.bytes, size);
    choose_group (&g, b, &model, &rng);
    snprintf (what, sizeof what, "%s, seed %" PRIu64 ", group %u (%s ...)",
              b->options, seed, n, verbs[g.action[0].verb]);
    unit_context ("%s", what);
    if (!CHECK_EQ (edit_bytes (&h, g.action, g.nr, &err), 0))
      printf ("%s\n", err.text);
    check_bytes (&h, &model, false, what);
    if (n % 4 == seed % 4)
      compare_with_qemu (before, size, g.action, g.nr, &model);
    free (before);
  }
  if (seed % 100 == 0)
    ask_qemu (&h, &model);
  bitmap_set_free (&model);
  host_free (&h);
}

static void
test_random (void)
{
  static const struct {
    const char *options;
    uint64_t cluster_size, disk_size;
  } kinds[] = {
    { "cluster_size=512", 512, 5 * MiB + 1536 },
    { "cluster_size=4k,refcount_bits=1", 4096, 40 * MiB },
    { "cluster_size=64k,lazy_refcounts=on", 65536, 3 * MiB + 512 },
    { "cluster_size=2M,extended_l2=on", 2 * MiB, 100 * MiB },
  };

  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; ++i) {
    struct base b;

    base_make (&b, kinds[i].options, kinds[i].cluster_size,
               kinds[i].disk_size, i);
    for (unsigned n = 0; n < unit_scaled (2); ++n)
      play (&b, 100 * i + n);
    free (b.bytes);
  }
}

/* ---- Failures ----------------------------------------------------------- */

#define NAME(s) { s, sizeof (s) - 1 }
static const struct qcow2_bitmap_source from_two[] = {
  { .name = NAME ("a") }, { .name = NAME ("b") },
};

/* All that there is. */
static const struct qcow2_bitmap_action everything[] = {
  { .verb = QCOW2_BITMAP_ADD, .name = NAME ("new"), .granularity = 1024 },
  { .verb = QCOW2_BITMAP_MERGE, .name = NAME ("new"), .sources = from_two,
    .nr_sources = 2 },
  { .verb = QCOW2_BITMAP_MERGE, .name = NAME ("b"), .sources = from_two,
    .nr_sources = 1 },
  { .verb = QCOW2_BITMAP_CLEAR, .name = NAME ("a") },
  { .verb = QCOW2_BITMAP_ENABLE, .name = NAME ("a") },
  { .verb = QCOW2_BITMAP_DISABLE, .name = NAME ("b") },
  { .verb = QCOW2_BITMAP_REMOVE, .name = NAME ("c") },
};
#define NR_ALL (sizeof everything / sizeof everything[0])

static void
apply_all (struct bitmap_set *set, const struct base *b)
{
  for (size_t i = 0; i < NR_ALL; ++i)
    bitmap_set_apply (set, &everything[i], b->disk_size, b->cluster_size,
                      NULL);
}

/* After a failure: the old bitmaps or the new ones, leaks at most, and the
 * next attempt ends well.  Once the header is switched nothing can fail, but
 * for what it takes to release the old ones.  Returns whether an operation of
 * the host has failed.
 */
static bool
try (struct host *h, const struct bitmap_set *before,
     const struct bitmap_set *after)
{
  struct qcow2_error err = { .text = "" };
  const int r = edit_bytes (h, everything, NR_ALL, &err);
  const bool failed = h->failed > 0;
  struct bitmap_set seen;
  bool is_new, was_old;

  alloc_fail_at = 0;
  bitmap_set_load (&seen, h->bytes, h->size);
  is_new = bitmap_set_equal (&seen, after);
  was_old = bitmap_set_equal (&seen, before);
  if (!CHECK (is_new || (r == -1 && was_old)))
    bitmap_set_print (&seen);
  bitmap_set_free (&seen);
  check_bytes (h, is_new ? after : before, true, NULL);
  if (r == -1 && was_old) {
    host_fail (h, 0, 0, 0, 0);
    if (!CHECK_EQ (edit_bytes (h, everything, NR_ALL, &err), 0))
      printf ("%s\n", err.text);
    check_bytes (h, after, true, NULL);
  }
  return failed;
}

static void
fail_operations (const struct base *b, unsigned kinds, int errnum)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  struct bitmap_set before, after;
  unsigned long n = 0;
  bool failed = true;

  bitmap_set_load (&before, b->bytes, b->size);
  bitmap_set_copy (&after, &before);
  apply_all (&after, b);
  while (failed) {
    struct host h;

    unit_context ("%s, operation %lu of %x fails", b->options, ++n, kinds);
    host_init (&h, &spec, b->bytes, b->size);
    host_fail (&h, kinds, n, 0, errnum);
    failed = try (&h, &before, &after);
    host_free (&h);
    REQUIRE (n < 1000);
  }
  CHECK (n > (kinds == 1 << HOST_GROW ? 1 : 3));
  bitmap_set_free (&before);
  bitmap_set_free (&after);
}

static void
fail_allocations (const struct base *b)
{
  /* A host that allocates nothing itself. */
  const struct host_spec spec = {
    .capacity = CAPACITY, .grows = true, .trim = HOST_TRIM_ZEROS,
  };
  struct bitmap_set before, after;
  unsigned long n = 0;
  bool failed = true;

  bitmap_set_load (&before, b->bytes, b->size);
  bitmap_set_copy (&after, &before);
  apply_all (&after, b);
  while (failed) {
    struct host h;
    long live;

    unit_context ("%s, allocation %lu fails", b->options, ++n);
    host_init (&h, &spec, b->bytes, b->size);
    live = alloc_live;
    alloc_count = 0;
    alloc_fail_at = n;
    try (&h, &before, &after);
    failed = alloc_count >= n;
    CHECK_EQ (alloc_live, live);
    host_free (&h);
    REQUIRE (n < 1000);
  }
  CHECK (n > 20);
  bitmap_set_free (&before);
  bitmap_set_free (&after);
}

static void
test_failures (void)
{
  struct base b;

  qemu_wait ();
  base_make (&b, "cluster_size=512", 512, 1 * MiB, 7);
  fail_operations (&b, 1 << HOST_READ, EIO);
  fail_operations (&b, 1 << HOST_WRITE, EIO);
  fail_operations (&b, 1 << HOST_FLUSH, EIO);
  fail_allocations (&b);
  free (b.bytes);
  base_make (&b, "cluster_size=64k", 65536, 1 * MiB, 8);
  free (b.bytes);
  qemu_run (0, "qemu-img convert -O qcow2 --bitmaps b.qcow2 d.qcow2");
  b.bytes = qemu_load ("d.qcow2", &b.size);     /* without free clusters */
  fail_operations (&b, 1 << HOST_GROW, ENOSPC);
  free (b.bytes);
}

/* ---- While they are kept up --------------------------------------------- */

static void
note (struct bitmap_set *set, const char *name, uint64_t at)
{
  struct bitmap_seen *const b = bitmap_set_find (set, name);
  const uint64_t bit = at >> b->granularity_bits;

  b->bits[bit / 8] |= (unsigned char) (1u << bit % 8);
}

/* They have what was written, and nothing else, whatever becomes of others,
 * and also if the action changes nothing.
 */
static void
test_kept (const struct qcow2_bitmap_action *action, bool with_snapshot)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const struct qcow2_options options = {
    .writable = true, .bitmaps = QCOW2_BITMAPS_DURABLE,
    .overlap_check = QCOW2_OVERLAP_CACHED,
  };
  const struct qcow2_snapshot_options snapshot = { .name = name_of ("s") };
  const char data[512] = "data";
  struct qcow2_part part = {
    .actions = action, .nr_actions = 1,
    .snapshot = with_snapshot ? &snapshot : NULL,
  };
  struct qcow2_image *image;
  struct qcow2_error err;
  struct bitmap_set want;
  struct base b;
  struct host h;
  size_t failed;

  unit_context ("%s: verb %u", __func__, action->verb);
  base_make (&b, "cluster_size=64k", 65536, 1 * MiB, 9);
  bitmap_set_load (&want, b.bytes, b.size);
  host_init (&h, &spec, b.bytes, b.size);
  host_reopen (&h);
  image = qcow2_open (&h.io, &options, &err);
  REQUIRE (image != NULL);
  REQUIRE (qcow2_pwrite (image, &h.io, data, 512, 700 * KiB, false, &err)
           == 0);
  note (&want, "b", 700 * KiB);
  note (&want, "c", 700 * KiB);
  part.image = image;
  part.io = &h.io;
  REQUIRE (qcow2_transact (&part, 1, &failed, &err) == 0);
  bitmap_set_apply (&want, action, b.disk_size, b.cluster_size, NULL);
  REQUIRE (qcow2_pwrite (image, &h.io, data, 512, 200 * KiB, false, &err)
           == 0);
  note (&want, "b", 200 * KiB);
  note (&want, "c", 200 * KiB);
  if (action->verb == QCOW2_BITMAP_ADD)
    note (&want, "d", 200 * KiB);
  REQUIRE (qcow2_end (image, &h.io, &err) == 0);
  qcow2_close (image);
  check_bytes (&h, &want, false, __func__);
  host_free (&h);
  bitmap_set_free (&want);
  free (b.bytes);
}

static bool
is_any_in_use (const struct bitmap_set *set)
{
  bool any = false;

  for (size_t i = 0; i < set->nr; ++i)
    any |= (set->bitmap[i].flags & 1) != 0;
  return any;
}

/* Two writes fail, one after the other: that of a bitmap's exact bits, and then
 * the one that would mark it as in use.  An action must not go on with neither,
 * since the bitmap would be forgotten, and kept up by its bits in the file once
 * more: what was written in vain may reach that later.
 */
static bool
fail_kept (const struct base *b, const struct qcow2_bitmap_action *action,
           unsigned long n)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const struct qcow2_options options = {
    .writable = true, .bitmaps = QCOW2_BITMAPS_DURABLE,
    .overlap_check = QCOW2_OVERLAP_CACHED,
  };
  const char data[512] = "data";
  struct qcow2_image *image;
  struct qcow2_error err;
  struct bitmap_set seen;
  unsigned long failed;
  struct host h;
  int r;

  unit_context ("%s: verb %u, writes %lu and %lu", __func__, action->verb, n,
                n + 1);
  host_init (&h, &spec, b->bytes, b->size);
  host_reopen (&h);
  image = qcow2_open (&h.io, &options, &err);
  REQUIRE (image != NULL);
  REQUIRE (qcow2_pwrite (image, &h.io, data, 512, 700 * KiB, false, &err)
           == 0);
  host_fail (&h, 1 << HOST_WRITE, n, 1, EIO);
  r = qcow2_edit_bitmaps (image, &h.io, action, 1, NULL, NULL, &err);
  failed = h.failed;
  host_fail (&h, 0, 0, 0, 0);
  bitmap_set_load (&seen, h.bytes, h.size);
  CHECK (failed < 2 || r == -1 || is_any_in_use (&seen));
  bitmap_set_free (&seen);
  qcow2_close (image);
  host_free (&h);
  return failed > 0;
}

static void
test_fail_kept (const struct qcow2_bitmap_action *action)
{
  unsigned long n = 1;
  struct base b;

  base_make (&b, "cluster_size=64k", 65536, 1 * MiB, 9);
  while (fail_kept (&b, action, n))
    ++n;
  /* Enabling one that is enabled is no change: only what the write before it
   * has left, a refcount and an entry, is written.
   */
  if (action->verb == QCOW2_BITMAP_ENABLE)
    CHECK_EQ (n, 3);
  else
    CHECK (n > 3);
  free (b.bytes);
}

/* One bit of the result stands for more than the source has a table for. */
static void
test_coarse (void)
{
  const struct host_spec spec = { .capacity = CAPACITY, .grows = true };
  const struct qcow2_bitmap_source source = { .name = name_of ("a") };
  const struct qcow2_bitmap_action actions[] = {
    { .verb = QCOW2_BITMAP_ADD, .name = name_of ("d"),
      .granularity = 64 * MiB },
    { .verb = QCOW2_BITMAP_MERGE, .name = name_of ("d"), .sources = &source,
      .nr_sources = 1 },
  };
  struct qcow2_error err;
  struct bitmap_set want;
  struct base b;
  struct host h;

  unit_context ("%s", __func__);
  base_make (&b, "cluster_size=512", 512, 1 * MiB, 5);
  bitmap_set_load (&want, b.bytes, b.size);
  host_init (&h, &spec, b.bytes, b.size);
  if (!CHECK_EQ (edit_bytes (&h, actions, 2, &err), 0))
    printf (" %s\n", err.text);
  for (size_t i = 0; i < 2; ++i)
    bitmap_set_apply (&want, &actions[i], b.disk_size, b.cluster_size, NULL);
  check_bytes (&h, &want, false, __func__);
  host_free (&h);
  bitmap_set_free (&want);
  free (b.bytes);
}

int
main (void)
{
  const struct qcow2_bitmap_source self = { .name = name_of ("b") };
  const struct qcow2_bitmap_action kept[] = {
    { .verb = QCOW2_BITMAP_ADD, .name = name_of ("d") },
    { .verb = QCOW2_BITMAP_ENABLE, .name = name_of ("b") },
    { .verb = QCOW2_BITMAP_MERGE, .name = name_of ("b"), .sources = &self,
      .nr_sources = 1 },
  };

  qemu_init ();
  for (size_t i = 0; i < sizeof kept / sizeof kept[0]; ++i) {
    test_fail_kept (&kept[i]);
    test_kept (&kept[i], false);
    test_kept (&kept[i], true);
  }
  test_coarse ();
  test_failures ();
  test_random ();
  qemu_wait ();
  qemu_finish ();
  return unit_finish ();
}
