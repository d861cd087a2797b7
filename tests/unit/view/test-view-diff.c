/* SPDX-License-Identifier: BSD-3-Clause */
/* test-view-diff.c - differences between snapshots.
 *
 * Usage: test-view-diff [FIRST-SEED [RUNS]]
 *
 * Owns      random histories of a disk, and the model of them.
 * Method    changes clusters in every way that tables can express, takes
 *           snapshots of any size, and compares each one and the active disk
 *           with the record.  Then all pairs: the differences are known from
 *           the place of each sector, and the data extents of A..B applied to
 *           a copy of A must make it B.
 */
#include "config.h"

#include "image_inside.h"
#include "memory_io.h"
#include "random_image.h"
#include "views.h"

#define SECTOR 512
#define MAX_STATES 6

/* The disk at some moment. */
struct state {
  uint64_t size;                /* of the disk */
  unsigned char *disk;          /* the window, of history.len bytes */
  struct sector *sectors;
  char name[8];
};

struct history {
  struct image_builder b;
  struct inside in;
  struct rng rng;
  uint64_t base, len;           /* the window; before it nothing is */
  unsigned char *below;         /* in the window; zeros if there is none, and
                                   behind its end */
  uint64_t below_size;          /* 0: there is none */
  uint64_t nr_clusters;         /* of it */
  unsigned char *cluster;
  struct state now;
  struct state states[MAX_STATES];      /* the last is the active disk */
  unsigned nr_states;
};

/* ---- Changes ----------------------------------------------------------- */

static void
set_sectors (struct history *h, uint64_t from, uint64_t to,
             enum sector_kind kind, uint64_t host_off, uint64_t csize)
{
  for (uint64_t at = from; at < to && at < h->len; at += SECTOR)
    h->now.sectors[at / SECTOR] = (struct sector) {
      kind, kind == SECTOR_DATA ? host_off + (at - from) : host_off, csize
    };
}

/* The window from 'from' on is as h->cluster from 'skip' on, if that is data.
 */
static void
set_bytes (struct history *h, uint64_t from, uint64_t len, uint64_t skip,
           enum sector_kind kind)
{
  if (from >= h->len)
    return;
  if (len > h->len - from)
    len = h->len - from;
  if (kind == SECTOR_ZERO)
    memset (h->now.disk + from, 0, len);
  else
    memcpy (h->now.disk + from, kind == SECTOR_UNALLOCATED ? h->below + from
            : h->cluster + skip, len);
}

static void
make_data (struct history *h, uint64_t at, uint64_t guest_cluster)
{
  const uint64_t size = h->b.cluster_size;

  if (rng_below (&h->rng, 8) == 0)
    memset (h->cluster, 0, size);
  else
    rng_fill (&h->rng, h->cluster, size);
  set_sectors (h, at, at + size, SECTOR_DATA,
               builder_data (&h->b, guest_cluster, h->cluster), 0);
  set_bytes (h, at, size, 0, SECTOR_DATA);
}

/* Of one that is compressed, that its stream has a sector more: no writer does
 * that, and it counts as another stream.
 */
static bool
make_longer (struct history *h, uint64_t at, uint64_t guest_cluster)
{
  const uint64_t size = h->b.cluster_size;
  const struct sector old = h->now.sectors[at / SECTOR];
  uint64_t descriptor, bitmap;

  if (old.kind != SECTOR_COMPRESSED || old.csize + 512 > size)
    return false;
  builder_get_entry (&h->b, guest_cluster, &descriptor, &bitmap);
  builder_set_entry (&h->b, guest_cluster, descriptor +
                     (UINT64_C (1) << (70 - h->b.spec.cluster_bits)),
                     bitmap);
  set_sectors (h, at, at + size, SECTOR_COMPRESSED, old.host_off,
               old.csize + 512);
  return true;
}

