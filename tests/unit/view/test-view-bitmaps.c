/* SPDX-License-Identifier: BSD-3-Clause */
/* test-view-bitmaps.c - views of bitmaps, and bitmaps that must not be
 * trusted.
 */
#include "config.h"

#include "image_inside.h"
#include "memory_disk.h"
#include "memory_io.h"
#include "random_image.h"
#include "views.h"

#include "base/be.h"

#include <errno.h>

/* ---- Random bits --------------------------------------------------------- */

struct bits {
  unsigned granularity_bits;
  unsigned char *bits;
};

static bool
is_set (void *arg, uint64_t guest_off, uint64_t *ret_end)
{
  const struct bits *const b = arg;
  const uint64_t i = guest_off >> b->granularity_bits;

  *ret_end = (i + 1) << b->granularity_bits;
  return b->bits[i / 8] >> i % 8 & 1;
}

/* Stretches of set and unset bits of all lengths; the bits behind the last
 * one as well, which mean nothing.
 */
static void
choose_bits (struct rng *rng, unsigned char *bits, uint64_t nr)
{
  const uint64_t most = 1 + rng_below (rng, rng_below (rng, 2) ? 4 : nr);

  for (uint64_t i = 0; i < (nr + 7) / 8 * 8;) {
    const bool set = rng_below (rng, 2);

    for (uint64_t n = 1 + rng_below (rng, most);
         n > 0 && i < (nr + 7) / 8 * 8; --n, ++i)
      bits[i / 8] |= (unsigned char) (set << i % 8);
  }
}

static void
test_random (uint64_t seed)
{
  const bool slow = seed % 10 == 0;
  const struct qcow2_options options = { .readahead = slow ? 1 << 20 : 0 };
  struct rng rng = { seed };
  struct random_image r;
  struct inside in = { .nr_bitmaps = 0 };
  struct image_spec spec;
  struct bits bits;
  struct memory_io m;
  struct qcow2_image *image, *view;
  struct qcow2_error err;
  uint64_t size, nr;

  do
    spec = random_spec (&rng);
  while (spec.version < 3);
  spec.refcount_order = 4;
  random_image_init (&r, &rng, &spec, 256 << 10);
  size = r.base + r.len;
  /* As fine as fits a million bits. */
  bits.granularity_bits = 9 + (unsigned) rng_below (&rng, 8);
  while (size >> bits.granularity_bits > 1 << 20)
    bits.granularity_bits++;
  if (rng_below (&rng, 10) == 0)
    bits.granularity_bits = 31;
  nr = ((size - 1) >> bits.granularity_bits) + 1;
  bits.bits = calloc (1, nr / 8 + 1);
  REQUIRE (bits.bits != NULL);
  unit_context ("seed %" PRIu64 ": %s, granularity 2^%u", seed,
                random_image_describe (&r), bits.granularity_bits);
  choose_bits (&rng, bits.bits, nr);
  if (slow)
    builder_alloc (&r.b, (600 << 10) / r.b.cluster_size);
  inside_bitmap (&in, &r.b, &(struct inside_bitmap) {
    .name = "other", .granularity_bits = 9, .flags = 2, .bits = NULL,
    .nr_bits = 1, });
  inside_bitmap (&in, &r.b, &(struct inside_bitmap) {
    .name = "b", .granularity_bits = bits.granularity_bits,
    .flags = (uint32_t) rng_below (&rng, 2) * 2, .bits = bits.bits,
    .nr_bits = nr });
  inside_finish (&in, &r.b);
  builder_finish (&r.b);
  memory_io_init (&m, r.b.bytes, r.b.size);
  if (slow) {
    m.delay_us = 260;
    m.io.concurrent = true;
    memory_io_lend (&m, 0);
  }
  image = qcow2_open (&m.io, &options, &err);
  REQUIRE (image != NULL);
  view = view_open (image, &m.io, QCOW2_VIEW_BITMAP, "b");
  CHECK_EQ (qcow2_get_info (view).virtual_size, size);
  view_check_mask (view, &m.io, &rng, is_set, &bits, r.disk, r.base, r.len);
  qcow2_close (view);
  qcow2_close (image);
  CHECK_EQ (m.borrowed, 0);
  free (bits.bits);
  random_image_free (&r);
}

/* ---- One image ----------------------------------------------------------- */

#define CLUSTER UINT64_C (4096)
#define SIZE (40000 * CLUSTER + 1234)
#define BITS (SIZE / 512 + 1)   /* 10 clusters of them */

