/* SPDX-License-Identifier: BSD-3-Clause */
/* test-repair.c - repairing refcounts of damaged images, with a crash or a
 * failure at any point.
 *
 * The image builder's refcounts are right; a repair must restore them, except
 * for clusters that the repair itself has taken or freed.
 */
#include "config.h"

#include "check/recount.h"
#include "check/repair.h"
#include "format/refcount_bits.h"

#include "base/be.h"

#include "memory_disk.h"
#include "random_image.h"
#include "threads.h"
#include "unit.h"

#include <errno.h>

#define COPIED (UINT64_C (1) << 63)

struct image {
  struct random_image r;
  struct memory_disk d;
  struct q2_header h;
  struct q2_header undamaged;
  struct q2_geometry geo;
};

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

/* ---- The truth --------------------------------------------------------- */

/* The refcount of a cluster that the first 'size' bytes of a file store. */
static uint64_t
stored (const unsigned char *bytes, uint64_t size, const struct q2_header *h,
        const struct q2_geometry *geo, uint64_t cluster)
{
  const uint64_t idx = cluster >> geo->refblock_bits;
  const uint64_t at = h->refcount_table_offset + 8 * idx;
  uint64_t block;

  if (idx * 8 >= (uint64_t) h->refcount_table_clusters << geo->cluster_bits
      || at + 8 > size)
    return 0;
  block = load_be64 (bytes + at);
  if (block == 0 || block + geo->cluster_size > size)
    return 0;
  return q2_refcount_get (bytes + block, geo->refcount_order, cluster &
                          ((UINT64_C (1) << geo->refblock_bits) - 1));
}

/* What the builder has in use, up to its refcounts, which come last. */
static void
check_content (const struct image *before, const struct memory_disk *d)
{
  const struct image_builder *const b = &before->r.b;
  const uint64_t size = b->cluster_size;
  const uint64_t end = before->undamaged.refcount_table_offset;

  CHECK (d->stored >= end);
  for (uint64_t off = 0; off < end; off += size) {
    const uint64_t skip = off == 0 ? 512 : 0;

    if (stored (b->bytes, b->size, &before->undamaged, &before->geo,
                off / size) == 0)
      continue;
    if (!CHECK_BYTES (d->bytes + off + skip, b->bytes + off + skip,
                      size - skip))
      break;
  }
}

/* Every refcount is what counting gives, no flag is wrong, and all data is
 * where it was.
 */
static void
check_sound (const struct image *before, struct memory_disk *d)
{
  struct q2_header h;
  struct q2_geometry geo;
  struct q2_recount rc;
  struct qcow2_error err;
  uint64_t clusters;

  decode (d, &h, &geo);
  CHECK (!(h.incompatible & Q2_INCOMPAT_DIRTY));
  if (!CHECK (q2_recount (&rc, &d->io, &h, &geo, NULL, NULL, &err) == 0)) {
    fprintf (stderr, "%s\n", err.text);
    return;
  }
  clusters = (d->size >> geo.cluster_bits) + 100;
  for (uint64_t c = 0; c < clusters; ++c)
    if (!CHECK_EQ (stored (d->bytes, d->stored, &h, &geo, c),
                   q2_counts_get (rc.counts, c).count))
      break;
  CHECK (!rc.flags_are_wrong);
  check_content (before, d);
  q2_recount_free (&rc);
}

/* ---- Damage ------------------------------------------------------------ */

enum damage {
  NONE, FLIP, FILL, ZERO, LOSE_ONE, LOSE_ALL, FLAGS, NR_DAMAGES, SHORT_TABLE
};

static uint64_t
table_entries (const struct image *i)
{
  return ((uint64_t) i->h.refcount_table_clusters << i->geo.cluster_bits) / 8;
}

/* Place of a random entry of the table that is in use. */
static uint64_t
pick_block (const struct image *i, struct rng *rng)
{
  for (;;) {
    const uint64_t at = i->h.refcount_table_offset +
      8 * rng_below (rng, table_entries (i));

    if (load_be64 (i->r.b.bytes + at) != 0)
      return at;
  }
}

