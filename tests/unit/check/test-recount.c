/* SPDX-License-Identifier: BSD-3-Clause */
/* test-recount.c - counts against a model, and counting the references in
 * images: those of the image builder, which has its own code for refcounts,
 * and hostile ones.
 */
#include "config.h"

#include "check/recount.h"
#include "format/refcount_bits.h"

#include "base/be.h"

#include "memory_disk.h"
#include "random_image.h"
#include "unit.h"

#define COPIED (UINT64_C (1) << 63)

/* ---- Counts ------------------------------------------------------------ */

#define NR 20000

/* Numbers of clusters in a few places far from each other. */
static uint64_t
spread (uint64_t i)
{
  static const uint64_t bases[] = {
    0, 4090, UINT64_C (1) << 20, (UINT64_C (1) << 30) - 3,
    (UINT64_C (1) << 47) - NR / 5,
  };

  return bases[i / (NR / 5)] + i % (NR / 5);
}

static bool
is_same (struct q2_count a, struct q2_count b)
{
  return a.use == b.use && a.count == b.count && a.flags == b.flags;
}

static void
check_model (struct q2_counts *c, const struct q2_count *model)
{
  uint64_t total[4] = { 0 };

  for (uint64_t i = 0; i < NR; ++i) {
    const struct q2_count v = q2_counts_get (c, spread (i));
    struct q2_count run;
    const uint64_t n = q2_counts_get_run (c, spread (i), 1 + i % 300, &run);

    CHECK (is_same (v, model[i]));
    CHECK (is_same (v, run) && n > 0 && n <= 1 + i % 300);
    for (uint64_t k = 1; k < n; ++k)
      if (!CHECK (is_same (v, q2_counts_get (c, spread (i) + k))))
        break;
    total[v.use]++;
  }
  for (int use = Q2_USE_DATA; use <= Q2_USE_META; ++use)
    CHECK_EQ (q2_counts_total (c, (enum q2_use) use), total[use]);
}

/* Every search from each place, against looking at one after the other. */
static void
check_searches (struct q2_counts *c)
{
  uint64_t used = UINT64_MAX, l2 = UINT64_MAX, free_one = 12000;
  uint64_t i = NR / 5 * 2;      /* the first one behind that */

  for (uint64_t cluster = 12000; cluster-- > 0; ) {
    const enum q2_use use = q2_counts_get (c, cluster).use;

    if (use == Q2_USE_NONE)
      free_one = cluster;
    else
      used = cluster;
    if (use == Q2_USE_L2)
      l2 = cluster;
    if (used != UINT64_MAX)
      CHECK_EQ (q2_counts_next_used (c, cluster), used);
    if (l2 != UINT64_MAX)
      CHECK_EQ (q2_counts_next (c, cluster, Q2_USE_L2), l2);
    CHECK_EQ (q2_counts_next_free (c, cluster), free_one);
  }
  while (i < NR && q2_counts_get (c, spread (i)).use == Q2_USE_NONE)
    ++i;
  CHECK_EQ (q2_counts_next_used (c, 12000), i < NR ? spread (i) : UINT64_MAX);
  CHECK_EQ (q2_counts_next_used (c, q2_counts_end (c)), UINT64_MAX);
}

/* ---- Windows ----------------------------------------------------------- */

#define LEAVES 64
#define LITTLE_MEMORY (UINT64_C (40) << 10)
#define TABLES_MEMORY (UINT64_C (14) << 10)

static bool
is_table (uint64_t cluster)
{
  return cluster % 1000 == 7;
}

/* Count everything in the file, from 'begin' on; the window becomes shorter
 * when memory is used up, tables are counted everywhere, and data that is not
 * is noticed where it is watched.
 */
static uint64_t
count_window (uint64_t begin, unsigned alike, const struct q2_watch *watch)
{
  struct qcow2_error err;
  struct q2_counts *const c = q2_counts_new (LITTLE_MEMORY, NULL, &err);
  uint64_t stop = UINT64_MAX;

  REQUIRE (c != NULL);
  q2_counts_set_window (c, begin, stop, watch);
  for (uint64_t i = 0; i < LEAVES << 12; ++i)
    /* So many neighbours are alike. */
    while (q2_counts_add (c, i, 1, is_table (i) ? Q2_USE_META : Q2_USE_DATA,
                          i / alike % 2 ? Q2_COUNT_COPIED : 0, NULL) ==
           Q2_COUNTS_FULL)
      REQUIRE (q2_counts_shrink (c, &stop));
  CHECK (stop > begin);
  for (uint64_t i = 0; i < LEAVES << 12; ++i)
    CHECK_EQ (q2_counts_get (c, i).count,
              is_table (i) || (i >= begin && i < stop));
  CHECK_EQ (q2_counts_end (c), LEAVES << 12);
  CHECK_EQ (q2_counts_next (c, stop, Q2_USE_META) % 1000,
            stop < LEAVES << 12 ? 7 : UINT64_MAX % 1000);
  for (size_t i = 0; watch != NULL && i < watch->nr; ++i)
    CHECK_EQ (watch->hit[i],
              watch->clusters[i] >= stop && !is_table (watch->clusters[i]));
  q2_counts_free (c);
  return stop;
}

