/* SPDX-License-Identifier: BSD-3-Clause */
/* test-bitmap-dir.c - the bitmap directory: decoding it, and marking all
 * bitmaps as in use.
 */
#include "config.h"

#include "format/ext.h"
#include "meta/bitmaps.h"

#include "base/be.h"

#include "memory_disk.h"
#include "unit.h"

#define CLUSTER 65536

static const struct q2_geometry geo = {
  .version = 3, .virtual_size = 1 << 20, .cluster_bits = 16,
  .cluster_size = CLUSTER,
};

static size_t
put_entry (unsigned char *p, uint32_t flags, uint32_t extra_len,
           uint16_t name_len)
{
  const size_t len = (24 + extra_len + name_len + 7) / 8 * 8;

  memset (p, 0, len);
  memset (p + 24, 'e', extra_len);
  memset (p + 24 + extra_len, 'n', name_len);
  store_be64 (p, 7 * CLUSTER);
  store_be32 (p + 8, 3);
  store_be32 (p + 12, flags);
  p[16] = 1;
  p[17] = 16;
  store_be16 (p + 18, name_len);
  store_be32 (p + 20, extra_len);
  return len;
}

static void
test_fields (void)
{
  unsigned char p[2048];

  for (uint32_t extra = 0; extra < 20; extra += 5)
    for (uint16_t name = 1; name <= 1023; name += 146) {
      const size_t len = put_entry (p, 7, extra, name);
      struct q2_bitmap b;
      struct qcow2_error err;

      unit_context ("%u bytes extra, %u of name", extra, name);
      REQUIRE (q2_bitmap_decode (&geo, p, len, 64, &b, &err) == 0);
      CHECK_EQ (b.table_offset, 7 * CLUSTER);
      CHECK_EQ (b.table_entries, 3);
      CHECK_EQ (b.flags, 7);
      CHECK_EQ (b.granularity_bits, 16);
      CHECK_EQ (b.extra_len, extra);
      CHECK (b.extra == p + 24);
      CHECK_EQ (b.name_len, name);
      CHECK (b.name == (char *) p + 24 + extra);
      CHECK_EQ (b.entry_len, len);
      for (size_t n = 0; n < len; ++n) {
        CHECK (q2_bitmap_decode (&geo, p, n, 64, &b, &err) == -1);
        CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, 64);
      }
    }
}

/* One field changed, and whether the entry is good with it. */
static void
test_limits (void)
{
  static const struct {
    unsigned off, len;
    uint64_t v;
    bool good;
  } cases[] = {
    { 0, 8, 0, false }, { 0, 8, CLUSTER + 512, false },
    { 0, 8, CLUSTER, true }, { 0, 8, UINT64_C (0xffffffffffff0000), false },
    { 8, 4, 0, false }, { 8, 4, 8192, true }, { 8, 4, 8193, false },
    { 8, 4, UINT32_MAX, false },
    { 12, 4, 0, true }, { 12, 4, 7, true }, { 12, 4, 8, false },
    { 12, 4, 0x80000000, false },
    { 16, 1, 0, false }, { 16, 1, 2, false },
    { 17, 1, 8, false }, { 17, 1, 9, true }, { 17, 1, 31, true },
    { 17, 1, 32, false }, { 17, 1, 255, false },
    { 18, 2, 0, false }, { 18, 2, 1023, true }, { 18, 2, 1024, false },
    { 20, 4, 1000, true }, { 20, 4, UINT32_MAX, false },
  };
  unsigned char p[4096];

  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; ++i) {
    struct q2_bitmap b;
    struct qcow2_error err;

    unit_context ("case %zu", i);
    memset (p, 0, sizeof p);
    put_entry (p, 0, 0, 10);
    for (unsigned j = 0; j < cases[i].len; ++j)
      p[cases[i].off + j] =
        (unsigned char) (cases[i].v >> 8 * (cases[i].len - 1 - j));
    if (cases[i].good)
      CHECK (q2_bitmap_decode (&geo, p, sizeof p, 0, &b, &err) == 0);
    else {
      CHECK (q2_bitmap_decode (&geo, p, sizeof p, 0, &b, &err) == -1);
      CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, 0);
    }
  }
}

static void
test_noise (void)
{
  struct rng rng = { 5 };
  unsigned char p[64];

  for (unsigned i = 0; i < unit_scaled (100000); ++i) {
    const size_t len = rng_below (&rng, sizeof p + 1);
    unsigned char *const copy = malloc (len ? len : 1);
    struct q2_bitmap b;
    struct qcow2_error err;

    REQUIRE (copy != NULL);
    unit_context ("noise %u", i);
    put_entry (p, 0, 0, 8);
    for (unsigned n = 0; n < 3; ++n)
      p[rng_below (&rng, sizeof p)] ^= (unsigned char) rng_next (&rng);
    memcpy (copy, p, len);
    if (q2_bitmap_decode (&geo, copy, len, 0, &b, &err) == 0)
      CHECK (b.entry_len <= len &&
             (const unsigned char *) b.name + b.name_len <= copy + len);
    else
      CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, 0);
    free (copy);
  }
}

/* ---- The extension ----------------------------------------------------- */