static void
flip_flags (struct image *i, struct rng *rng, unsigned char *p)
{
  const struct image_builder *const b = &i->r.b;

  for (uint64_t c = i->r.base / b->cluster_size;
       c * b->cluster_size < i->r.base + i->r.len; ++c)
    if (builder_entry_off (b, c) && rng_below (rng, 2))
      p[builder_entry_off (b, c)] ^= 0x80;
  for (uint64_t l1 = 0; l1 < b->l1_entries; ++l1)
    if (rng_below (rng, 4) == 0)
      p[b->l1_off + 8 * l1] ^= 0x80;
}

/* What the blocks were is free now, and may hold anything. */
static void
lose_all (const struct image *i, struct rng *rng, unsigned char *p)
{
  for (uint64_t n = 0; n < table_entries (i); ++n) {
    unsigned char *const entry = p + i->h.refcount_table_offset + 8 * n;

    if (load_be64 (entry) != 0)
      rng_fill (rng, p + load_be64 (entry), i->geo.cluster_size);
    memset (entry, 0, 8);
  }
}

static void
damage_bytes (struct image *i, struct rng *rng, enum damage damage,
              unsigned char *p)
{
  const uint64_t at = pick_block (i, rng), size = i->geo.cluster_size;
  unsigned char *const block = p + load_be64 (p + at);

  switch (damage) {
  case FLIP:
    for (unsigned n = 0; n < 10; ++n)
      block[rng_below (rng, size)] ^= (unsigned char) (1 + rng_below (rng,
                                                                      255));
    break;
  case FILL: rng_fill (rng, block, size); break;
  case ZERO: memset (block, 0, size); break;
  case LOSE_ONE: memset (p + at, 0, 8); break;
  case SHORT_TABLE:
    store_be32 (p + 56, 1);
    lose_all (i, rng, p);
    rng_fill (rng, p + i->h.refcount_table_offset + size,
              (i->h.refcount_table_clusters - 1) * size);
    break;
  case LOSE_ALL: lose_all (i, rng, p); break;
  case FLAGS: flip_flags (i, rng, p); break;
  case NONE:
  case NR_DAMAGES: break;
  }
}

/* Does the damage, sets the dirty bit, and decodes the header again. */
static void
damage_image (struct image *i, struct rng *rng, enum damage damage)
{
  unsigned char *const p = malloc (i->r.b.size);

  REQUIRE (p != NULL);
  memcpy (p, i->r.b.bytes, i->r.b.size);
  damage_bytes (i, rng, damage, p);
  p[79] |= 1;
  memory_disk_init (&i->d, p, i->r.b.size);
  decode (&i->d, &i->h, &i->geo);
  free (p);
}

static void
make_image (struct image *i, struct rng *rng, enum damage damage)
{
  struct image_spec spec = random_spec (rng);

  spec.version = 3;
  random_image_init (&i->r, rng, &spec, 64 << 10);
  memory_disk_init (&i->d, i->r.b.bytes, i->r.b.size);
  decode (&i->d, &i->undamaged, &i->geo);
  i->h = i->undamaged;
  memory_disk_free (&i->d);
  damage_image (i, rng, damage);
}

static void
free_image (struct image *i)
{
  memory_disk_free (&i->d);
  random_image_free (&i->r);
}

/* ---- Repairing --------------------------------------------------------- */

/* Scan and write; the header is read from the disk. */
static int
repair (struct memory_disk *d, struct q2_repair_info *ret_info,
        struct qcow2_error *err)
{
  const struct qcow2_info none = { .version = 0 };
  struct q2_superblock sb;
  struct q2_header h, after;
  struct q2_geometry geo;
  struct q2_repair *r;
  const unsigned long changes = d->changes;
  bool was_dirty;
  int result;

  decode (d, &h, &geo);
  r = q2_repair_scan (&d->io, &h, &geo, NULL, NULL, err);
  CHECK_EQ (d->changes, changes); /* the scan only reads */
  if (r == NULL)
    return -1;
  *ret_info = *q2_repair_get_info (r);
  was_dirty = h.incompatible & Q2_INCOMPAT_DIRTY;
  q2_superblock_init (&sb, &h, &none);
  result = was_dirty
    ? q2_repair_write (r, &d->io, &sb, &geo, err) : 0;
  q2_repair_free (r);
  h = q2_superblock_header (&sb);
  q2_superblock_destroy (&sb);
  if (result == 0) {
    decode (d, &after, &geo);   /* the struct says what the disk says */
    CHECK_EQ (h.incompatible, after.incompatible);
    CHECK_EQ (h.refcount_table_offset, after.refcount_table_offset);
    CHECK_EQ (h.refcount_table_clusters, after.refcount_table_clusters);
    /* Everything is durable; unless the last flush of another repair has
     * failed, which is nothing that the image knows.
     */
    CHECK (d->nr_pending == 0 || !was_dirty);
  }
  return result;
}