static unsigned char set_bits[BITS / 8 + 1];

struct one {
  struct image_builder b;
  struct inside in;
  struct memory_io m;
  struct qcow2_image *image;
};

static void
build (struct one *o)
{
  static const struct image_spec spec = {
    .version = 3, .cluster_bits = 12, .refcount_order = 4,
    .virtual_size = SIZE,
  };
  unsigned char cluster[CLUSTER];

  memset (o, 0, sizeof *o);
  builder_init (&o->b, &spec);
  memset (cluster, 'd', sizeof cluster);
  builder_data (&o->b, 3, cluster);
  memset (set_bits, 0, sizeof set_bits);
  set_bits[3] = 0x81;
  set_bits[2 * CLUSTER] = 0x10;
}

static void
add (struct one *o, struct inside_bitmap bitmap)
{
  if (bitmap.granularity_bits == 0)
    bitmap.granularity_bits = 9;
  if (bitmap.nr_bits == 0)
    bitmap.nr_bits = BITS;
  bitmap.bits = set_bits;
  inside_bitmap (&o->in, &o->b, &bitmap);
}

static void
open_one (struct one *o)
{
  const struct qcow2_options options = { .readahead = 0 };
  struct qcow2_error err;

  memory_io_init (&o->m, o->b.bytes, o->b.size);
  o->image = qcow2_open (&o->m.io, &options, &err);
  if (!unit_check (o->image != NULL, __FILE__, __LINE__, "%s",
                   o->image ? "" : err.text))
    exit (unit_finish ());
}

static void
finish (struct one *o)
{
  inside_finish (&o->in, &o->b);
  builder_finish (&o->b);
  open_one (o);
}

static void
close_one (struct one *o)
{
  qcow2_close (o->image);
  builder_free (&o->b);
}

/* ---- What is listed, and refused ----------------------------------------- */

static const struct {
  struct inside_bitmap bitmap;
  const char *why;              /* part of it; NULL: it can be used */
} listed[] = {
  { { .name = "good", .flags = 2 }, NULL },
  { { .name = "disabled", .flags = 0 }, NULL },
  { { .name = "in use", .flags = 3 }, "in use" },
  { { .name = "extra", .extra_len = 8 }, "extra data" },
  { { .name = "extra-ok", .flags = 4, .extra_len = 8 }, "extra data" },
  { { .name = "long", .more_entries = 1 }, "fit" },
  { { .name = "short", .nr_bits = 9 * CLUSTER * 8 }, "fit" },
  { { .name = "coarse", .granularity_bits = 31,
      .nr_bits = (SIZE >> 31) + 1 }, NULL },
};
#define NR_LISTED (sizeof listed / sizeof listed[0])

struct listing {
  unsigned n, stop_after;
  const char *enabled;          /* why none that is enabled can be used */
};

static int
see_bitmap (void *opaque, const struct qcow2_bitmap *bitmap)
{
  struct listing *const l = opaque;
  const struct inside_bitmap *const e = &listed[l->n].bitmap;
  const char *const why =
    l->enabled && (e->flags & 2) ? l->enabled : listed[l->n].why;

  if (!CHECK (l->n < NR_LISTED))
    return 1;
  CHECK (bitmap->name.len == strlen (e->name) &&
         memcmp (bitmap->name.bytes, e->name, strlen (e->name)) == 0);
  CHECK_EQ (bitmap->granularity,
            UINT64_C (1) << (e->granularity_bits ? e->granularity_bits : 9));
  CHECK_EQ (bitmap->enabled, (e->flags & 2) != 0);
  CHECK ((bitmap->why_unusable != NULL) == (why != NULL));
  if (why != NULL && bitmap->why_unusable != NULL)
    CHECK (strstr (bitmap->why_unusable, why) != NULL);
  l->n++;
  return l->n == l->stop_after;
}