static void
test_windows (unsigned alike)
{
  static const uint64_t watched[] = { 3, 7, 70000, 80007, 200000, 261000 };
  bool hit[sizeof watched / sizeof watched[0]] = { false };
  const struct q2_watch watch = {
    watched, hit, sizeof watched / sizeof watched[0],
  };
  uint64_t begin = 0;
  unsigned windows = 0;

  while (begin != UINT64_MAX) {
    begin = count_window (begin, alike, begin == 0 ? &watch : NULL);
    ++windows;
  }
  /* A byte for each cluster; at least half of what tables leave is used. */
  CHECK (windows > 1 && windows <=
         2 * ((LEAVES << 12) / (LITTLE_MEMORY - TABLES_MEMORY) + 1));
}

/* Data that follows each other; what is odd about it is for others. */
static void
add_run (struct q2_counts *c, struct q2_count *model, uint64_t i,
         struct rng *rng, uint64_t *end)
{
  const uint64_t max =
    q2_min (1 + rng_below (rng, rng_below (rng, 20) ? 12 : 900),
            NR / 5 - i % (NR / 5));
  const uint32_t times = 1 + (uint32_t) rng_below (rng, 3);
  const unsigned flags = (unsigned) rng_below (rng, 4) * 4;
  const struct q2_count old = model[i];
  const uint64_t n = q2_counts_add_run (c, spread (i), max, times, flags);

  CHECK (n <= max);
  CHECK (n == 0 || old.use == Q2_USE_NONE || old.use == Q2_USE_DATA);
  for (uint64_t k = i; k < i + n; ++k) {
    CHECK (is_same (model[k], old));
    model[k].use = Q2_USE_DATA;
    model[k].count += times;
    model[k].flags |= flags;
  }
  if (n > 0)
    *end = q2_max (*end, spread (i) + n);
}

static void
test_counts (uint64_t seed, unsigned operations)
{
  struct rng rng = { seed };
  struct qcow2_error err;
  struct q2_counts *const c = q2_counts_new (UINT64_C (1) << 30, NULL, &err);
  struct q2_count *const model = calloc (NR, sizeof *model);
  uint64_t end = 0;

  REQUIRE (c != NULL && model != NULL);
  unit_context ("counts, seed %" PRIu64 ", %u operations", seed, operations);
  for (unsigned n = 0; n < operations; ++n) {
    const uint64_t i = rng_below (&rng, NR);
    const enum q2_use use = (enum q2_use) (1 + rng_below (&rng, 3));
    const uint32_t times = rng_below (&rng, 1000) ? 1
      : (uint32_t) rng_below (&rng, 40) + 1;
    const unsigned flags = (unsigned) rng_below (&rng, 4) * 4;
    enum q2_use old = Q2_USE_NONE;
    enum q2_counts_result r;

    if (rng_below (&rng, 3) == 0) {
      add_run (c, model, i, &rng, &end);
      continue;
    }
    if (model[i].use == Q2_USE_DATA && rng_below (&rng, 8) == 0) {
      CHECK_EQ (q2_counts_turn (c, spread (i), Q2_USE_L2, flags),
                Q2_COUNTS_OK);
      model[i].use = Q2_USE_L2;
      model[i].flags |= flags;
      continue;
    }
    r = q2_counts_add (c, spread (i), times, use, flags, &old);
    CHECK_EQ (old, model[i].use);
    if (model[i].use != Q2_USE_NONE &&
        (model[i].use != use || use == Q2_USE_META)) {
      CHECK_EQ (r, Q2_COUNTS_CONFLICT);
      continue;
    }
    CHECK_EQ (r, Q2_COUNTS_OK);
    model[i].use = use;
    model[i].count += times;
    model[i].flags |= flags;
    end = q2_max (end, spread (i) + 1);
    if (rng_below (&rng, 10) == 0) {
      q2_counts_clear (c, spread (i));
      model[i] = (struct q2_count) { 0 };
    }
  }
  CHECK_EQ (q2_counts_end (c), end);
  check_model (c, model);
  check_searches (c);
  q2_counts_free (c);
  free (model);
}