static void
check_info (enum damage damage, const struct q2_repair_info *info)
{
  const bool refcounts = info->too_high + info->too_low > 0;

  switch (damage) {
  case NONE:
    CHECK (!refcounts && !info->missing_blocks && !info->wrong_flags);
    break;
  case FLIP:
  case FILL:
  case ZERO:
    CHECK (refcounts && !info->missing_blocks && !info->wrong_flags);
    break;
  case LOSE_ONE:
    CHECK_EQ (info->missing_blocks, 1);
    break;
  case LOSE_ALL:
  case SHORT_TABLE:
    CHECK (info->missing_blocks > 0);
    break;
  case FLAGS:
    CHECK (!refcounts && !info->missing_blocks);
    break;
  case NR_DAMAGES: break;
  }
}

static void
test_repair (uint64_t seed, enum damage damage)
{
  struct rng rng = { seed * NR_DAMAGES + damage };
  struct q2_repair_info info;
  struct qcow2_error err;
  struct image i;

  make_image (&i, &rng, damage);
  unit_context ("seed %" PRIu64 ", damage %d: %s", seed, (int) damage,
                random_image_describe (&i.r));
  if (CHECK (repair (&i.d, &info, &err) == 0)) {
    check_info (damage, &info);
    check_sound (&i, &i.d);
    /* One flush for each step, and no write that nothing needs. */
    CHECK (i.d.flushes <= 4);
    if (damage == NONE)
      CHECK (i.d.writes == 1 && i.d.flushes == 1);
  }
  else
    fprintf (stderr, "%s\n", err.text);
  free_image (&i);
}

/* ---- Crashes ----------------------------------------------------------- */

struct crash {
  const struct image *image;
  const struct memory_disk *disk;
  char what[400];               /* for messages */
  struct rng rng;
  uint64_t states, dirty;
};

static void
crash_in_thread (void *arg, unsigned nr)
{
  struct crash *const c = arg;

  (void) nr;
  unit_context ("%s", c->what);
  for (unsigned n = 0; n < 5; ++n) {
    struct q2_repair_info info;
    struct qcow2_error err;
    struct memory_disk after;

    memory_disk_crash (c->disk, n == 0 ? NULL : &c->rng, &after);
    c->dirty += after.bytes[79] & 1;
    c->states++;
    /* A repair that has cleared the bit is complete. */
    if (!(after.bytes[79] & 1))
      check_sound (c->image, &after);
    if (CHECK (repair (&after, &info, &err) == 0))
      check_sound (c->image, &after);
    else
      fprintf (stderr, "%s\n", err.text);
    memory_disk_free (&after);
  }
}

/* Before each change: what if the power goes now.  Another thread looks: this
 * one may have locks of the image.
 */
static void
crash_here (struct memory_disk *d, void *opaque)
{
  struct crash *const c = opaque;
  struct threads threads;

  c->disk = d;
  threads_start (&threads, 1, crash_in_thread, c);
  threads_join (&threads);
}

static void
test_crash (uint64_t seed, enum damage damage)
{
  struct rng rng = { seed * NR_DAMAGES + damage };
  struct q2_repair_info info;
  struct qcow2_error err;
  struct image i;
  struct crash crash = { .image = &i, .rng = { seed } };

  make_image (&i, &rng, damage);
  snprintf (crash.what, sizeof crash.what,
            "crash, seed %" PRIu64 ", damage %d: %s", seed, (int) damage,
            random_image_describe (&i.r));
  unit_context ("%s", crash.what);
  i.d.before_change = crash_here;
  i.d.opaque = &crash;
  CHECK (repair (&i.d, &info, &err) == 0);
  CHECK (crash.states >= 6 && crash.dirty >= 3);
  free_image (&i);
}