static void
test_list (void)
{
  struct one o;
  struct qcow2_error err;

  build (&o);
  for (unsigned i = 0; i < NR_LISTED; ++i)
    add (&o, listed[i].bitmap);
  finish (&o);
  CHECK_EQ (qcow2_get_info (o.image).nr_bitmaps, NR_LISTED);
  for (unsigned stop = 0; stop <= NR_LISTED; ++stop) {
    struct listing l = { 0, stop, NULL };

    unit_context ("stop after %u", stop);
    CHECK (qcow2_list_bitmaps (o.image, &o.m.io, see_bitmap, &l, &err) == 0);
    CHECK_EQ (l.n, stop ? stop : NR_LISTED);
  }
  for (unsigned i = 0; i < NR_LISTED; ++i) {
    unit_context ("bitmap %s", listed[i].bitmap.name);
    if (listed[i].why == NULL)
      qcow2_close (view_open (o.image, &o.m.io, QCOW2_VIEW_BITMAP,
                              listed[i].bitmap.name));
    else
      view_refuse (o.image, &o.m.io, QCOW2_VIEW_BITMAP,
                   listed[i].bitmap.name, QCOW2_ERR_REFUSED, listed[i].why);
  }
  view_refuse (o.image, &o.m.io, QCOW2_VIEW_BITMAP, "goo",
               QCOW2_ERR_NOT_FOUND, "'goo'");
  view_refuse (o.image, &o.m.io, QCOW2_VIEW_BITMAP, "", QCOW2_ERR_NOT_FOUND,
               "''");
  close_one (&o);
}

/* Somebody who does not know bitmaps has written to the image. */
static void
test_stale (void)
{
  struct one o;
  struct qcow2_error err;
  struct listing l = { 0, 0, NULL };

  unit_context ("%s", "no autoclear bit");
  build (&o);
  add (&o, (struct inside_bitmap) { .name = "good", .flags = 2 });
  inside_finish (&o.in, &o.b);
  builder_finish (&o.b);
  builder_put (&o.b, 88, 8, 0);
  open_one (&o);
  CHECK_EQ (qcow2_get_info (o.image).nr_bitmaps, 0);
  CHECK (qcow2_list_bitmaps (o.image, &o.m.io, see_bitmap, &l, &err) == 0);
  CHECK_EQ (l.n, 0);
  view_refuse (o.image, &o.m.io, QCOW2_VIEW_BITMAP, "good",
               QCOW2_ERR_REFUSED, "does not know bitmaps");
  close_one (&o);
}

/* Directory entries that cannot be: then no bitmap is there. */
static void
test_broken_directory (void)
{
  static const struct { unsigned at, len, value; } cases[] = {
    { 12, 4, 8 }, { 12, 4, 0x80000000 }, { 16, 1, 0 }, { 16, 1, 2 },
    { 17, 1, 8 }, { 17, 1, 32 }, { 8, 4, 0 }, { 0, 8, 0 }, { 0, 8, 512 },
    { 18, 2, 0 }, { 18, 2, 1024 },
  };

  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    struct one o;
    struct qcow2_error err;
    struct listing l = { 0, 0, NULL };

    unit_context ("directory %zu", i);
    build (&o);
    add (&o, (struct inside_bitmap) { .name = "good", .flags = 2 });
    finish (&o);
    builder_put (&o.b, builder_get (&o.b, 112 + 8 + 16, 8) + cases[i].at,
                 cases[i].len, cases[i].value);
    CHECK (qcow2_list_bitmaps (o.image, &o.m.io, see_bitmap, &l, &err)
           == -1);
    CHECK_EQ (err.kind, QCOW2_ERR_CORRUPT);
    CHECK_EQ (l.n, 0);
    view_refuse (o.image, &o.m.io, QCOW2_VIEW_BITMAP, "good",
                 QCOW2_ERR_CORRUPT, "");
    close_one (&o);
  }
}

/* Table entries that cannot be: what they stand for cannot be read or
 * mapped, all else can.
 */
static void
test_broken_entries (void)
{
  static const uint64_t entries[] = {
    2, 0x100, UINT64_C (1) << 56, UINT64_C (1) << 63, 0x2001, 0x2200,
    UINT64_C (0x00fffffffffff000), 0x800000000,
  };

  for (size_t i = 0; i < sizeof entries / sizeof entries[0]; ++i) {
    const uint64_t span = 8 * CLUSTER * 512;
    struct qcow2_image *view;
    struct qcow2_error err;
    struct one o;
    char c;

    unit_context ("entry 0x%" PRIx64, entries[i]);
    build (&o);
    add (&o, (struct inside_bitmap) { .name = "good", .flags = 2 });
    finish (&o);
    builder_put (&o.b, o.in.bitmap[0].table_off + 8, 8, entries[i]);
    view = view_open (o.image, &o.m.io, QCOW2_VIEW_BITMAP, "good");
    CHECK (qcow2_pread (view, &o.m.io, &c, 1, span, &err) == -1);
    CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, o.in.bitmap[0].table_off + 8);
    CHECK (qcow2_pread (view, &o.m.io, &c, 1, 2 * span - 1, &err) == -1);
    CHECK (qcow2_pread (view, &o.m.io, &c, 1, 2 * span, &err) == 0);
    CHECK (qcow2_pread (view, &o.m.io, &c, 1, span - 1, &err) == 0);
    qcow2_close (view);
    close_one (&o);
  }
}