static void
make_compressed (struct history *h, uint64_t at, uint64_t guest_cluster)
{
  const uint64_t size = h->b.cluster_size;
  uint64_t host_off, csize;

  if (make_longer (h, at, guest_cluster))
    return;
  rng_fill (&h->rng, h->cluster, 40);
  for (uint64_t i = 40; i < size; ++i)
    h->cluster[i] = h->cluster[i - 40];
  if (!builder_compressed (&h->b, guest_cluster, h->cluster, &host_off,
                           &csize))
    return;
  set_sectors (h, at, at + size, SECTOR_COMPRESSED, host_off, csize);
  set_bytes (h, at, size, 0, SECTOR_COMPRESSED);
}

static void
make_subclusters (struct history *h, uint64_t at, uint64_t guest_cluster)
{
  const uint64_t size = h->b.cluster_size, sub = size / 32;
  const uint32_t alloc =
    (uint32_t) (rng_next (&h->rng) & rng_next (&h->rng));
  const uint32_t zero = ~alloc & (uint32_t) rng_next (&h->rng);
  uint64_t descriptor, bitmap, host_off;

  builder_get_entry (&h->b, guest_cluster, &descriptor, &bitmap);
  host_off = descriptor & UINT64_C (0x00fffffffffffe00);
  /* Only other bits, of the same cluster, as zeroing some of it makes. */
  if (!(descriptor & UINT64_C (1) << 62) && host_off != 0 &&
      rng_below (&h->rng, 2)) {
    memcpy (h->cluster, h->b.bytes + host_off, size);
    builder_set_entry (&h->b, guest_cluster, descriptor,
                       (uint64_t) zero << 32 | alloc);
  }
  else {
    rng_fill (&h->rng, h->cluster, size);
    host_off = builder_subclusters (&h->b, guest_cluster, alloc, zero,
                                    rng_below (&h->rng, 2), h->cluster);
  }
  for (unsigned i = 0; i < 32; ++i) {
    const enum sector_kind kind = alloc >> i & 1 ? SECTOR_DATA
      : zero >> i & 1 ? SECTOR_ZERO : SECTOR_UNALLOCATED;

    set_sectors (h, at + i * sub, at + (i + 1) * sub, kind,
                 kind == SECTOR_DATA ? host_off + i * sub : 0, 0);
    set_bytes (h, at + i * sub, sub, i * sub, kind);
  }
}

static void
change_cluster (struct history *h, uint64_t i)
{
  const uint64_t at = i * h->b.cluster_size;
  const uint64_t cluster = h->base / h->b.cluster_size + i;
  const struct image_spec *const spec = &h->b.spec;

  switch (rng_below (&h->rng, spec->extended_l2 ? 8 : 6)) {
  case 0 ... 1:
    make_data (h, at, cluster);
    return;
  case 2:
    make_compressed (h, at, cluster);
    return;
  case 3 ... 4:
    if (spec->version < 3)
      break;
    builder_zero (&h->b, cluster, rng_below (&h->rng, 2));
    set_sectors (h, at, at + h->b.cluster_size, SECTOR_ZERO, 0, 0);
    set_bytes (h, at, h->b.cluster_size, 0, SECTOR_ZERO);
    return;
  case 6 ... 7:
    make_subclusters (h, at, cluster);
    return;
  }
  if (builder_entry_off (&h->b, cluster) == 0)
    return;
  builder_set_entry (&h->b, cluster, 0, 0);
  set_sectors (h, at, at + h->b.cluster_size, SECTOR_UNALLOCATED, 0, 0);
  set_bytes (h, at, h->b.cluster_size, 0, SECTOR_UNALLOCATED);
}

/* ---- Histories --------------------------------------------------------- */

static void *
copy_of (const void *p, size_t len)
{
  void *const copy = malloc (len);

  REQUIRE (copy != NULL);
  memcpy (copy, p, len);
  return copy;
}

static void
record (struct history *h, const char *name)
{
  struct state *const s = &h->states[h->nr_states++];