static void
test_count_limits (void)
{
  struct qcow2_error err;
  struct q2_counts *c = q2_counts_new (1 << 20, NULL, &err);
  enum q2_counts_result r = Q2_COUNTS_OK;
  uint64_t n = 0;

  REQUIRE (c != NULL);
  unit_context ("%s", "limits of counts");
  CHECK_EQ (q2_counts_add (c, 5, Q2_COUNTS_MAX, Q2_USE_DATA, 0, NULL),
            Q2_COUNTS_OK);
  CHECK_EQ (q2_counts_get (c, 5).count, Q2_COUNTS_MAX);
  CHECK_EQ (q2_counts_add (c, 5, 1, Q2_USE_DATA, 4, NULL),
            Q2_COUNTS_OVERFLOW);
  CHECK_EQ (q2_counts_get (c, 5).count, Q2_COUNTS_MAX);
  CHECK_EQ (q2_counts_get (c, 5).flags, 0);
  while (r == Q2_COUNTS_OK && n < 100000)
    r = q2_counts_add (c, UINT64_C (4096) * ++n, 1, Q2_USE_DATA, 0, NULL);
  CHECK_EQ (r, Q2_COUNTS_FULL);
  CHECK (n > 6000 && n < 20000); /* for a lone one, some 100 bytes */
  CHECK_EQ (q2_counts_add (c, 6, 1, Q2_USE_DATA, 0, NULL), Q2_COUNTS_OK);
  q2_counts_free (c);
}

/* Clusters far from each other, in any order: the tree under them.  What is
 * given back and taken is the budget's.
 */
static void
test_counts_apart (uint64_t seed)
{
  const uint64_t nr = 50000;
  uint64_t *const order = calloc (nr, sizeof *order);
  struct rng rng = { seed };
  struct qcow2_error err;
  struct qcow2_budget budget;
  struct q2_counts *c;
  uint64_t at = 0;

  q2_budget_init (&budget, NULL, 16 << 20, "the test", "");
  c = q2_counts_new (UINT64_MAX, &budget, &err);
  REQUIRE (c != NULL && order != NULL);
  unit_context ("counts apart, seed %" PRIu64, seed);
  for (uint64_t i = 0; i < nr; ++i)
    order[i] = i;
  for (uint64_t i = nr; seed > 0 && i-- > 1; ) {
    const uint64_t j = rng_below (&rng, i + 1), swap = order[i];

    order[i] = order[j];
    order[j] = swap;
  }
  for (uint64_t i = 0; i < nr; ++i)
    REQUIRE (q2_counts_add (c, order[i] * 5000, 1 + order[i] % 40,
                            Q2_USE_DATA, 0, NULL) == Q2_COUNTS_OK);
  for (uint64_t i = 0; i < nr; ++i) {
    CHECK_EQ (q2_counts_get (c, i * 5000).count, 1 + i % 40);
    CHECK_EQ (q2_counts_get (c, i * 5000 + 1).count, 0);
    CHECK_EQ (q2_counts_next_used (c, at), i * 5000);
    CHECK_EQ (q2_counts_next_free (c, i * 5000), i * 5000 + 1);
    at = i * 5000 + 1;
  }
  CHECK_EQ (q2_counts_next_used (c, at), UINT64_MAX);
  CHECK (qcow2_budget_used (&budget) > nr * 50);
  q2_counts_free (c);
  CHECK_EQ (qcow2_budget_used (&budget), 0);
  free (order);
}

/* ---- Images of the builder --------------------------------------------- */

static void
decode (struct memory_disk *d, struct q2_header *h, struct q2_geometry *geo)
{
  const size_t len = UINT64_C (1) << 21;
  unsigned char *const area = malloc (len);
  struct qcow2_error err;

  REQUIRE (area != NULL);
  REQUIRE (q2_io_read (&d->io, area, len, 0, QCOW2_IO_HEADER, &err) == 0);
  REQUIRE (q2_header_decode (area, len, h, geo, &err) == 0);
  free (area);
}

static uint64_t
stored_refcount (const struct memory_disk *d, const struct q2_header *h,
                 const struct q2_geometry *geo, uint64_t cluster)
{
  const uint64_t idx = cluster >> geo->refblock_bits;
  uint64_t block;

  if (idx * 8 >= (uint64_t) h->refcount_table_clusters << geo->cluster_bits)
    return 0;
  block = load_be64 (d->bytes + h->refcount_table_offset + 8 * idx);
  return block == 0 ? 0
    : q2_refcount_get (d->bytes + block, geo->refcount_order, cluster &
                       ((UINT64_C (1) << geo->refblock_bits) - 1));
}