/* The table, or bits, are not there: that does not mean that nothing has
 * changed.
 */
static void
test_cut_file (void)
{
  struct one o;
  struct qcow2_image *view;
  struct qcow2_error err;
  uint64_t size;
  char c;

  unit_context ("%s", "cut file");
  build (&o);
  add (&o, (struct inside_bitmap) { .name = "good", .flags = 2 });
  finish (&o);
  size = o.b.size;
  builder_put (&o.b, o.in.bitmap[0].table_off, 8, size);
  view = view_open (o.image, &o.m.io, QCOW2_VIEW_BITMAP, "good");
  CHECK (qcow2_pread (view, &o.m.io, &c, 1, 0, &err) == -1);
  CHECK_EQ (err.kind, QCOW2_ERR_CORRUPT);
  qcow2_close (view);
  /* The table's last entry is not all there. */
  builder_put (&o.b, builder_get (&o.b, 112 + 8 + 16, 8), 8, size - CLUSTER);
  qcow2_close (o.image);
  o.b.size = size - CLUSTER + 72;
  open_one (&o);
  view_refuse (o.image, &o.m.io, QCOW2_VIEW_BITMAP, "good",
               QCOW2_ERR_CORRUPT, "inside the file");
  close_one (&o);
}

/* Half a GiB of bits, most of which no cluster of the file stands for. */
struct seen_large {
  unsigned n;
  uint64_t next;
};

static int
see_large (void *opaque, uint64_t guest_off, uint64_t len,
           enum qcow2_extent_type type)
{
  struct seen_large *const s = opaque;

  CHECK_EQ (guest_off, s->next);
  CHECK_EQ (type, s->n % 2 ? QCOW2_EXTENT_ZERO
            : QCOW2_EXTENT_ZERO_ALLOCATED);
  s->next += len;
  s->n++;
  return 0;
}

static void
test_large (void)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 21, .refcount_order = 4,
    .virtual_size = UINT64_C (1) << 41, /* 2 TiB: 2^32 granules of 512 */
  };
  struct image_builder b;
  struct inside in = { .nr_bitmaps = 0 };
  struct memory_io m;
  struct qcow2_image *image, *view;
  struct qcow2_error err;
  struct seen_large seen = { 0, 0 };
  uint64_t table, off;

  unit_context ("%s", "half a GiB of bits");
  builder_init (&b, &spec);
  inside_bitmap (&in, &b, &(struct inside_bitmap) {
    .name = "b", .granularity_bits = 9, .nr_bits = UINT64_C (1) << 32 });
  table = in.bitmap[0].table_off;
  off = builder_alloc (&b, 1);
  for (unsigned i = 0; i < 256; ++i)
    builder_put (&b, table + 8 * i, 8, i == 0 || i == 255 ? off : i % 2);
  memset (b.bytes + off, 0xff, 1 << 20);
  inside_finish (&in, &b);
  builder_finish (&b);
  memory_io_init (&m, b.bytes, b.size);
  image = qcow2_open (&m.io, &(struct qcow2_options) { .raw = false }, &err);
  REQUIRE (image != NULL);
  view = view_open (image, &m.io, QCOW2_VIEW_BITMAP, "b");
  CHECK (qcow2_extents (view, &m.io, spec.virtual_size, 0, see_large, &seen,
                        &err) == 0);
  CHECK_EQ (seen.next, spec.virtual_size);
  /* Half of the first cluster is set, and of the last, with which the
   * alternating ones between them change places.
   */
  CHECK_EQ (seen.n, 258);
  qcow2_close (view);
  qcow2_close (image);
  builder_free (&b);
}

/* ---- After a write -------------------------------------------------------- */

static int
see_nothing (void *opaque, uint64_t guest_off, uint64_t len,
             enum qcow2_extent_type type)
{
  (void) guest_off;
  (void) len;
  (void) type;
  ++*(unsigned *) opaque;
  return 0;
}