  s->size = h->now.size;
  s->disk = copy_of (h->now.disk, h->len);
  s->sectors = copy_of (h->now.sectors,
                        (h->len / SECTOR + 1) * sizeof *s->sectors);
  snprintf (s->name, sizeof s->name, "%s", name);
}

static void
take_snapshot (struct history *h)
{
  static const char *const names[] = { "s0", "s1", "s2", "s3", "s4" };
  struct inside_snapshot s = {
    .id = names[h->nr_states] + 1, .id_len = 1,
    .name = names[h->nr_states], .name_len = 2,
    .extra_len = rng_below (&h->rng, 2) ? 16 : 24,
    .disk_size = h->now.size, .more_l1 = (uint32_t) rng_below (&h->rng, 3),
  };

  /* Old writers say no size; it is the image's, which is the last one. */
  if (h->b.spec.version == 2 && rng_below (&h->rng, 4) == 0) {
    s.extra_len = 0;
    s.disk_size = h->now.size = h->base + h->len;
  }
  record (h, s.name);
  inside_snapshot (&h->in, &h->b, &s);
}

static void
resize (struct history *h)
{
  if (rng_below (&h->rng, 3) == 0)
    h->now.size = h->base + h->len;
  else
    h->now.size = h->base + 1 + rng_below (&h->rng, h->len);
}

static void
choose_window (struct history *h, struct image_spec *spec)
{
  const uint64_t size = UINT64_C (1) << spec->cluster_bits;
  const uint64_t entries = size / (spec->extended_l2 ? 16 : 8);
  const uint64_t most = (UINT64_C (400) << 10) / size;

  h->nr_clusters = 3 + rng_below (&h->rng, most > 6 ? most : 6);
  /* Some of them before a border between L2 tables. */
  h->base = rng_below (&h->rng, 2) ? 0
    : ((1 + rng_below (&h->rng, 2)) * entries -
       1 - rng_below (&h->rng, 3)) * size;
  h->len = h->nr_clusters * size - rng_below (&h->rng, 2) * 100;
  spec->virtual_size = h->base + h->len;
}

/* A raw backing file, whose name is of no interest; of any length, and perhaps
 * longer than the disk.
 */
static void
choose_below (struct history *h)
{
  if (rng_below (&h->rng, 3) == 0) {
    h->below_size = h->base + 1 + rng_below (&h->rng, h->len + 1000);
    rng_fill (&h->rng, h->below, h->below_size - h->base < h->len ?
              h->below_size - h->base : h->len);
    builder_put (&h->b, 8, 8, 300);
    builder_put (&h->b, 16, 4, 5);
    memcpy (h->b.bytes + 300, "below", 5);
  }
  memcpy (h->now.disk, h->below, h->len);
}

static void
make_history (struct history *h, uint64_t seed, bool slow)
{
  struct image_spec spec;
  unsigned nr;
  bool none = false;

  memset (h, 0, sizeof *h);
  h->rng.state = seed;
  do
    spec = random_spec (&h->rng);
  while (spec.version == 1 || spec.cluster_bits > 17);
  spec.refcount_order = 4;
  choose_window (h, &spec);
  builder_init (&h->b, &spec);
  if (slow)                     /* behind what opening reads */
    builder_alloc (&h->b, (600 << 10) / h->b.cluster_size);
  h->cluster = malloc (h->b.cluster_size);
  h->now.disk = calloc (1, h->len);
  h->now.sectors = calloc (h->len / SECTOR + 1, sizeof *h->now.sectors);
  h->now.size = h->base + h->len;
  h->below = calloc (1, h->len);
  REQUIRE (h->cluster && h->now.disk && h->now.sectors && h->below);
  choose_below (h);
  nr = 1 + (unsigned) rng_below (&h->rng, MAX_STATES - 1);
  for (unsigned i = 0; i < nr; ++i) {
    /* Now and then nothing happens, or little. */
    const uint64_t changes = rng_below (&h->rng, h->nr_clusters *
                                        (1 + rng_below (&h->rng, 2)) + 2);

    none = rng_below (&h->rng, 6) == 0;
    for (uint64_t j = 0; j < changes && !none; ++j)
      change_cluster (h, rng_below (&h->rng, h->nr_clusters));
    if (rng_below (&h->rng, 2))
      resize (h);
    take_snapshot (h);
  }
  for (uint64_t j = rng_below (&h->rng, h->nr_clusters); j > 0; --j)
    change_cluster (h, rng_below (&h->rng, h->nr_clusters));
  for (unsigned i = 0; i < h->in.nr_snapshots; ++i)
    none |= h->in.snapshot[i].extra_len == 0;
  if (!none)
    resize (h);
  else
    h->now.size = h->base + h->len;
  record (h, "");
  inside_finish (&h->in, &h->b);
  builder_finish (&h->b);
  builder_put (&h->b, 24, 8, h->now.size);
}

