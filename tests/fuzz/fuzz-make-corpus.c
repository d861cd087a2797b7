/* SPDX-License-Identifier: BSD-3-Clause */
/* fuzz-make-corpus.c - writes seed images for the fuzzer into a folder.
 *
 * Small clusters, so that most of a file is metadata.  The results are in
 * corpus/; this is how to make more.
 */
#include "config.h"

#include "exercise.h"
#include "image_inside.h"
#include "random_image.h"
#include "unit.h"

#include "codec/cipher.h"
#include "codec/pbkdf.h"
#include "format/cipher_spec.h"

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

/* A small image of version 3, with some clusters of each kind. */
static void
begin (struct image_builder *b, bool compressed)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 9, .refcount_order = 4,
    .virtual_size = 20 * 512,
  };
  unsigned char cluster[512];

  builder_init (b, &spec);
  for (unsigned i = 0; i < 6; ++i) {
    uint64_t host_off, csize;

    memset (cluster, 'a' + (int) i, sizeof cluster);
    if (i == 4 && compressed)
      builder_compressed (b, 3 * i, cluster, &host_off, &csize);
    else if (i == 5)
      builder_zero (b, 3 * i, true);
    else
      builder_data (b, 3 * i, cluster);
  }
}

static void
end (struct image_builder *b, const char *name, unsigned nr)
{
  write_image (b, name, nr);
  CHECK (exercise_image (b->bytes, b->size));
  builder_free (b);
}

/* Three snapshots, of which two have one name, and bitmaps. */
static void
make_views (void)
{
  static const unsigned char bits[64] = { 0xff, 0x00, 0xa5 };
  static const unsigned char ones[64] = { 0xff, 0xff, 0xff };
  const struct inside_snapshot snapshots[] = {
    { .id = "1", .id_len = 1, .name = "one", .name_len = 3,
      .disk_size = 20 * 512, .extra_len = 24 },
    { .id = "2", .id_len = 1, .name = "two", .name_len = 3,
      .disk_size = 12 * 512, .extra_len = 16, .more_l1 = 1 },
    { .id = "33", .id_len = 2, .name = "one", .name_len = 3,
      .disk_size = 30 * 512, .extra_len = 16 },
  };
  const struct inside_bitmap bitmaps[] = {
    { .name = "some", .granularity_bits = 9, .flags = 2, .bits = bits,
      .nr_bits = 20 },
    { .name = "all", .granularity_bits = 10, .bits = ones, .nr_bits = 10 },
    { .name = "in use", .granularity_bits = 16, .flags = 1, .nr_bits = 1 },
  };

  for (unsigned nr = 0; nr < 3; ++nr) {
    const unsigned char cluster[512] = { 1, 2, 3 };
    struct inside in = { .nr_snapshots = 0 };
    struct image_builder b;

    begin (&b, true);
    for (unsigned i = 0; i < 3 && nr != 1; ++i) {
      inside_snapshot (&in, &b, &snapshots[i]);
      builder_data (&b, 2 * i, cluster);
      builder_zero (&b, 6 + i, false);
    }
    for (unsigned i = 0; i < 3 && nr != 0; ++i)
      inside_bitmap (&in, &b, &bitmaps[i]);
    inside_finish (&in, &b);
    builder_finish (&b);
    end (&b, "views", nr);
  }
}

/* Their other files are the same bytes, for the fuzzer. */
static void
make_references (void)
{
  static const char *const formats[] = { "qcow2", "raw", "" };

  for (unsigned i = 0; i < 3; ++i) {
    struct image_builder b;

    begin (&b, true);
    if (formats[i][0])
      builder_extension (&b, 0xe2792aca, formats[i],
                         (uint32_t) strlen (formats[i]));
    builder_put (&b, 8, 8, 0x180);
    builder_put (&b, 16, 4, 10);
    memcpy (b.bytes + 0x180, "base.qcow2", 10);
    builder_finish (&b);
    end (&b, "backing", i);
  }
  for (unsigned i = 0; i < 2; ++i) {
    struct image_builder b;

    begin (&b, false);
    builder_extension (&b, 0x44415441, "disk.data", 9);
    builder_put (&b, 72, 8, 4);
    builder_put (&b, 88, 8, i ? 2 : 0);
    for (unsigned c = 0; c < 20; ++c)   /* where they are on the disk */
      if (i || c % 3 == 0)
        builder_set_entry (&b, c, UINT64_C (1) << 63 | c * 512, 0);
    builder_put (&b, 48, 8, b.l1_off); /* a refcount table, not read */
    builder_put (&b, 56, 4, 1);
    end (&b, "data-file", i);
  }
}

#define KEY_BYTES 16

/* One slot of one stripe, which is too few for QEMU but makes a small image,
 * and one iteration of everything: the passphrase is
 * "fuzz", so is that of images with AES.
 */
static void
write_luks (struct image_builder *b, uint64_t off)
{
  static const char key[KEY_BYTES] = "the key of these";
  struct q2_work unbounded = q2_work_begin (NULL, UINT64_MAX, "a key");
  unsigned char material[512] = { 0 }, slot_key[KEY_BYTES];
  unsigned char *const p = b->bytes + off;
  struct q2_cipher_spec spec;
  struct qcow2_error err;
  struct q2_cipher *cipher;

  memcpy (p, "LUKS\xba\xbe\0\1aes", 11);
  memcpy (p + 40, "cbc-plain64", 11);
  memcpy (p + 72, "sha1", 4);
  builder_put (b, off + 108, 4, KEY_BYTES);
  if (q2_pbkdf2 (Q2_HASH_SHA1, key, KEY_BYTES, p + 132, 32, 1, p + 112, 20,
                 &unbounded, &err) == -1)
    abort ();
  builder_put (b, off + 164, 4, 1);
  for (unsigned i = 0; i < 8; ++i)
    builder_put (b, off + 208 + 48 * i, 4, i == 1 ? 0x00ac71f3 : 0xdead);
  builder_put (b, off + 256 + 4, 4, 1);
  memset (p + 256 + 8, 's', 32);
  builder_put (b, off + 256 + 40, 4, 2);
  builder_put (b, off + 256 + 44, 4, 1);
  if (q2_pbkdf2 (Q2_HASH_SHA1, "fuzz", 4, p + 256 + 8, 32, 1, slot_key,
             KEY_BYTES, &unbounded, &err) == -1)
    abort ();
  REQUIRE (q2_cipher_spec_decode ("aes", "cbc-plain64", 0, &spec, &err) == 0);
  cipher = q2_cipher_new (&spec, slot_key, KEY_BYTES, &err);
  REQUIRE (cipher != NULL);
  memcpy (material, key, KEY_BYTES);
  q2_cipher_encrypt (cipher, p + 1024, material, sizeof material, 0);
  q2_cipher_free (cipher);
}

static void
make_encrypted (void)
{
  struct image_builder b;
  unsigned char ext[16] = { 0 };
  uint64_t off;

  begin (&b, false);
  builder_put (&b, 32, 4, 1);
  builder_finish (&b);
  end (&b, "aes", 0);

  begin (&b, false);
  builder_put (&b, 32, 4, 2);
  off = builder_alloc (&b, 3);
  ext[6] = (unsigned char) (off >> 8);
  ext[7] = (unsigned char) off;
  ext[14] = 1536 >> 8;
  builder_extension (&b, 0x0537be77, ext, sizeof ext);
  write_luks (&b, off);
  builder_finish (&b);
  end (&b, "luks", 0);
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
  make_views ();
  make_references ();
  make_encrypted ();
  return unit_finish ();
}