/* And nothing is read to find that out. */
static void
expect_stale (struct qcow2_image *view, const struct memory_disk *d)
{
  const struct qcow2_io *const io = &d->host;
  const unsigned long reads = d->reads;
  struct qcow2_error err = { .text = "" };
  unsigned n = 0;
  char c;

  CHECK (qcow2_pread (view, io, &c, 1, 3 * CLUSTER, &err) == -1);
  CHECK_EQ (err.errnum, EIO);
  CHECK (qcow2_cache (view, io, 1, 3 * CLUSTER, &err) == -1);
  CHECK_EQ (err.errnum, EIO);
  CHECK (strstr (err.text, "written") != NULL);
  err = (struct qcow2_error) { .text = "" };
  CHECK (qcow2_extents (view, io, SIZE, 0, see_nothing, &n, &err) == -1);
  CHECK_EQ (err.errnum, EIO);
  CHECK (strstr (err.text, "written") != NULL);
  CHECK_EQ (n, 0);
  CHECK_EQ (d->reads, reads);
}

/* A write that comes while a request reads: that may have read what the bitmap
 * does not know, so it fails.
 */
struct interrupted {
  struct memory_disk d;
  struct qcow2_io_ops ops;
  struct qcow2_io io;
  struct qcow2_image *image;
  enum qcow2_io_class class;    /* of the read that is interrupted */
  bool armed;
};

static int
interrupted_pread (void *opaque, void *buf, uint32_t count,
                   uint64_t host_off, enum qcow2_io_class class)
{
  struct interrupted *const in = opaque;
  struct qcow2_error err;

  if (in->armed && class == in->class) {
    in->armed = false;
    CHECK_EQ (qcow2_pwrite (in->image, &in->d.host, "x", 1, SIZE / 2, false,
                            &err), 0);
  }
  return in->d.host.ops->pread (&in->d, buf, count, host_off, class);
}

static void
test_interrupted (enum qcow2_io_class class, bool extents)
{
  const struct qcow2_options options = { .writable = true };
  struct interrupted in = { .class = class };
  struct one o;
  struct qcow2_image *view;
  struct qcow2_error err;
  unsigned n = 0;
  char c;

  unit_context ("a write while class %d is read", (int) class);
  build (&o);
  add (&o, listed[0].bitmap);
  finish (&o);
  memory_disk_init (&in.d, o.b.bytes, o.b.size);
  in.ops = (struct qcow2_io_ops) { .pread = interrupted_pread };
  in.io = in.d.host;
  in.io.ops = &in.ops;
  in.io.opaque = &in;
  in.image = qcow2_open (&in.d.host, &options, &err);
  REQUIRE (in.image != NULL);
  view = view_open (in.image, &in.d.host, QCOW2_VIEW_BITMAP, "good");
  in.armed = true;
  if (extents)
    CHECK (qcow2_extents (view, &in.io, SIZE, 0, see_nothing, &n, &err)
           == -1);
  else
    CHECK (qcow2_pread (view, &in.io, &c, 1, 3 * CLUSTER, &err) == -1);
  CHECK (!in.armed);
  CHECK_EQ (err.errnum, EIO);
  qcow2_close (view);
  CHECK_EQ (qcow2_end (in.image, &in.d.host, &err), 0);
  qcow2_close (in.image);
  memory_disk_free (&in.d);
  close_one (&o);
}

static void
test_written (void)
{
  const struct qcow2_options options = { .writable = true };
  struct one o;
  struct memory_disk d;
  struct qcow2_image *image, *view;
  struct qcow2_error err;
  struct listing l = { 0, 0, "written" };
  unsigned n = 0;
  char c = 0;

  unit_context ("%s", "after a write");
  build (&o);
  add (&o, listed[0].bitmap);
  add (&o, listed[1].bitmap);
  finish (&o);
  memory_disk_init (&d, o.b.bytes, o.b.size);
  image = qcow2_open (&d.host, &options, &err);
  REQUIRE (image != NULL && qcow2_get_info (image).writable);
  view = view_open (image, &d.host, QCOW2_VIEW_BITMAP, "good");
  CHECK (!qcow2_get_info (view).writable);
  CHECK (qcow2_pwrite (view, &d.host, "x", 1, 0, false, &err) == -1);
  CHECK_EQ (err.kind, QCOW2_ERR_READ_ONLY);
  CHECK (qcow2_pread (view, &d.host, &c, 1, 3 * CLUSTER + 512 * 7, &err)
         == 0);
  CHECK_EQ (c, 'd');
  CHECK (qcow2_extents (view, &d.host, SIZE, 0, see_nothing, &n, &err) == 0);
  CHECK (n > 2);

  /* A request that changes nothing. */
  CHECK (qcow2_pwrite (image, &d.host, "x", 1, SIZE, false, &err) == -1);
  CHECK (qcow2_flush (image, &d.host, &err) == 0);
  CHECK (qcow2_pread (view, &d.host, &c, 1, 0, &err) == 0);

  CHECK (qcow2_pwrite (image, &d.host, "x", 1, SIZE / 2, false, &err) == 0);
  expect_stale (view, &d);
  CHECK (qcow2_list_bitmaps (image, &d.host, see_bitmap, &l, &err) == 0);
  CHECK_EQ (l.n, 2);
  view_refuse (image, &d.host, QCOW2_VIEW_BITMAP, "good", QCOW2_ERR_REFUSED,
               "written");
  CHECK (qcow2_end (image, &d.host, &err) == 0);
  expect_stale (view, &d);
  qcow2_close (view);
  qcow2_close (image);

  image = qcow2_open (&d.host, &options, &err);
  REQUIRE (image != NULL);
  view_refuse (image, &d.host, QCOW2_VIEW_BITMAP, "good", QCOW2_ERR_REFUSED,
               "in use");
  qcow2_close (image);
  memory_disk_free (&d);
  close_one (&o);
}