static bool
note_percent (void *opaque, unsigned percent)
{
  unsigned *const last = opaque;

  CHECK (percent > *last && percent <= 100);
  *last = percent;
  return true;
}

static int
collect (void *opaque, uint64_t host_off, uint64_t word,
         struct qcow2_error *err)
{
  struct memory_disk *const d = opaque;

  (void) err;
  CHECK_EQ (load_be64 (d->bytes + host_off) ^ COPIED, word);
  store_be64 (d->bytes + host_off, word);
  d->opaque = (char *) d->opaque + 1;
  return 0;
}

/* Flip COPIED flags of existing entries; returns how many. */
static unsigned
flip_flags (struct random_image *r, struct rng *rng, struct memory_disk *d)
{
  unsigned flipped = 0;
  uint64_t last = 0;

  for (uint64_t c = r->base / r->b.cluster_size;
       c * r->b.cluster_size < r->base + r->len; ++c) {
    const uint64_t off = builder_entry_off (&r->b, c);

    if (off == 0 || off == last || rng_below (rng, 3))
      continue;
    d->bytes[off] ^= 0x80;
    last = off;
    flipped++;
  }
  return flipped;
}

/* What is done after the references have been counted is work, too. */
static void
check_charge (struct q2_recount *rc, struct memory_disk *d,
              const struct q2_header *h, const struct q2_geometry *geo)
{
  const uint64_t used = q2_counts_total (rc->counts, Q2_USE_DATA) +
    q2_counts_total (rc->counts, Q2_USE_L2) +
    q2_counts_total (rc->counts, Q2_USE_META);
  const struct q2_work work = rc->work;
  struct qcow2_error err;

  /* Looking for flags that contradict the counts. */
  if (!rc->flags_are_wrong)
    CHECK (work.done >= used * (Q2_RECOUNT_CLUSTER + 1));
  else {
    rc->work.max = rc->work.done;
    CHECK (q2_recount_flags (rc, &d->io, h, geo, false, collect, d, &err) == -1);
    CHECK (err.kind == QCOW2_ERR_UNSUPPORTED);
  }
  rc->work = work;
}

static void
test_image (uint64_t seed)
{
  struct rng rng = { seed };
  struct image_spec spec = random_spec (&rng);
  struct random_image r;
  struct memory_disk d;
  struct q2_header h;
  struct q2_geometry geo;
  struct q2_recount rc, again;
  struct qcow2_error err;
  unsigned percent = 0, flipped;

  if (spec.version == 1)
    spec.version = 2;
  random_image_init (&r, &rng, &spec, 64 << 10);
  unit_context ("seed %" PRIu64 ": %s", seed, random_image_describe (&r));
  memory_disk_init (&d, r.b.bytes, r.b.size);
  decode (&d, &h, &geo);
  if (!CHECK (q2_recount (&rc, &d.io, &h, &geo, note_percent, &percent, &err)
              == 0)) {
    fprintf (stderr, "%s\n", err.text);
    return;
  }
  CHECK (percent == (rc.l2_tables ? 100 : 0));
  for (uint64_t c = 0; c < r.b.size / r.b.cluster_size + 10; ++c)
    CHECK_EQ (q2_counts_get (rc.counts, c).count,
              stored_refcount (&d, &h, &geo, c));
  CHECK_EQ (d.writes + d.flushes, 0);

  /* Now with wrong flags: they are found, and nothing else changes. */
  d.opaque = NULL;
  CHECK (q2_recount_flags (&rc, &d.io, &h, &geo, false, collect, &d, &err) == 0);
  CHECK_EQ ((uintptr_t) d.opaque > 0, rc.flags_are_wrong);
  flipped = flip_flags (&r, &rng, &d);
  REQUIRE (q2_recount (&again, &d.io, &h, &geo, NULL, NULL, &err) == 0);
  CHECK_EQ (again.flags_are_wrong, flipped > 0);
  d.opaque = NULL;
  CHECK (q2_recount_flags (&again, &d.io, &h, &geo, false, collect, &d, &err) == 0);
  CHECK_EQ ((uintptr_t) d.opaque, flipped);
  check_charge (&again, &d, &h, &geo);
  q2_recount_free (&again);
  REQUIRE (q2_recount (&again, &d.io, &h, &geo, NULL, NULL, &err) == 0);
  CHECK (!again.flags_are_wrong);
  q2_recount_free (&again);
  q2_recount_free (&rc);
  memory_disk_free (&d);
  random_image_free (&r);
}