static void
free_history (struct history *h)
{
  for (unsigned i = 0; i < h->nr_states; ++i) {
    free (h->states[i].disk);
    free (h->states[i].sectors);
  }
  free (h->below);
  free (h->now.disk);
  free (h->now.sectors);
  free (h->cluster);
  builder_free (&h->b);
}

/* ---- Pairs ------------------------------------------------------------- */

struct pair {
  const struct history *h;
  const struct state *a, *b;
};

static bool
is_zero_sector (const struct sector *s, bool backed)
{
  return s->kind == SECTOR_ZERO ||
    (s->kind == SECTOR_UNALLOCATED && !backed);
}

/* So that nothing changes at 'border' before the end. */
static void
end_before (uint64_t guest_off, uint64_t border, uint64_t *end)
{
  if (guest_off < border && *end > border)
    *end = border;
}

static bool
has_changed (void *arg, uint64_t guest_off, uint64_t *ret_end)
{
  static const struct sector zero = { .kind = SECTOR_ZERO };
  const struct pair *const p = arg;
  const uint64_t at = guest_off - p->h->base;
  const struct sector *const b = &p->b->sectors[at / SECTOR];
  const struct sector *a = &p->a->sectors[at / SECTOR];
  const bool backed = guest_off < p->h->below_size;

  *ret_end = guest_off + SECTOR - at % SECTOR;
  end_before (guest_off, p->a->size, ret_end);
  end_before (guest_off, p->h->below_size, ret_end);
  if (guest_off >= p->a->size)
    a = &zero;
  if (is_zero_sector (a, backed) && is_zero_sector (b, backed))
    return false;
  return a->kind != b->kind || a->host_off != b->host_off ||
    a->csize != b->csize;
}

/* The whole backing file, of which the part before the window is a hole of
 * nobody's interest.
 */
struct below {
  const struct history *h;
  struct qcow2_image *image;
  struct qcow2_io io;
};

static int
read_below (void *opaque, void *buf, uint32_t count, uint64_t host_off,
            enum qcow2_io_class class)
{
  const struct history *const h = opaque;
  unsigned char *const p = buf;

  (void) class;
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t at = host_off + i;

    p[i] = at >= h->base && at < h->base + h->len ? h->below[at - h->base]
      : 0;
  }
  return 0;
}

static int
open_below (void *opaque, const struct qcow2_reference *reference,
            struct qcow2_file *ret, struct qcow2_error *err)
{
  static const struct qcow2_io_ops ops = { .pread = read_below };
  const struct qcow2_options raw = { .raw = true };
  struct below *const b = opaque;

  CHECK_EQ (reference->kind, QCOW2_BACKING_FILE);
  b->io = (struct qcow2_io) {
    .ops = &ops, .opaque = (void *) (uintptr_t) b->h,
    .size = b->h->below_size, .min_block = 1, .concurrent = true,
  };
  b->image = qcow2_open (&b->io, &raw, err);
  *ret = (struct qcow2_file) { .image = b->image, .io = &b->io };
  return b->image ? 0 : -1;
}