/* A bitmap that is disabled stays as true as it was, whatever is written: its
 * views go on, and show what the disk has now; nothing is changed in its
 * entry; and after the end, another program finds it as it was.  (A first
 * write marked each bitmap as in use, so QEMU refused them for good.)
 */
static void
test_disabled (void)
{
  static const struct qcow2_options options = { .writable = true };
  struct one o;
  struct memory_disk d;
  struct qcow2_image *image, *view;
  struct qcow2_error err;
  uint64_t dir;
  unsigned n = 0;
  char c = 0;

  unit_context ("%s", "a disabled bitmap");
  build (&o);
  add (&o, listed[0].bitmap);
  add (&o, listed[1].bitmap);
  finish (&o);
  dir = builder_get (&o.b, 112 + 8 + 16, 8);
  memory_disk_init (&d, o.b.bytes, o.b.size);
  image = qcow2_open (&d.host, &options, &err);
  REQUIRE (image != NULL);
  view = view_open (image, &d.host, QCOW2_VIEW_BITMAP, "disabled");
  for (unsigned round = 0; round < 2; ++round) {
    const char new = (char) ('w' + round);

    CHECK (qcow2_pwrite (image, &d.host, &new, 1, 3 * CLUSTER, false, &err)
           == 0);
    CHECK (qcow2_pread (view, &d.host, &c, 1, 3 * CLUSTER, &err) == 0);
    CHECK_EQ (c, new);
    /* What the bitmap does not know of is not shown. */
    CHECK (qcow2_pwrite (image, &d.host, &new, 1, SIZE / 2, false, &err)
           == 0);
    CHECK (qcow2_pread (view, &d.host, &c, 1, SIZE / 2, &err) == 0);
    CHECK_EQ (c, 0);
    n = 0;
    CHECK (qcow2_extents (view, &d.host, SIZE, 0, see_nothing, &n, &err)
           == 0);
    CHECK (n > 2);
    qcow2_close (view);
    view = view_open (image, &d.host, QCOW2_VIEW_BITMAP, "disabled");
  }
  view_refuse (image, &d.host, QCOW2_VIEW_BITMAP, "good", QCOW2_ERR_REFUSED,
               "written");
  qcow2_close (view);
  CHECK (qcow2_end (image, &d.host, &err) == 0);
  qcow2_close (image);
  CHECK_EQ (load_be32 (d.bytes + dir + 12), 3);
  CHECK_BYTES (d.bytes + dir + 16, o.b.bytes + dir + 16, CLUSTER - 16);

  image = qcow2_open (&d.host, &options, &err);
  REQUIRE (image != NULL);
  view_refuse (image, &d.host, QCOW2_VIEW_BITMAP, "good", QCOW2_ERR_REFUSED,
               "in use");
  qcow2_close (view_open (image, &d.host, QCOW2_VIEW_BITMAP, "disabled"));
  qcow2_close (image);
  memory_disk_free (&d);
  close_one (&o);
}

int
main (void)
{
  for (uint64_t seed = 1; seed <= unit_scaled (200); ++seed)
    test_random (seed);
  test_list ();
  test_stale ();
  test_broken_directory ();
  test_broken_entries ();
  test_cut_file ();
  test_large ();
  test_written ();
  test_disabled ();
  test_interrupted (QCOW2_IO_DATA, false);
  test_interrupted (QCOW2_IO_L2, false);
  test_interrupted (QCOW2_IO_L2, true);
  return unit_finish ();
}