/* ---- Images that lie --------------------------------------------------- */

#define CLUSTER 4096
#define PER_TABLE (CLUSTER / 8)

/* Two L2 tables with one data cluster each. */
struct lie {
  struct image_builder b;
  struct memory_disk d;
  struct q2_header h;
  struct q2_geometry geo;
  uint64_t l2[2], data[2];
};

static void
begin_lie (struct lie *l, uint64_t more_clusters)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 12, .refcount_order = 4,
    .virtual_size = UINT64_C (8) * PER_TABLE * CLUSTER,
  };
  unsigned char cluster[CLUSTER] = { 1 };

  memset (l, 0, sizeof *l);
  builder_init (&l->b, &spec);
  for (unsigned i = 0; i < 2; ++i) {
    l->data[i] = builder_data (&l->b, i * PER_TABLE, cluster);
    l->l2[i] = builder_entry_off (&l->b, i * PER_TABLE);
  }
  builder_finish (&l->b);
  if (more_clusters > 0)
    builder_alloc (&l->b, more_clusters);
  memory_disk_init (&l->d, l->b.bytes, l->b.size);
  decode (&l->d, &l->h, &l->geo);
}

static void
end_lie (struct lie *l)
{
  memory_disk_free (&l->d);
  builder_free (&l->b);
}

static void
expect_corrupt (struct lie *l, uint64_t host_off, const char *words)
{
  struct q2_recount rc;
  struct qcow2_error err;

  if (!CHECK (q2_recount (&rc, &l->d.io, &l->h, &l->geo, NULL, NULL, &err)
              == -1)) {
    q2_recount_free (&rc);
    return;
  }
  CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, host_off);
  if (!CHECK (strstr (err.text, words) != NULL &&
              (err.advice == QCOW2_ADVICE_REPAIR ||
               err.advice == QCOW2_ADVICE_COMPLETE)))
    fprintf (stderr, "%s\n", err.text);
}

/* An entry of the first L1 or L2 table, or a header field, and where the
 * error must be.
 */
static void
lie (const char *what, unsigned field, uint64_t v, bool in_l2,
     uint64_t host_off, const char *words)
{
  struct lie l;

  begin_lie (&l, 2);
  unit_context ("%s", what);
  store_be64 (l.d.bytes + (in_l2 ? l.l2[0] : l.b.l1_off) + 8 * field, v);
  expect_corrupt (&l, host_off, words);
  end_lie (&l);
}

/* Where things are in all of these images. */
static struct lie at;

static void
test_l1_lies (void)
{
  const uint64_t table = at.h.refcount_table_offset;
  const uint64_t block = load_be64 (at.d.bytes + table);
  const uint64_t end = at.b.size;

  lie ("L2 is L1", 3, COPIED | at.b.l1_off, false, at.b.l1_off, "L2 table");
  lie ("L2 is refcount table", 3, COPIED | table, false, table, "L2 table");
  lie ("L2 is refcount block", 3, block, false, block, "L2 table");
  lie ("L2 is data", 3, at.data[0], false, at.data[0], "L2 table");
  lie ("L2 unaligned", 3, at.l2[1] + 512, false, at.l2[1] + 512,
       "not a multiple");
  lie ("L2 past the end", 3, COPIED | end, false, end, "past the end");
  lie ("L2 far away", 3, UINT64_C (0x00fffffffffff000), false,
       UINT64_C (0x00fffffffffff000), "past the end");
}

static void
test_l2_lies (void)
{
  const uint64_t table = at.h.refcount_table_offset;
  const uint64_t block = load_be64 (at.d.bytes + table);
  const uint64_t end = at.b.size;
  const uint64_t far = end + (UINT64_C (1) << 20) * CLUSTER;
  const uint64_t compressed = UINT64_C (1) << 62;

  lie ("data is L1", 5, COPIED | at.b.l1_off, true, at.b.l1_off, "data");
  lie ("data is its L2", 5, at.l2[0], true, at.l2[0], "L2 table");
  lie ("data is other L2", 5, at.l2[1], true, at.l2[1], "L2 table");
  lie ("data is refcount table", 5, table, true, table, "data");
  lie ("data is refcount block", 5, block | 1, true, block, "data");
  lie ("data unaligned", 5, at.data[0] + 512, true, at.data[0] + 512,
       "not a multiple");
  lie ("data past the end", 5, end, true, end, "past the end");
  lie ("data far away", 5, far, true, far, "past the end");
  lie ("zeros far away", 5, far | 1, true, far, "past the end");
  lie ("stream past the end", 5, compressed | (end + 1), true, end + 1,
       "past the end");
  lie ("stream in header", 5, compressed | 1000, true, 0, "compressed");
  lie ("stream runs into L2", 5, compressed | UINT64_C (1) << 58 |
       (at.l2[1] - 1), true, at.l2[1], "L2 table");
  lie ("stream past all", 5, compressed | UINT64_C (1) << 57, true,
       UINT64_C (1) << 57, "2^56");
}