static void
check_pair (struct history *h, struct qcow2_image *image,
            struct memory_io *m, const struct state *a,
            const struct state *b)
{
  struct pair pair = { h, a, b };
  const uint64_t len = b->size - h->base;
  const uint64_t common = (a->size < b->size ? a->size : b->size) - h->base;
  unsigned char *const copy = calloc (1, len);
  struct qcow2_image *view;
  char name[20];

  REQUIRE (copy != NULL);
  snprintf (name, sizeof name, "%s..%s", a->name, b->name);
  view = view_open (image, &m->io, QCOW2_VIEW_DIFF, name);
  CHECK_EQ (qcow2_get_info (view).virtual_size, b->size);
  view_check_mask (view, &m->io, &h->rng, has_changed, &pair, b->disk,
                   h->base, len);
  memcpy (copy, a->disk, common);
  view_apply (view, &m->io, &h->rng, copy, h->base, len);
  CHECK_BYTES (copy, b->disk, len);
  qcow2_close (view);
  free (copy);
}

/* On a slow host views read ahead and load tables by jobs, through ways that
 * are lent.
 */
static void
check_history (struct history *h, bool slow)
{
  struct below below = { .h = h };
  const struct qcow2_options options = {
    .cluster_cache_size = 1 << 20, .cache_size = 1,
    .open_file = open_below, .open_file_opaque = &below,
    .readahead = slow || rng_below (&h->rng, 2) ? 1 << 20 : 0,
  };
  struct memory_io m;
  struct qcow2_image *image;
  struct qcow2_error err;

  memory_io_init (&m, h->b.bytes, h->b.size);
  if (slow) {
    m.delay_us = 260;
    m.io.concurrent = true;
    memory_io_lend (&m, 0);
  }
  image = qcow2_open (&m.io, &options, &err);
  REQUIRE (image != NULL);
  for (unsigned i = 0; i < h->nr_states; ++i) {
    const struct state *const s = &h->states[i];
    struct qcow2_image *const view = i + 1 == h->nr_states ? image
      : view_open (image, &m.io, QCOW2_VIEW_SNAPSHOT, s->name);

    view_compare (view, &m.io, &h->rng, s->disk, h->base, s->size - h->base);
    if (view != image)
      qcow2_close (view);
  }
  for (unsigned i = 0; i + 1 < h->nr_states; ++i)
    for (unsigned j = 0; j < h->nr_states; ++j)
      check_pair (h, image, &m, &h->states[i], &h->states[j]);
  qcow2_close (image);
  qcow2_close (below.image);
  CHECK_EQ (m.borrowed, 0);
}

/* ---- Names ------------------------------------------------------------- */

static const char *const names[] = {
  "a", "b", "a..b", "b..c", "c", "..", ".", "x", "x...", "dup", "dup", "",
  "n..\0m", "p...", "p..", ".q", "q",
};
#define NR_NAMES (sizeof names / sizeof names[0])

/* An image with all of 'names' as its snapshots, each a cluster larger than
 * the one before.
 */
static struct qcow2_image *
open_named (struct image_builder *b, struct memory_io *m)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 12, .refcount_order = 4,
    .virtual_size = 40 << 12,
  };
  struct inside in = { .nr_snapshots = 0 };
  struct qcow2_image *image;
  struct qcow2_error err;

  builder_init (b, &spec);
  for (size_t i = 0; i < NR_NAMES; ++i) {
    const struct inside_snapshot s = {
      .id = "1", .id_len = 1, .name = names[i],
      .name_len = names[i][0] == 'n' ? 5 : strlen (names[i]),
      .extra_len = 24, .disk_size = (i + 1) << 12,
    };

    inside_snapshot (&in, b, &s);
  }
  inside_finish (&in, b);
  builder_finish (b);
  memory_io_init (m, b->bytes, b->size);
  image = qcow2_open (&m->io, &(struct qcow2_options) { .raw = false }, &err);
  REQUIRE (image != NULL);
  return image;
}