/* Each change failing in turn. */
static void
test_faults (uint64_t seed, enum damage damage)
{
  unsigned long n = 1;

  for (;; ++n) {
    struct rng rng = { seed * NR_DAMAGES + damage };
    struct q2_repair_info info;
    struct qcow2_error err;
    struct image i;
    bool failed;

    make_image (&i, &rng, damage);
    unit_context ("change %lu fails, seed %" PRIu64 ", damage %d: %s", n,
                  seed, (int) damage, random_image_describe (&i.r));
    i.d.fail_at = n;
    i.d.fail_errnum = n % 2 ? EIO : ENOSPC;
    failed = repair (&i.d, &info, &err) == -1;
    if (failed) {
      CHECK (err.kind == QCOW2_ERR_IO || err.kind == QCOW2_ERR_NO_SPACE);
      CHECK (i.d.fail_at <= i.d.changes);
      i.d.fail_at = 0;
      /* After a failed flush the image has to be opened anew. */
      i.d.shared.flush_failed = false;
      CHECK (repair (&i.d, &info, &err) == 0);
    }
    check_sound (&i, &i.d);
    free_image (&i);
    if (!failed)
      break;
  }
  CHECK (n > 2);
}

/* ---- Special cases ----------------------------------------------------- */

/* The dirty bit of such an image is its writer's, who sets it again. */
static void
test_lazy (void)
{
  struct rng rng = { 3 };
  struct q2_repair_info info;
  struct qcow2_error err;
  struct image i;

  unit_context ("%s", "lazy refcounts");
  make_image (&i, &rng, FILL);
  i.d.bytes[87] |= 1;
  CHECK (repair (&i.d, &info, &err) == 0);
  i.d.bytes[87] &= 0xfe;
  check_sound (&i, &i.d);
  free_image (&i);
}

/* Every cluster of a device that cannot grow is in use, and the blocks are
 * gone: an error, before anything has been written.
 */
static void
test_no_space (void)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 12, .refcount_order = 4,
    .virtual_size = 1 << 20,
  };
  unsigned char cluster[4096] = { 1 };
  struct rng rng = { 1 };
  struct q2_repair_info info;
  struct qcow2_error err;
  struct image i = { 0 };

  unit_context ("%s", "no space");
  builder_init (&i.r.b, &spec);
  for (unsigned c = 0; c < 40; ++c)
    builder_data (&i.r.b, c, cluster);
  builder_finish (&i.r.b);
  memory_disk_init (&i.d, i.r.b.bytes, i.r.b.size);
  decode (&i.d, &i.undamaged, &i.geo);
  i.h = i.undamaged;
  memory_disk_free (&i.d);
  damage_image (&i, &rng, LOSE_ALL);
  i.d.capacity = i.d.size;
  /* The block that was lost is free: the repair finds it. */
  CHECK (repair (&i.d, &info, &err) == 0);
  check_sound (&i, &i.d);
  CHECK_EQ (i.d.size, i.r.b.size);
  memory_disk_free (&i.d);

  damage_image (&i, &rng, LOSE_ALL);
  memory_disk_resize (&i.d, i.r.b.size - 4096); /* cut: no free cluster */
  i.d.capacity = i.d.size;
  CHECK (repair (&i.d, &info, &err) == -1);
  CHECK_EQ (err.kind, QCOW2_ERR_NO_SPACE);
  CHECK_EQ (i.d.writes, 0);
  i.d.capacity = i.d.size + 4096;
  CHECK (repair (&i.d, &info, &err) == 0);
  check_sound (&i, &i.d);
  builder_free (&i.r.b);
  memory_disk_free (&i.d);
}

/* Data so far away that the refcount table must move, to where the file has
 * garbage.  What if the power goes then?  And where the file does not reach
 * that far, nothing is changed and it does not grow.
 */