/* What looks odd and is fine. */
static void
test_oddities (void)
{
  const uint64_t last = at.b.size - CLUSTER;
  struct lie l;
  struct q2_recount rc;
  struct qcow2_error err;

  begin_lie (&l, 2);
  unit_context ("%s", "oddities");
  store_be64 (l.d.bytes + l.l2[0] + 8, COPIED | last);
  store_be64 (l.d.bytes + l.l2[0] + 16, COPIED | at.data[1]);
  store_be64 (l.d.bytes + l.b.l1_off + 16, COPIED);
  REQUIRE (q2_recount (&rc, &l.d.io, &l.h, &l.geo, NULL, NULL, &err) == 0);
  CHECK_EQ (q2_counts_get (rc.counts, last / CLUSTER).count, 1);
  CHECK_EQ (q2_counts_get (rc.counts, at.data[0] / CLUSTER).count, 1);
  CHECK_EQ (q2_counts_get (rc.counts, at.data[1] / CLUSTER).count, 2);
  CHECK (rc.flags_are_wrong);
  l.d.opaque = NULL;
  CHECK (q2_recount_flags (&rc, &l.d.io, &l.h, &l.geo, false, collect, &l.d, &err)
         == 0);
  CHECK_EQ ((uintptr_t) l.d.opaque, 3);
  CHECK_EQ (load_be64 (l.d.bytes + l.l2[0] + 16), at.data[1]);
  CHECK_EQ (load_be64 (l.d.bytes + l.b.l1_off + 16), 0);
  q2_recount_free (&rc);

  /* What its entries say lies in a data file is not counted here. */
  l.h.incompatible |= Q2_INCOMPAT_DATA_FILE;
  l.geo.data_file = true;
  REQUIRE (q2_recount (&rc, &l.d.io, &l.h, &l.geo, NULL, NULL, &err) == 0);
  CHECK_EQ (q2_counts_get (rc.counts, at.data[0] / CLUSTER).count, 0);
  CHECK_EQ (q2_counts_get (rc.counts, at.data[1] / CLUSTER).count, 0);
  CHECK_EQ (q2_counts_get (rc.counts, l.l2[0] / CLUSTER).count, 1);
  q2_recount_free (&rc);
  end_lie (&l);
}

/* ---- Snapshots and bitmaps --------------------------------------------- */

#define SNAPSHOT 56

static void
put_snapshot (unsigned char *p, uint64_t l1_off, uint32_t entries)
{
  memset (p, 0, SNAPSHOT);
  store_be64 (p, l1_off);
  store_be32 (p + 8, entries);
  store_be32 (p + 36, 16);
}

static void
test_snapshot (void)
{
  struct lie l;
  struct q2_recount rc;
  struct qcow2_error err;
  uint64_t table, l1, own_l2;

  begin_lie (&l, 3);
  unit_context ("%s", "one snapshot");
  table = l.b.size - 3 * CLUSTER;
  l1 = l.b.size - 2 * CLUSTER;
  own_l2 = l.b.size - CLUSTER;
  l.h.nr_snapshots = 1;
  l.h.snapshots_offset = table;
  put_snapshot (l.d.bytes + table, l1, 9);
  store_be64 (l.d.bytes + l1, l.l2[0]);
  store_be64 (l.d.bytes + l1 + 64, l.l2[0]); /* saved memory, as it were */
  /* Flags in here mean nothing. */
  store_be64 (l.d.bytes + l1 + 8, own_l2);
  store_be64 (l.d.bytes + own_l2, COPIED | l.data[0]);
  REQUIRE (q2_recount (&rc, &l.d.io, &l.h, &l.geo, NULL, NULL, &err) == 0);
  CHECK_EQ (q2_counts_get (rc.counts, table / CLUSTER).count, 1);
  CHECK_EQ (q2_counts_get (rc.counts, l1 / CLUSTER).count, 1);
  CHECK_EQ (q2_counts_get (rc.counts, l.l2[0] / CLUSTER).count, 3);
  CHECK_EQ (q2_counts_get (rc.counts, l.data[0] / CLUSTER).count, 4);
  CHECK_EQ (q2_counts_get (rc.counts, l.l2[1] / CLUSTER).count, 1);
  CHECK_EQ (rc.l2_tables, 3);
  l.d.opaque = NULL;
  CHECK (q2_recount_flags (&rc, &l.d.io, &l.h, &l.geo, false, collect, &l.d, &err)
         == 0);
  CHECK_EQ ((uintptr_t) l.d.opaque, 2);
  CHECK_EQ (load_be64 (l.d.bytes + l.b.l1_off), l.l2[0]);
  CHECK_EQ (load_be64 (l.d.bytes + l.l2[0]), l.data[0]);
  q2_recount_free (&rc);

  put_snapshot (l.d.bytes + table, l.b.l1_off, 1);
  expect_corrupt (&l, l.b.l1_off, "snapshot");
  put_snapshot (l.d.bytes + table, table, 1);
  expect_corrupt (&l, table, "metadata");
  put_snapshot (l.d.bytes + table, l.b.size, 1);
  expect_corrupt (&l, l.b.size, "past the end");
  end_lie (&l);
}