/* Names of up to 200,000 dots have many places to be parted at. */
static void
test_huge_names (struct qcow2_image *image, const struct qcow2_io *io)
{
  static char huge[200000];
  struct qcow2_error err;

  memset (huge, '.', sizeof huge);
  for (size_t len = 131000; len <= sizeof huge; len += 50) {
    const struct qcow2_name name = { huge, len };

    CHECK (qcow2_open_view (image, io, QCOW2_VIEW_DIFF, &name, &err) == NULL);
    CHECK_EQ (err.kind, QCOW2_ERR_NOT_FOUND);
    if (len > 131100)
      len += 30000;
  }
}

static void
test_names (void)
{
  static const struct { const char *name; int result; } cases[] = {
    /* 0: is a pair; 1: none; 2: more than one */
    { "a..c", 0 }, { "c..", 0 }, { "..x", 0 }, { "....", 2 }, { "...", 2 },
    { "a..b..c", 2 }, { "a..b..", 0 }, { "b..c..x", 0 }, { "a..b", 0 },
    { "a", 1 }, { "a.", 1 }, { "", 1 }, { ".", 1 }, { "..", 0 },
    { "no..a", 3 }, { "a..no", 3 }, { "x..x", 0 }, { "x.....a", 0 },
    { "x...", 0 }, { "dup..a", 0 }, { "dup..dup", 0 }, { "......", 0 },
    { "p.....q", 2 }, { "a..b..b..c", 0 },
  };
  const struct qcow2_name with_zero = { "n..\0m..", 7 };
  struct image_builder b;
  struct memory_io m;
  struct qcow2_image *const image = open_named (&b, &m);
  struct qcow2_error err;

  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    unit_context ("name '%s'", cases[i].name);
    if (cases[i].result == 0)
      qcow2_close (view_open (image, &m.io, QCOW2_VIEW_DIFF, cases[i].name));
    else
      view_refuse (image, &m.io, QCOW2_VIEW_DIFF, cases[i].name,
                   QCOW2_ERR_NOT_FOUND,
                   cases[i].result == 1 ? "must be A..B"
                   : cases[i].result == 2 ? "more than one"
                   : "no snapshot 'no'");
  }

  /* The first of two of the same name: the size is that of B. */
  unit_context ("%s", "which of two");
  {
    struct qcow2_image *const view =
      view_open (image, &m.io, QCOW2_VIEW_DIFF, "a..dup");

    CHECK_EQ (qcow2_get_info (view).virtual_size, 10 << 12);
    qcow2_close (view);
  }
  qcow2_close (qcow2_open_view (image, &m.io, QCOW2_VIEW_DIFF, &with_zero,
                                &err));
  test_huge_names (image, &m.io);
  qcow2_close (image);
  builder_free (&b);
}

int
main (int argc, char *argv[])
{
  const uint64_t first = argc > 1 ? strtoull (argv[1], NULL, 0) : 1;
  const unsigned runs =
    argc > 2 ? (unsigned) strtoul (argv[2], NULL, 0) : unit_scaled (150);

  test_names ();
  for (uint64_t seed = first; seed < first + runs; ++seed) {
    const bool slow = seed % 20 == 0;
    struct history h;

    make_history (&h, seed, slow);
    unit_context ("seed %" PRIu64 ": v%u cluster 2^%u%s base 0x%" PRIx64
                  " len 0x%" PRIx64, seed, h.b.spec.version,
                  h.b.spec.cluster_bits,
                  h.b.spec.extended_l2 ? " extended" : "", h.base, h.len);
    check_history (&h, slow);
    free_history (&h);
    if (unit_failures () > 0)
      break;
  }
  return unit_finish ();
}