static void
test_far_away (uint64_t seed)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 9, .refcount_order = 4,
    .virtual_size = 1 << 20,
  };
  unsigned char cluster[512] = { 1 };
  struct rng rng = { seed };
  struct q2_repair_info info;
  struct qcow2_error err;
  struct image i = { 0 };
  struct crash crash = { .image = &i, .rng = { seed } };
  uint64_t off, garbage;

  snprintf (crash.what, sizeof crash.what, "far away, seed %" PRIu64, seed);
  unit_context ("%s", crash.what);
  builder_init (&i.r.b, &spec);
  builder_data (&i.r.b, 0, cluster);
  off = builder_entry_off (&i.r.b, 0) + 8;
  builder_finish (&i.r.b);
  garbage = builder_alloc (&i.r.b, 20);
  rng_fill (&rng, i.r.b.bytes + garbage, 20 * 512);
  store_be64 (i.r.b.bytes + off, COPIED | 30000 * 512);
  memory_disk_init (&i.d, i.r.b.bytes, i.r.b.size);
  decode (&i.d, &i.undamaged, &i.geo);
  i.h = i.undamaged;
  memory_disk_free (&i.d);
  damage_image (&i, &rng, NONE);
  CHECK (repair (&i.d, &info, &err) == -1);
  CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, 30000 * 512);
  CHECK_EQ (i.d.changes, 0);
  memory_disk_resize (&i.d, 30000 * 512 + 1);
  i.d.before_change = crash_here;
  i.d.opaque = &crash;
  CHECK (repair (&i.d, &info, &err) == 0);
  CHECK (crash.states > 20);
  CHECK_EQ (info.missing_blocks, 1);
  CHECK_EQ (info.too_low, 0);
  CHECK_EQ (i.d.size, 30000 * 512 + 1);
  decode (&i.d, &i.h, &i.geo);
  CHECK_EQ (i.undamaged.refcount_table_clusters, 1);
  CHECK_EQ (i.h.refcount_table_clusters, 2);
  check_sound (&i, &i.d);
  memory_disk_free (&i.d);
  builder_free (&i.r.b);
}

/* The table has room for every cluster in use, and there is no free one; so
 * the blocks go to the end of the file, and the table has no room for those.
 */
static void
test_table_just_full (void)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 9, .refcount_order = 6,
    .virtual_size = 4 << 20,
  };
  unsigned char cluster[512] = { 1 };
  struct rng rng = { 1 };
  struct q2_repair_info info;
  struct qcow2_error err;
  struct image i = { 0 };

  unit_context ("%s", "table just full");
  builder_init (&i.r.b, &spec);
  for (unsigned c = 0; i.r.b.size < 4095 * 512; ++c)
    builder_data (&i.r.b, c, cluster);
  builder_finish (&i.r.b);
  memory_disk_init (&i.d, i.r.b.bytes, i.r.b.size);
  decode (&i.d, &i.undamaged, &i.geo);
  i.h = i.undamaged;
  memory_disk_free (&i.d);
  REQUIRE (i.h.refcount_table_offset == 4095 * 512);
  damage_image (&i, &rng, SHORT_TABLE);
  memory_disk_resize (&i.d, 4096 * 512);
  CHECK (repair (&i.d, &info, &err) == 0);
  CHECK_EQ (info.missing_blocks, 64);
  check_sound (&i, &i.d);
  CHECK (i.d.size > 4096 * 512 && i.d.size < 4170 * 512);
  memory_disk_free (&i.d);
  builder_free (&i.r.b);
}

/* More users than one bit can tell. */
static void
test_width (void)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 12, .refcount_order = 0,
    .virtual_size = 1 << 20,
  };
  unsigned char cluster[4096] = { 1 };
  struct rng rng = { 1 };
  struct q2_repair_info info;
  struct qcow2_error err;
  struct image i = { 0 };
  uint64_t data, off;

  unit_context ("%s", "width");
  builder_init (&i.r.b, &spec);
  data = builder_data (&i.r.b, 0, cluster);
  off = builder_entry_off (&i.r.b, 0) + 8;
  builder_finish (&i.r.b);
  store_be64 (i.r.b.bytes + off, data);
  memory_disk_init (&i.d, i.r.b.bytes, i.r.b.size);
  decode (&i.d, &i.undamaged, &i.geo);
  i.h = i.undamaged;
  memory_disk_free (&i.d);
  damage_image (&i, &rng, NONE);
  CHECK (repair (&i.d, &info, &err) == -1);
  CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, data);
  CHECK_EQ (i.d.changes, 0);
  memory_disk_free (&i.d);
  builder_free (&i.r.b);
}

/* ---- A host that calls a table a hole ---------------------------------- */

/* 'n' L2 tables, of which the first is in the file and refers to cluster 3;
 * the others are holes, and count as used without having refcounts.
 */