static void
test_bitmaps (void)
{
  struct lie l;
  struct q2_recount rc;
  struct qcow2_error err;
  uint64_t dir, table, bits;

  begin_lie (&l, 3);
  unit_context ("%s", "a bitmap");
  bits = l.b.size - CLUSTER;
  table = bits - CLUSTER;
  dir = table - CLUSTER;
  l.h.nr_bitmaps = 1;
  l.h.bitmap_dir_offset = dir;
  l.h.bitmap_dir_bytes = 32;
  store_be64 (l.d.bytes + dir, table);
  store_be32 (l.d.bytes + dir + 8, 3);
  l.d.bytes[dir + 16] = 1;
  l.d.bytes[dir + 17] = 16;
  store_be16 (l.d.bytes + dir + 18, 1);
  store_be64 (l.d.bytes + table, 1);
  store_be64 (l.d.bytes + table + 8, bits);
  REQUIRE (q2_recount (&rc, &l.d.io, &l.h, &l.geo, NULL, NULL, &err) == 0);
  CHECK_EQ (q2_counts_get (rc.counts, dir / CLUSTER).count, 1);
  CHECK_EQ (q2_counts_get (rc.counts, table / CLUSTER).count, 1);
  CHECK_EQ (q2_counts_get (rc.counts, bits / CLUSTER).count, 1);
  q2_recount_free (&rc);

  l.h.luks_offset = bits;
  l.h.luks_bytes = 1000;
  expect_corrupt (&l, bits, "bitmap");
  l.h.luks_bytes = 0;
  store_be64 (l.d.bytes + dir, l.l2[0]);
  expect_corrupt (&l, l.l2[0], "bitmap");
  end_lie (&l);
}

/* What would take for ever if each reference was followed. */
static void
test_many_snapshots (void)
{
  const unsigned n = 65536, cluster = 512, per_table = cluster / 8;
  const uint64_t l2 = 3 * cluster, data = 4 * cluster, table = 8 * cluster;
  const uint64_t l1s = table + (uint64_t) n * SNAPSHOT;
  const uint64_t size = l1s + (uint64_t) n * cluster;
  unsigned char *const p = calloc (1, size);
  const struct q2_geometry_params params = {
    .version = 3, .cluster_bits = 9, .refcount_order = 6,
    .virtual_size = 32768,
  };
  struct lie l = { 0 };
  struct q2_recount rc;
  struct qcow2_error err;

  REQUIRE (p != NULL);
  unit_context ("%s", "many snapshots");
  REQUIRE (q2_geometry_init (&l.geo, &params, &err) == 0);
  l.h = (struct q2_header) {
    .version = 3, .cluster_bits = 9, .l1_offset = cluster, .l1_entries = 1,
    .refcount_table_offset = 2 * cluster, .refcount_table_clusters = 1,
    .refcount_order = 6, .nr_snapshots = n, .snapshots_offset = table,
  };
  store_be64 (p + cluster, l2);
  for (unsigned i = 0; i < per_table; ++i)
    store_be64 (p + l2 + 8 * i, data);
  for (unsigned i = 0; i < n; ++i) {
    const uint64_t l1 = l1s + (uint64_t) i * cluster;

    put_snapshot (p + table + i * SNAPSHOT, l1, per_table);
    for (unsigned j = 0; j < per_table; ++j)
      store_be64 (p + l1 + 8 * j, l2);
  }
  memory_disk_init (&l.d, p, size);
  /* Four million references to the table, each to 64 times one cluster. */
  expect_corrupt (&l, data, "users");
  CHECK (l.d.read_bytes < 2 * size);

  for (unsigned i = 1; i < per_table; ++i)
    store_be64 (l.d.bytes + l2 + 8 * i, 0);
  REQUIRE (q2_recount (&rc, &l.d.io, &l.h, &l.geo, NULL, NULL, &err) == 0);
  CHECK_EQ (q2_counts_get (rc.counts, l2 / cluster).count,
            n * per_table + 1);
  CHECK_EQ (q2_counts_get (rc.counts, data / cluster).count,
            n * per_table + 1);
  q2_recount_free (&rc);

  for (unsigned i = 0; i < n; ++i)
    store_be64 (l.d.bytes + table + i * SNAPSHOT, l1s);
  l.d.read_bytes = 0;
  expect_corrupt (&l, l1s, "snapshot");
  CHECK (l.d.read_bytes < 1 << 20);
  memory_disk_free (&l.d);
  free (p);
}

