/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz-make-corpus.c - writes seed images for the fuzzer into a folder.
 *
 * Small clusters, so that most of a file is metadata.  The results are in
 * corpus/; this is how to make more.
 */
#include "config.h"

#include "image_inside.h"
#include "random_image.h"
#include "unit.h"

static const char *folder;

static void
write_image (const struct image_builder *b, const char *name, unsigned nr)
{
  char path[4096];
  FILE *f;

  snprintf (path, sizeof path, "%s/%s-%u", folder, name, nr);
  f = fopen (path, "wb");
  REQUIRE (f != NULL);
  CHECK_EQ (fwrite (b->bytes, 1, b->size, f), b->size);
  CHECK_EQ (fclose (f), 0);
}

static void
make_random (const char *name, struct image_spec spec, unsigned nr)
{
  for (unsigned i = 0; i < nr; ++i) {
    struct rng rng = { i * 7 + spec.version };
    struct random_image r;

    spec.zstd = spec.version == 3 && i % 2 && qcow2_has_zstd ();
    random_image_init (&r, &rng, &spec, 512);
    write_image (&r.b, name, i);
    random_image_free (&r);
  }
}

/* One table that is L1 and L2 at once keeps large clusters small. */
static void
make_extended (void)
{
  static const uint64_t bitmaps[] = {
    UINT32_MAX, UINT64_C (0xffffffff) << 32, UINT64_C (0xff0000ff0000),
    UINT64_C (0x100000001), 0,
  };

  for (unsigned i = 0; i < sizeof bitmaps / sizeof bitmaps[0]; ++i) {
    const struct image_spec spec = {
      .version = 3, .cluster_bits = 14, .extended_l2 = true,
      .refcount_order = 4, .virtual_size = 65536,
    };
    struct image_builder b;

    builder_init (&b, &spec);
    b.bytes[b.l1_off + 6] = 0x40; /* the table at 0x4000, itself */
    builder_set_entry (&b, 1, UINT64_C (0x8000000000008000), bitmaps[i]);
    b.bytes[55] = 0;
    b.bytes[48 + 6] = 0x40;     /* a refcount table, not read */
    b.bytes[59] = 1;
    b.size = b.l1_off + 32;
    write_image (&b, "extended", i);
    builder_free (&b);
  }
}

/* Extensions of all kinds, well-formed and not. */
static void
make_extensions (void)
{
  static const struct { uint32_t type, len; } all[] = {
    { 0xe2792aca, 5 }, { 0x6803f857, 96 }, { 0x23852875, 24 },
    { 0x0537be77, 16 }, { 0x44415441, 9 }, { 0x11223344, 3 },
  };

  for (unsigned i = 0; i < sizeof all / sizeof all[0]; ++i) {
    const struct image_spec spec = {
      .version = 3, .cluster_bits = 9, .refcount_order = 4,
      .virtual_size = 1024,
    };
    unsigned char data[96] = { 0 };
    struct image_builder b;

    data[1] = 9;
    data[3] = 2;
    builder_init (&b, &spec);
    builder_extension (&b, all[5].type, data, all[5].len);
    builder_extension (&b, all[i].type, data, all[i].len);
    b.bytes[95] = 1;            /* bitmaps are valid */
    if (i == 1)
      b.bytes[78] = 2;          /* an unknown feature, bit 9 */
    builder_finish (&b);
    write_image (&b, "extension", i);
    builder_free (&b);
  }
}

/* Snapshots and bitmaps, all of them short. */
static void
make_inside (void)
{
  for (unsigned i = 0; i < 4; ++i) {
    const struct image_spec spec = {
      .version = i == 0 ? 2 : 3, .cluster_bits = 9, .refcount_order = 4,
      .virtual_size = 2048,
    };
    const unsigned char bits = 0x05;
    struct inside_snapshot s = {
      .id = "1", .id_len = 1, .name = "a", .name_len = 1,
      .extra_len = i == 0 ? 0 : 24, .disk_size = i == 2 ? 3000 : 2048,
    };
    unsigned char cluster[512] = "data";
    struct inside in = { .nr_snapshots = 0 };
    struct image_builder b;

    builder_init (&b, &spec);
    builder_data (&b, 0, cluster);
    inside_snapshot (&in, &b, &s);
    s.name = i == 3 ? "..a" : "b";
    s.name_len = (size_t) (i == 3 ? 3 : 1);
    builder_data (&b, 1, cluster);
    inside_snapshot (&in, &b, &s);
    builder_data (&b, 0, cluster);
    if (i > 0)
      inside_bitmap (&in, &b, &(struct inside_bitmap) {
        .name = "b", .granularity_bits = 9, .flags = 2, .bits = &bits,
        .nr_bits = 4 });
    inside_finish (&in, &b);
    builder_finish (&b);
    write_image (&b, "inside", i);
    builder_free (&b);
  }
}

int
main (int argc, char **argv)
{
  if (argc != 2) {
    fprintf (stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  folder = argv[1];
  make_random ("v1", (struct image_spec) {
      .version = 1, .cluster_bits = 9, .l2_bits = 6 }, 5);
  make_random ("v2", (struct image_spec) {
      .version = 2, .cluster_bits = 9, .refcount_order = 4 }, 5);
  make_random ("v3", (struct image_spec) {
      .version = 3, .cluster_bits = 9, .refcount_order = 4 }, 10);
  make_random ("v3-refcounts", (struct image_spec) {
      .version = 3, .cluster_bits = 9, .refcount_order = 0 }, 2);
  make_extended ();
  make_extensions ();
  make_inside ();
  return unit_finish ();
}