static void
test_lying_holes (uint64_t n, bool can_be_read)
{
  const uint64_t cluster = 65536, l1 = 4 * cluster, first = 16 * cluster;
  const struct q2_geometry_params params = {
    .version = 3, .cluster_bits = 16, .refcount_order = 4,
    .virtual_size = 32768,
  };
  const struct q2_header h = {
    .version = 3, .cluster_bits = 16, .l1_offset = l1,
    .l1_entries = (uint32_t) n, .refcount_order = 4,
    .refcount_table_offset = cluster, .refcount_table_clusters = 1,
    .incompatible = Q2_INCOMPAT_DIRTY,
  };
  unsigned char *const p = calloc (1, first + cluster);
  struct q2_geometry geo;
  struct memory_disk d;
  struct q2_repair *r;
  struct qcow2_error err = { .text = "" };

  REQUIRE (p != NULL && q2_geometry_init (&geo, &params, &err) == 0);
  unit_context ("%" PRIu64 " L2 tables, the first said to be a hole", n);
  store_be64 (p + cluster, 2 * cluster);
  for (uint64_t i = 0; i < 16; ++i)
    store_be16 (p + 2 * cluster + 2 * i,
                i < 4 || i < 4 + q2_ceil_shift (n * 8, 16));
  for (uint64_t i = 0; i < n; ++i)
    store_be64 (p + l1 + 8 * i, COPIED | (first + 2 * i * cluster));
  store_be64 (p + first + 80, COPIED | (3 * cluster));
  memory_disk_init (&d, p, first + cluster);
  memory_disk_resize (&d, UINT64_C (1) << 50);
  d.lie_start = first;
  d.lie_end = first + cluster;
  r = q2_repair_scan (&d.io, &h, &geo, NULL, NULL, &err);
  if (r == NULL) {
    CHECK (!can_be_read);
    CHECK_ERROR (&err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET);
  }
  else {
    CHECK (can_be_read);
    CHECK_EQ (q2_repair_get_info (r)->too_high, 0);
    CHECK_EQ (q2_repair_get_info (r)->too_low, n);
  }
  q2_repair_free (r);
  memory_disk_free (&d);
  free (p);
}

/* ---- A large disk -------------------------------------------------------- */

/* L2 tables of one entry each, of which the host has 4 KiB: a disk of many TiB
 * that was made, and then copied so that zeros became holes.  One table has no
 * entry any more, and the first entry lacks its flag, so holes are not believed
 * in the end.
 */
#define LARGE_TABLES UINT64_C (40000)
#define LARGE_CLUSTER UINT64_C (65536)
#define LARGE_L1 (4 * LARGE_CLUSTER)
#define LARGE_L2 (64 * LARGE_CLUSTER)
#define LARGE_DATA (LARGE_L2 + LARGE_TABLES * LARGE_CLUSTER)
#define LARGE_END (LARGE_DATA + LARGE_TABLES * LARGE_CLUSTER)

static uint64_t
large_entry (uint64_t host_off)
{
  const uint64_t i = (host_off - LARGE_L2) / LARGE_CLUSTER;

  if (host_off >= LARGE_L1 && host_off < LARGE_L1 + 8 * LARGE_TABLES)
    return COPIED |
      (LARGE_L2 + (host_off - LARGE_L1) / 8 * LARGE_CLUSTER);
  if (host_off < LARGE_L2 || host_off >= LARGE_DATA - LARGE_CLUSTER ||
      host_off % LARGE_CLUSTER != 0)
    return 0;
  return (i == 0 ? 0 : COPIED) | (LARGE_DATA + i * LARGE_CLUSTER);
}

static int
large_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
             enum qcow2_io_class class)
{
  unsigned char *const p = buf;
  uint64_t off = q2_align_up (host_off, 8);

  (void) opaque;
  (void) class;
  memset (buf, 0, count);
  while (off + 8 <= host_off + count) {
    const uint64_t entry = large_entry (off);

    if (entry != 0)
      store_be64 (p + (off - host_off), entry);
    off = off >= LARGE_L2 ? q2_align_up (off + 1, LARGE_CLUSTER) : off + 8;
  }
  return 0;
}