/* A file that claims to be an exabyte: only what it has takes memory and
 * time.
 */
static void
test_huge_file (void)
{
  struct lie l;
  struct q2_recount rc;
  struct qcow2_error err;

  begin_lie (&l, 2);
  unit_context ("%s", "huge file");
  memory_disk_resize (&l.d, UINT64_C (1) << 60);
  for (unsigned i = 1; i < PER_TABLE; ++i)
    store_be64 (l.d.bytes + l.l2[0] + 8 * i,
                COPIED | (uint64_t) i << 47);
  REQUIRE (q2_recount (&rc, &l.d.io, &l.h, &l.geo, NULL, NULL, &err) == 0);
  CHECK_EQ (q2_counts_total (rc.counts, Q2_USE_DATA), PER_TABLE + 1);
  CHECK (l.d.read_bytes < 10 << 20);
  q2_recount_free (&rc);
  end_lie (&l);
}

/* Gigabytes of L2 tables which are all holes, but for one. */
static void
test_sparse_tables (void)
{
  const uint64_t cluster = 65536, n = 70000, l1 = 4 * cluster;
  const uint64_t first = 16 * cluster, step = 2 * cluster;
  const uint64_t size = first + cluster, data = 3 * cluster;
  unsigned char *const p = calloc (1, size);
  const struct q2_geometry_params params = {
    .version = 3, .cluster_bits = 16, .refcount_order = 4,
    .virtual_size = 32768,
  };
  struct lie l = { 0 };
  struct q2_recount rc;
  struct qcow2_error err;

  REQUIRE (p != NULL);
  unit_context ("%s", "sparse tables");
  REQUIRE (q2_geometry_init (&l.geo, &params, &err) == 0);
  l.h = (struct q2_header) {
    .version = 3, .cluster_bits = 16, .l1_offset = l1,
    .l1_entries = (uint32_t) n, .refcount_order = 4,
    .refcount_table_offset = 2 * cluster, .refcount_table_clusters = 1,
  };
  for (uint64_t i = 0; i < n; ++i)
    store_be64 (p + l1 + 8 * i, COPIED | (first + i * step));
  store_be64 (p + first + 80, COPIED | data);
  memory_disk_init (&l.d, p, size);
  memory_disk_resize (&l.d, UINT64_C (1) << 50);
  REQUIRE (q2_recount (&rc, &l.d.io, &l.h, &l.geo, NULL, NULL, &err) == 0);
  CHECK_EQ (rc.l2_tables, n);
  CHECK_EQ (q2_counts_get (rc.counts, data / cluster).count, 1);
  CHECK_EQ (q2_counts_total (rc.counts, Q2_USE_DATA), 1);
  CHECK (l.d.read_bytes < 2 * size);
  q2_recount_free (&rc);
  memory_disk_free (&l.d);
  free (p);
}

int
main (void)
{
  test_windows (1);
  test_windows (20);
  for (uint64_t seed = 0; seed < 5; ++seed)
    for (unsigned n = 1; n <= 4 * NR; n *= 5)
      test_counts (seed, n);
  test_count_limits ();
  for (uint64_t seed = 0; seed < 3; ++seed)
    test_counts_apart (seed);
  for (uint64_t seed = 0; seed < unit_scaled (300); ++seed)
    test_image (seed);
  begin_lie (&at, 2);
  test_l1_lies ();
  test_l2_lies ();
  test_oddities ();
  end_lie (&at);
  test_snapshot ();
  test_bitmaps ();
  test_many_snapshots ();
  test_huge_file ();
  test_sparse_tables ();
  return unit_finish ();
}