static void
test_extension (void)
{
  unsigned char p[CLUSTER] = { 0 };
  struct q2_header h = { .version = 3, .cluster_bits = 16,
                         .header_length = 104,
                         .autoclear = Q2_AUTOCLEAR_BITMAPS };
  struct q2_features features;
  struct qcow2_error err;

  unit_context ("%s", "extension");
  store_be32 (p + 104, 0x23852875);
  store_be32 (p + 108, 24);
  store_be32 (p + 112, 5);
  store_be64 (p + 120, 160);
  store_be64 (p + 128, 3 * CLUSTER);
  REQUIRE (q2_ext_decode (p, sizeof p, &h, &features, &err) == 0);
  CHECK_EQ (h.nr_bitmaps, 5);
  CHECK_EQ (h.bitmap_dir_bytes, 160);
  CHECK_EQ (h.bitmap_dir_offset, 3 * CLUSTER);

  h = (struct q2_header) { .version = 3, .cluster_bits = 16,
                           .header_length = 104, .crypt = Q2_CRYPT_LUKS };
  store_be32 (p + 104, 0x0537be77);
  store_be32 (p + 108, 16);
  store_be64 (p + 112, 4 * CLUSTER);
  store_be64 (p + 120, 1234567);
  REQUIRE (q2_ext_decode (p, sizeof p, &h, &features, &err) == 0);
  CHECK_EQ (h.luks_offset, 4 * CLUSTER);
  CHECK_EQ (h.luks_bytes, 1234567);
}

static bool
is_kept (const void *opaque, const struct q2_bitmap *b)
{
  (void) opaque;
  (void) b;
  return false;
}

static int
mark (struct memory_disk *d, const struct q2_header *h,
      struct qcow2_error *err)
{
  struct q2_overlap *const o = q2_overlap_new (geo.cluster_bits, NULL, err);
  int r;

  REQUIRE (o != NULL);
  r = q2_bitmaps_mark_in_use (&d->io, h, &geo, o, is_kept, "", err);
  q2_overlap_free (o);
  return r;
}

/* ---- Marking ----------------------------------------------------------- */

#define NR 40

static size_t
put_directory (unsigned char *dir)
{
  size_t len = 0;

  for (unsigned i = 0; i < NR; ++i)
    len += put_entry (dir + len, i % 8, i % 3 * 11, (uint16_t) (1 + i * 25));
  return len;
}

static void
test_marking (void)
{
  unsigned char *const file = calloc (1, 4 * CLUSTER);
  unsigned char *const want = malloc (4 * CLUSTER);
  unsigned char *const dir = file + CLUSTER;
  const size_t len = put_directory (dir);
  struct q2_header h = {
    .autoclear = Q2_AUTOCLEAR_BITMAPS, .nr_bitmaps = NR,
    .bitmap_dir_offset = CLUSTER, .bitmap_dir_bytes = len,
  };
  struct memory_disk d;
  struct qcow2_error err;

  REQUIRE (want != NULL);
  unit_context ("%s", "marking");
  memcpy (want, file, 4 * CLUSTER);
  for (size_t pos = 0, i = 0; i < NR; ++i) {
    if (i & 2)                  /* it is enabled */
      want[CLUSTER + pos + 15] |= 1;
    pos += (24 + i % 3 * 11 + 1 + i * 25 + 7) / 8 * 8;
  }
  memory_disk_init (&d, file, CLUSTER + len);
  CHECK (mark (&d, &h, &err) == 0);
  CHECK_EQ (d.writes, NR / 4);  /* half of them had it */
  CHECK_BYTES (d.bytes, want, CLUSTER + len);
  for (size_t i = 0; i < d.nr_pending; ++i)
    CHECK_EQ (d.pending[i].len, 4);
  CHECK (mark (&d, &h, &err) == 0);
  CHECK_EQ (d.writes, NR / 4);  /* all have it now */
  CHECK_EQ (d.flushes, 0);
  memory_disk_free (&d);

  /* Nothing to do: not even a read. */
  memory_disk_init (&d, file, CLUSTER + len);
  h.autoclear = 0;
  CHECK (mark (&d, &h, &err) == 0);
  h.autoclear = Q2_AUTOCLEAR_BITMAPS;
  h.nr_bitmaps = 0;
  CHECK (mark (&d, &h, &err) == 0);
  CHECK_EQ (d.reads + d.writes, 0);
  memory_disk_free (&d);
  free (want);
  free (file);
}

/* A directory that is broken at the end: nothing is written. */
static void
test_broken (void)
{
  unsigned char *const file = calloc (1, 4 * CLUSTER);
  const size_t len = put_directory (file + CLUSTER);
  struct memory_disk d;
  struct qcow2_error err;

  for (unsigned how = 0; how < 5; ++how) {
    struct q2_header h = {
      .autoclear = Q2_AUTOCLEAR_BITMAPS, .nr_bitmaps = NR,
      .bitmap_dir_offset = CLUSTER, .bitmap_dir_bytes = len,
    };
    uint64_t size = CLUSTER + len;

    unit_context ("broken %u", how);
    switch (how) {
    case 0: h.bitmap_dir_bytes -= 8; break;
    case 1: h.bitmap_dir_bytes += 8; size += 8; break;
    case 2: h.nr_bitmaps++; break;
    case 3: size -= 8; break;
    case 4: h.bitmap_dir_offset = UINT64_C (1) << 62; break;
    }
    memory_disk_init (&d, file, size);
    CHECK (mark (&d, &h, &err) == -1);
    CHECK (err.kind == QCOW2_ERR_CORRUPT && err.offset >= CLUSTER);
    CHECK_EQ (d.writes, 0);
    memory_disk_free (&d);
  }
  free (file);
}

int
main (void)
{
  test_fields ();
  test_limits ();
  test_noise ();
  test_extension ();
  test_marking ();
  test_broken ();
  return unit_finish ();
}