static int
large_extents (void *opaque, uint32_t count, uint64_t host_off,
               qcow2_host_extent_fn fn, void *fn_opaque)
{
  const uint64_t end = host_off + count;

  (void) opaque;
  while (host_off < end) {
    const uint64_t in = host_off % LARGE_CLUSTER;
    const bool hole = host_off >= LARGE_L2 &&
      (in >= 4096 || host_off / LARGE_CLUSTER ==
       LARGE_DATA / LARGE_CLUSTER - 1);
    const uint64_t next = q2_min (end, host_off < LARGE_L2 ? LARGE_L2 :
                                  host_off - in +
                                  (hole ? LARGE_CLUSTER : 4096));

    if (fn (fn_opaque, host_off, next - host_off, hole) != 0)
      break;
    host_off = next;
  }
  return 0;
}

static void
test_large (bool tells_holes)
{
  const struct qcow2_io_ops ops = {
    .pread = large_pread, .extents = tells_holes ? large_extents : NULL,
  };
  const struct qcow2_io host = {
    .ops = &ops, .size = LARGE_END, .min_block = 1,
  };
  const struct q2_io io = { .host = &host, .file_size = LARGE_END };
  const struct q2_geometry_params params = {
    .version = 3, .cluster_bits = 16, .refcount_order = 4,
    .virtual_size = LARGE_TABLES << 29,
  };
  const struct q2_header h = {
    .version = 3, .cluster_bits = 16, .l1_offset = LARGE_L1,
    .l1_entries = LARGE_TABLES, .refcount_order = 4,
    .refcount_table_offset = LARGE_CLUSTER, .refcount_table_clusters = 1,
    .incompatible = Q2_INCOMPAT_DIRTY,
  };
  struct qcow2_error err = { .text = "" };
  struct q2_geometry geo;
  struct q2_repair *r;

  unit_context ("a large disk, on a host that tells holes: %d", tells_holes);
  REQUIRE (q2_geometry_init (&geo, &params, &err) == 0);
  r = q2_repair_scan (&io, &h, &geo, NULL, NULL, &err);
  if (unit_check (r != NULL, __FILE__, __LINE__, "%s", err.text)) {
    CHECK_EQ (q2_repair_get_info (r)->l2_tables, LARGE_TABLES);
    CHECK_EQ (q2_repair_get_info (r)->wrong_flags, 1);
  }
  q2_repair_free (r);
}

/* ---- Nobody waits for it ------------------------------------------------ */

static bool
is_gone (void *opaque)
{
  return *(bool *) opaque;
}

/* Who has made us scan leaves meanwhile, which is no reason to refuse those
 * who come later.
 */
static void
test_abandoned (bool by_first_write)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 12, .refcount_order = 4,
    .virtual_size = 1 << 20,
  };
  unsigned char cluster[4096] = { 1 };
  bool gone = true;
  struct qcow2_budget *const budget =
    qcow2_budget_new (1 << 30, "", is_gone, &gone);
  const struct qcow2_options options = { .writable = true, .budget = budget };
  struct rng rng = { 1 };
  struct qcow2_image *image;
  struct qcow2_error err = { .text = "" };
  struct image i = { 0 };

  unit_context ("abandoned, by the first write: %d", by_first_write);
  builder_init (&i.r.b, &spec);
  builder_data (&i.r.b, 0, cluster);
  builder_finish (&i.r.b);
  memory_disk_init (&i.d, i.r.b.bytes, i.r.b.size);
  decode (&i.d, &i.undamaged, &i.geo);
  i.h = i.undamaged;
  memory_disk_free (&i.d);
  damage_image (&i, &rng, FILL);
  i.d.capacity = UINT64_C (1) << 30;
  image = qcow2_open (&i.d.host, &options, &err);
  REQUIRE (budget != NULL && image != NULL);
  if (by_first_write) {
    CHECK (qcow2_pwrite (image, &i.d.host, cluster, 512, 0, false, &err)
           == -1);
    CHECK_EQ (err.kind, QCOW2_ERR_ABANDONED);
  }
  gone = false;
  unit_check (qcow2_pwrite (image, &i.d.host, cluster, 512, 0, false, &err)
              == 0, __FILE__, __LINE__, "%s", err.text);
  CHECK (qcow2_end (image, &i.d.host, &err) == 0);
  qcow2_close (image);
  CHECK_EQ (qcow2_budget_used (budget), 0);
  qcow2_budget_free (budget);
  memory_disk_free (&i.d);
  builder_free (&i.r.b);
}

/* ---- What is known already --------------------------------------------- */

static void
count_lines (void *opaque, enum qcow2_log_level level, const char *text,
             enum qcow2_advice advice)
{
  (void) advice;
  (void) text;
  *(unsigned *) opaque += level == QCOW2_LOG_WARNING;
}

/* Open, look at how much was read and what it said, and write. */
static bool
open_and_write (struct image *i, const struct qcow2_scan *known,
                struct qcow2_scan *ret_scan, bool *ret_scanned,
                unsigned long *ret_reads, struct qcow2_error *err)
{
  unsigned lines = 0;
  const struct qcow2_options options = {
    .writable = true, .known_scan = known, .log = count_lines,
    .log_opaque = &lines,
  };
  unsigned char bytes[512] = { 1 };
  const unsigned long reads = i->d.reads;
  struct qcow2_image *const image = qcow2_open (&i->d.host, &options, err);
  bool ok;

  REQUIRE (image != NULL);
  CHECK_EQ (lines, 1);
  *ret_reads = i->d.reads - reads;
  *ret_scanned = qcow2_get_scan (image, ret_scan);
  ok = qcow2_pwrite (image, &i->d.host, bytes, 512, 0, false, err) == 0 &&
    qcow2_end (image, &i->d.host, err) == 0;
  qcow2_close (image);
  return ok;
}

/* An entry that leads past the end of the file cannot be repaired; a refcount
 * that is wrong can.
 */
static void
test_known (bool can_be_repaired)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 12, .refcount_order = 4,
    .virtual_size = 1 << 20,
  };
  unsigned char cluster[4096] = { 1 };
  struct rng rng = { 1 };
  struct qcow2_scan scan, again;
  struct qcow2_error err = { .text = "" }, second = err;
  unsigned long reads, fewer;
  struct image i = { 0 };
  bool scanned;

  unit_context ("known, can be repaired: %d", can_be_repaired);
  builder_init (&i.r.b, &spec);
  builder_data (&i.r.b, 0, cluster);
  builder_finish (&i.r.b);
  if (!can_be_repaired)
    store_be64 (i.r.b.bytes + builder_entry_off (&i.r.b, 0) + 8,
                COPIED | UINT64_C (1) << 40);
  memory_disk_init (&i.d, i.r.b.bytes, i.r.b.size);
  decode (&i.d, &i.undamaged, &i.geo);
  i.h = i.undamaged;
  memory_disk_free (&i.d);
  damage_image (&i, &rng, FILL);
  i.d.capacity = UINT64_C (1) << 30;
  CHECK_EQ (open_and_write (&i, NULL, &scan, &scanned, &reads, &err),
            can_be_repaired);
  CHECK (scanned && scan.ns > 0 && scan.failed == !can_be_repaired);
  if (can_be_repaired) {
    memory_disk_free (&i.d);
    damage_image (&i, &rng, FILL);
    i.d.capacity = UINT64_C (1) << 30;
  }
  CHECK_EQ (open_and_write (&i, &scan, &again, &scanned, &fewer, &second),
            can_be_repaired);
  CHECK (!scanned && fewer < reads);
  if (can_be_repaired)
    CHECK_EQ (i.d.bytes[79] & 1, 0);
  else
    CHECK (strcmp (err.text, second.text) == 0 && err.kind == second.kind);
  memory_disk_free (&i.d);
  builder_free (&i.r.b);
}

int
main (void)
{
  test_large (true);
  test_large (false);
  test_known (false);
  test_known (true);
  test_abandoned (false);
  test_abandoned (true);
  test_lying_holes (1100, true);
  test_lying_holes (70000, false);
  for (int damage = NONE; damage < NR_DAMAGES; ++damage) {
    for (uint64_t seed = 0; seed < unit_scaled (24); ++seed)
      test_repair (seed, (enum damage) damage);
    for (uint64_t seed = 0; seed < unit_scaled (8); ++seed) {
      test_crash (seed, (enum damage) damage);
      test_faults (seed, (enum damage) damage);
    }
  }
  test_lazy ();
  test_no_space ();
  for (uint64_t seed = 0; seed < unit_scaled (4); ++seed)
    test_far_away (seed);
  test_table_just_full ();
  test_width ();
  return unit_finish ();
}
