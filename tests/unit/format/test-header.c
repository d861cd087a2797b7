/* SPDX-License-Identifier: BSD-3-Clause */
/* test-header.c - each header field at each of its boundaries.
 *
 * Starts from a valid header, changes a field or a few, and expects success
 * or an error of a kind at an offset; the wording of errors is free.
 */
#include "config.h"

#include "format/header.h"

#include "unit.h"

#define CLUSTER 4096            /* of the base headers */
#define OK (-1)
#define CORRUPT QCOW2_ERR_CORRUPT
#define UNSUPPORTED QCOW2_ERR_UNSUPPORTED
#define FORMAT QCOW2_ERR_FORMAT

static unsigned char area[CLUSTER];

static void
put (unsigned off, unsigned len, uint64_t v)
{
  put_be (area + off, len, v);
}

static void
base_header (unsigned version)
{
  memset (area, 0, sizeof area);
  put (0, 4, 0x514649fb);
  put (4, 4, version);
  put (24, 8, 1 << 20);
  if (version == 1) {
    put (32, 1, 12);
    put (33, 1, 9);
    put (40, 8, 48);
    return;
  }
  put (20, 4, 12);
  put (36, 4, 1);
  put (40, 8, 0x3000);
  put (48, 8, 0x1000);
  put (56, 4, 1);
  if (version == 3) {
    put (96, 4, 4);
    put (100, 4, 112);
  }
}

static int
decode (struct q2_header *h, struct qcow2_error *err)
{
  struct q2_geometry geo;
  /* Of exactly the size promised, so that a sanitizer sees what is beyond */
  const size_t len = q2_header_area (area, sizeof area);
  unsigned char *const bytes = malloc (len);
  int r;

  REQUIRE (bytes && len <= sizeof area);
  memcpy (bytes, area, len);
  memset (h, 0x5a, sizeof *h);
  r = q2_header_decode (bytes, len, h, &geo, err);
  free (bytes);
  return r;
}

/* ---- Fields ----------------------------------------------------------- */

struct field {
  unsigned off, len;
  uint64_t value;
};

struct expectation {
  struct field set[3];          /* len 0: unused */
  int kind;                     /* OK, or of the error */
  uint64_t off;                 /* of the error */
};

static void
try_one (unsigned version, const struct expectation *e, size_t nr)
{
  struct q2_header h;
  struct qcow2_error err;
  int r;

  base_header (version);
  for (unsigned i = 0; i < 3; ++i)
    put (e->set[i].off, e->set[i].len, e->set[i].value);
  unit_context ("v%u, case %zu: %u bytes at %u = 0x%" PRIx64, version, nr,
                e->set[0].len, e->set[0].off, e->set[0].value);
  r = decode (&h, &err);
  if (e->kind == OK) {
    if (r != 0)
      unit_check (false, __FILE__, __LINE__, "%s", err.text);
  }
  else if (CHECK_EQ (r, -1))
    CHECK_ERROR (&err, (enum qcow2_error_kind) e->kind, e->off);
}

static const struct expectation of_v2_and_v3[] = {
  { { { 0, 0, 0 } }, OK, 0 },
  { { { 0, 1, 'q' } }, FORMAT, 0 },
  { { { 1, 1, 'f' } }, FORMAT, 0 },
  { { { 2, 1, 'i' } }, FORMAT, 0 },
  { { { 3, 1, 0xfa } }, FORMAT, 0 },
  { { { 4, 4, 0 } }, UNSUPPORTED, 4 },
  { { { 4, 4, 4 } }, UNSUPPORTED, 4 },
  { { { 4, 4, 0x02000000 } }, UNSUPPORTED, 4 },
  { { { 4, 4, UINT32_MAX } }, UNSUPPORTED, 4 },
  /* Backing file name: in the first cluster, at most 1023 bytes. */
  { { { 8, 8, CLUSTER } }, OK, 0 },
  { { { 8, 8, CLUSTER + 1 } }, CORRUPT, 8 },
  { { { 8, 8, UINT64_MAX } }, CORRUPT, 8 },
  { { { 8, 8, 1000 }, { 16, 4, 1023 } }, OK, 0 },
  { { { 8, 8, 1000 }, { 16, 4, 1024 } }, CORRUPT, 16 },
  { { { 8, 8, 1000 }, { 16, 4, UINT32_MAX } }, CORRUPT, 16 },
  { { { 8, 8, CLUSTER - 10 }, { 16, 4, 10 } }, OK, 0 },
  { { { 8, 8, CLUSTER - 10 }, { 16, 4, 11 } }, CORRUPT, 16 },
  { { { 8, 8, CLUSTER }, { 16, 4, 1 } }, CORRUPT, 16 },
  { { { 8, 8, 0 }, { 16, 4, UINT32_MAX } }, OK, 0 },
  /* Cluster size. */
  { { { 20, 4, 0 } }, UNSUPPORTED, 20 },
  { { { 20, 4, 8 } }, UNSUPPORTED, 20 },
  { { { 20, 4, 22 } }, UNSUPPORTED, 20 },
  { { { 20, 4, 12 + 256 } }, UNSUPPORTED, 20 },
  { { { 20, 4, UINT32_MAX } }, UNSUPPORTED, 20 },
  /* Disk size; one L1 entry covers 2 MiB. */
  { { { 24, 8, 0 } }, OK, 0 },
  { { { 24, 8, 1 } }, OK, 0 },
  { { { 24, 8, 2 << 20 } }, OK, 0 },
  { { { 24, 8, (2 << 20) + 1 } }, CORRUPT, 36 },
  { { { 24, 8, UINT64_C (1) << 43 }, { 36, 4, 1 << 22 } }, OK, 0 },
  { { { 24, 8, (UINT64_C (1) << 43) + 1 } }, UNSUPPORTED, 24 },
  { { { 24, 8, INT64_MAX } }, UNSUPPORTED, 24 },
  { { { 24, 8, UINT64_C (1) << 63 } }, CORRUPT, 24 },
  { { { 24, 8, UINT64_MAX } }, CORRUPT, 24 },
  /* Encryption is decoded here, and refused elsewhere. */
  { { { 32, 4, 1 } }, OK, 0 },
  { { { 32, 4, 2 } }, OK, 0 },
  { { { 32, 4, 3 } }, CORRUPT, 32 },
  { { { 32, 4, UINT32_MAX } }, CORRUPT, 32 },
  /* L1 table. */
  { { { 36, 4, 0 } }, CORRUPT, 36 },
  { { { 36, 4, 0 }, { 24, 8, 0 } }, OK, 0 },
  { { { 36, 4, 2 } }, OK, 0 },
  { { { 36, 4, 1 << 22 } }, OK, 0 },
  { { { 36, 4, (1 << 22) + 1 } }, CORRUPT, 36 },
  { { { 36, 4, UINT32_MAX } }, CORRUPT, 36 },
  { { { 40, 8, 0x3200 } }, CORRUPT, 40 },
  { { { 40, 8, 0x3001 } }, CORRUPT, 40 },
  { { { 40, 8, INT64_MAX - 4095 } }, OK, 0 },
  { { { 40, 8, INT64_MAX - 4095 }, { 36, 4, 512 } }, CORRUPT, 40 },
  { { { 40, 8, INT64_MAX - 8191 }, { 36, 4, 512 } }, OK, 0 },
  { { { 40, 8, UINT64_C (1) << 63 } }, CORRUPT, 40 },
  { { { 40, 8, UINT64_MAX - 4095 } }, CORRUPT, 40 },
  /* Refcount table: at most 8 MiB. */
  { { { 48, 8, 0x1800 } }, CORRUPT, 48 },
  { { { 48, 8, UINT64_C (1) << 63 } }, CORRUPT, 48 },
  { { { 48, 8, INT64_MAX - 8191 } }, OK, 0 },
  { { { 48, 8, INT64_MAX - 4095 } }, CORRUPT, 48 },
  { { { 56, 4, 0 } }, CORRUPT, 56 },
  { { { 56, 4, 2048 } }, OK, 0 },
  { { { 56, 4, 2049 } }, CORRUPT, 56 },
  { { { 56, 4, UINT32_MAX } }, CORRUPT, 56 },
  /* Snapshots; the offset counts even when there are none. */
  { { { 60, 4, 65536 } }, OK, 0 },
  { { { 60, 4, 65537 } }, CORRUPT, 60 },
  { { { 60, 4, UINT32_MAX } }, CORRUPT, 60 },
  { { { 64, 8, 0x5000 }, { 60, 4, 3 } }, OK, 0 },
  { { { 64, 8, 0x5008 } }, CORRUPT, 64 },
  { { { 64, 8, INT64_MAX - 4095 } }, OK, 0 },
  { { { 64, 8, INT64_MAX - 4095 }, { 60, 4, 103 } }, CORRUPT, 64 },
  { { { 64, 8, UINT64_C (1) << 63 } }, CORRUPT, 64 },
};

static const struct expectation of_v3[] = {
  { { { 72, 8, 1 } }, OK, 0 },                  /* dirty */
  { { { 72, 8, 2 } }, OK, 0 },                  /* corrupt */
  { { { 72, 8, 4 } }, OK, 0 },                  /* data file */
  { { { 72, 8, 8 } }, CORRUPT, 72 },            /* but type zlib */
  { { { 72, 8, 8 }, { 104, 1, 1 } }, OK, 0 },
  { { { 72, 8, 8 }, { 104, 1, 2 } }, UNSUPPORTED, 104 },
  { { { 72, 8, 16 } }, CORRUPT, 20 },           /* clusters too small */
  { { { 80, 8, UINT64_MAX } }, OK, 0 },         /* compatible: ignored */
  { { { 88, 8, ~UINT64_C (2) } }, OK, 0 },      /* autoclear: ignored */
  { { { 88, 8, 2 } }, CORRUPT, 88 },            /* raw, without data file */
  { { { 88, 8, 2 }, { 72, 8, 4 } }, OK, 0 },
  { { { 96, 4, 0 } }, OK, 0 },
  { { { 96, 4, 6 } }, OK, 0 },
  { { { 96, 4, 7 } }, CORRUPT, 96 },
  { { { 96, 4, UINT32_MAX } }, CORRUPT, 96 },
  { { { 100, 4, 0 } }, CORRUPT, 100 },
  { { { 100, 4, 72 } }, CORRUPT, 100 },
  { { { 100, 4, 103 } }, CORRUPT, 100 },
  { { { 100, 4, 104 } }, OK, 0 },
  { { { 100, 4, 105 } }, OK, 0 },               /* QEMU takes it too */
  { { { 100, 4, CLUSTER } }, OK, 0 },
  { { { 100, 4, CLUSTER + 1 } }, CORRUPT, 100 },
  { { { 100, 4, UINT32_MAX } }, CORRUPT, 100 },
  { { { 104, 1, 1 } }, CORRUPT, 72 },           /* zstd without its bit */
  { { { 104, 1, 2 } }, UNSUPPORTED, 104 },
  { { { 104, 1, 255 } }, UNSUPPORTED, 104 },
  { { { 105, 7, 0xffffffffffffff } }, OK, 0 },  /* padding */
  /* A header that ends before the compression type has none. */
  { { { 100, 4, 104 }, { 72, 8, 8 }, { 104, 1, 1 } }, CORRUPT, 72 },
};

static const struct expectation of_v1[] = {
  { { { 0, 0, 0 } }, OK, 0 },
  { { { 3, 1, 0 } }, FORMAT, 0 },
  { { { 8, 8, UINT64_MAX }, { 16, 4, 1023 } }, OK, 0 },
  { { { 8, 8, 100 }, { 16, 4, 1024 } }, CORRUPT, 16 },
  { { { 8, 8, 0 }, { 16, 4, UINT32_MAX } }, OK, 0 },
  { { { 20, 4, UINT32_MAX } }, OK, 0 },         /* mtime */
  { { { 24, 8, 0 } }, CORRUPT, 24 },
  { { { 24, 8, 1 } }, CORRUPT, 24 },
  { { { 24, 8, 2 } }, OK, 0 },
  { { { 24, 8, UINT64_C (1) << 43 } }, OK, 0 },
  { { { 24, 8, (UINT64_C (1) << 43) + 1 } }, UNSUPPORTED, 24 },
  { { { 24, 8, INT64_MAX } }, UNSUPPORTED, 24 },
  { { { 24, 8, UINT64_C (1) << 63 } }, CORRUPT, 24 },
  { { { 32, 1, 8 } }, UNSUPPORTED, 32 },
  { { { 32, 1, 9 } }, OK, 0 },
  { { { 32, 1, 16 } }, OK, 0 },
  { { { 32, 1, 17 } }, UNSUPPORTED, 32 },
  { { { 32, 1, 0 } }, UNSUPPORTED, 32 },
  { { { 33, 1, 0 } }, CORRUPT, 33 },
  { { { 33, 1, 5 } }, CORRUPT, 33 },
  { { { 33, 1, 6 } }, OK, 0 },
  { { { 33, 1, 13 } }, OK, 0 },
  { { { 33, 1, 14 } }, CORRUPT, 33 },
  { { { 33, 1, 63 } }, CORRUPT, 33 },
  { { { 36, 4, 1 } }, OK, 0 },
  { { { 36, 4, 2 } }, CORRUPT, 36 },
  { { { 36, 4, UINT32_MAX } }, CORRUPT, 36 },
  { { { 40, 8, 12345 } }, OK, 0 },              /* no rule for it */
};

static void
test_fields (void)
{
  for (size_t i = 0; i < sizeof of_v2_and_v3 / sizeof of_v2_and_v3[0]; ++i) {
    try_one (2, &of_v2_and_v3[i], i);
    try_one (3, &of_v2_and_v3[i], i);
  }
  for (size_t i = 0; i < sizeof of_v3 / sizeof of_v3[0]; ++i)
    try_one (3, &of_v3[i], i);
  for (size_t i = 0; i < sizeof of_v1 / sizeof of_v1[0]; ++i)
    try_one (1, &of_v1[i], i);
  for (unsigned bit = 5; bit < 64; ++bit) {
    const struct expectation e =
      { { { 72, 8, UINT64_C (1) << bit } }, UNSUPPORTED, 72 };

    try_one (3, &e, bit);
  }
  /* Version 2 has none of the fields of version 3. */
  for (size_t i = 0; i < sizeof of_v3 / sizeof of_v3[0]; ++i) {
    struct expectation e = of_v3[i];

    if (e.set[0].off >= 80) {
      e.kind = OK;
      if (e.set[1].len == 0)
        try_one (2, &e, i);
    }
  }
  unit_context ("%s", "");
}

/* The values, not only success. */
static void
test_values (void)
{
  struct q2_header h;
  struct qcow2_error err;

  base_header (3);
  put (8, 8, 600);
  put (16, 4, 99);
  put (32, 4, 2);
  put (36, 4, 77);
  put (60, 4, 5);
  put (64, 8, 0x7000);
  put (72, 8, 3);
  put (80, 8, 1);
  put (88, 8, UINT64_C (1) << 40);
  put (96, 4, 5);
  REQUIRE (decode (&h, &err) == 0);
  CHECK_EQ (h.version, 3);
  CHECK_EQ (h.cluster_bits, 12);
  CHECK_EQ (h.virtual_size, 1 << 20);
  CHECK_EQ (h.l1_offset, 0x3000);
  CHECK_EQ (h.l1_entries, 77);
  CHECK_EQ (h.refcount_table_offset, 0x1000);
  CHECK_EQ (h.refcount_table_clusters, 1);
  CHECK_EQ (h.refcount_order, 5);
  CHECK_EQ (h.nr_snapshots, 5);
  CHECK_EQ (h.snapshots_offset, 0x7000);
  CHECK_EQ (h.incompatible, 3);
  CHECK_EQ (h.compatible, 1);
  CHECK_EQ (h.autoclear, UINT64_C (1) << 40);
  CHECK_EQ (h.header_length, 112);
  CHECK_EQ (h.crypt, Q2_CRYPT_LUKS);
  CHECK_EQ (h.compression, QCOW2_COMPRESSION_ZLIB);
  CHECK_EQ (h.backing_file.offset, 600);
  CHECK_EQ (h.backing_file.len, 99);

  base_header (2);
  REQUIRE (decode (&h, &err) == 0);
  CHECK_EQ (h.refcount_order, 4);
  CHECK_EQ (h.header_length, 72);
  CHECK_EQ (h.incompatible | h.compatible | h.autoclear, 0);

  base_header (1);
  put (24, 8, (3 << 21) + 1);
  REQUIRE (decode (&h, &err) == 0);
  CHECK_EQ (h.l1_entries, 4);
  CHECK_EQ (h.l1_offset, 48);
  CHECK_EQ (h.l2_bits, 9);
  CHECK_EQ (h.nr_snapshots, 0);
}

static void
test_area (void)
{
  for (unsigned version = 0; version <= 4; ++version)
    for (unsigned bits = 0; bits <= 40; ++bits) {
      base_header (3);
      put (4, 4, version);
      put (20, 4, bits);
      CHECK_EQ (q2_header_area (area, sizeof area),
                version >= 2 && bits >= 9 && bits <= 12
                ? (size_t) 1 << bits : 512);
    }
  /* Clusters larger than what was read: as far as the extensions go. */
  base_header (3);
  put (20, 4, 16);
  put (112, 4, 0x12345678);     /* an extension nobody knows ... */
  put (116, 4, 1000);
  CHECK_EQ (q2_header_area (area, sizeof area), 112 + 8 + 1000 + 8);
  put (116, 4, 5000);           /* ... whose end is not in sight */
  CHECK_EQ (q2_header_area (area, sizeof area), 65536);
  put (116, 4, 1000);
  put (8, 8, 3000);             /* the backing file name */
  put (16, 4, 700);
  CHECK_EQ (q2_header_area (area, sizeof area), 3700);
  put (8, 8, 70000);
  CHECK_EQ (q2_header_area (area, sizeof area), 65536);
  base_header (3);
  put (0, 1, 'X');
  CHECK_EQ (q2_header_area (area, sizeof area), 512);
}

/* ---- Extensions ------------------------------------------------------- */

#define EXT_BACKING_FORMAT 0xe2792aca
#define EXT_FEATURES 0x6803f857
#define EXT_BITMAPS 0x23852875
#define EXT_LUKS 0x0537be77
#define EXT_DATA_FILE 0x44415441

static unsigned ext_off;        /* where the next one goes */

static void
begin_extensions (unsigned version)
{
  base_header (version);
  ext_off = version == 3 ? 112 : 72;
}

/* Returns the offset of its data. */
static unsigned
add_extension (uint32_t type, uint32_t len)
{
  const unsigned data = ext_off + 8;

  put (ext_off, 4, type);
  put (ext_off + 4, 4, len);
  ext_off = data + (len + 7) / 8 * 8;
  return data;
}

static void
expect (int kind, uint64_t off, int line)
{
  struct q2_header h;
  struct qcow2_error err;
  int r;

  unit_context ("extension case of line %d", line);
  r = decode (&h, &err);
  CHECK_EQ (r, kind == OK ? 0 : -1);
  if (r == -1 && kind != OK)
    CHECK_ERROR (&err, (enum qcow2_error_kind) kind, off);
  unit_context ("%s", "");
}
#define EXPECT(kind, off) expect (kind, off, __LINE__)

static void
test_extension_area (void)
{
  struct q2_header h;
  struct qcow2_error err;
  unsigned data;

  for (unsigned version = 2; version <= 3; ++version) {
    /* Unknown ones are skipped, whatever their length, up to the end. */
    begin_extensions (version);
    for (uint32_t len = 0; len < 20; ++len)
      add_extension (0x11223344, len);
    data = add_extension (EXT_DATA_FILE, 3);
    REQUIRE (decode (&h, &err) == 0);
    CHECK_EQ (h.data_file.offset, data);
    CHECK_EQ (h.data_file.len, 3);

    /* The end marker ends. */
    begin_extensions (version);
    add_extension (0, 0);
    add_extension (EXT_LUKS, UINT32_MAX - 64);
    EXPECT (OK, 0);

    /* Exactly up to the end of the cluster, and one byte more. */
    begin_extensions (version);
    put (ext_off, 4, 0x11223344);
    put (ext_off + 4, 4, CLUSTER - ext_off - 8);
    EXPECT (OK, 0);
    put (ext_off + 4, 4, CLUSTER - ext_off - 7);
    EXPECT (CORRUPT, ext_off);
    put (ext_off + 4, 4, UINT32_MAX);
    EXPECT (CORRUPT, ext_off);

    /* The backing file name ends the area, and needs no room before it. */
    begin_extensions (version);
    add_extension (0x11223344, 16);
    put (8, 8, ext_off);
    add_extension (EXT_LUKS, 5);
    EXPECT (OK, 0);
    begin_extensions (version);
    data = ext_off;
    add_extension (0x11223344, 16);
    put (8, 8, ext_off - 8);
    EXPECT (CORRUPT, data);
    put (8, 8, 1);
    EXPECT (OK, 0);

    /* Seven bytes are no extension. */
    for (unsigned left = 0; left < 8; ++left) {
      begin_extensions (version);
      put (ext_off, 4, 0x11223344);
      put (ext_off + 4, 4, CLUSTER - ext_off - 8 - left);
      memset (area + CLUSTER - left, 0xff, left);
      EXPECT (OK, 0);
    }
  }
}

static void
test_names (void)
{
  struct q2_header h;
  struct qcow2_error err;
  unsigned data;

  begin_extensions (3);
  data = add_extension (EXT_BACKING_FORMAT, 15);
  REQUIRE (decode (&h, &err) == 0);
  CHECK_EQ (h.backing_format.offset, data);
  CHECK_EQ (h.backing_format.len, 15);

  begin_extensions (3);
  data = add_extension (EXT_BACKING_FORMAT, 16);
  EXPECT (CORRUPT, data);

  /* Of two, the last one counts. */
  begin_extensions (3);
  add_extension (EXT_DATA_FILE, 3);
  data = add_extension (EXT_DATA_FILE, 900);
  REQUIRE (decode (&h, &err) == 0);
  CHECK_EQ (h.data_file.offset, data);
  CHECK_EQ (h.data_file.len, 900);
}

static unsigned
bitmaps_extension (uint64_t autoclear)
{
  unsigned data;

  begin_extensions (3);
  put (88, 8, autoclear);
  data = add_extension (EXT_BITMAPS, 24);
  put (data, 4, 3);
  put (data + 8, 8, 1000);
  put (data + 16, 8, 0x8000);
  return data;
}

static void
test_bitmaps (void)
{
  struct q2_header h;
  struct qcow2_error err;
  unsigned data;

  bitmaps_extension (1);
  REQUIRE (decode (&h, &err) == 0);
  CHECK_EQ (h.nr_bitmaps, 3);
  CHECK (!h.stale_bitmaps);

  /* Without the autoclear bit it says nothing. */
  data = bitmaps_extension (0);
  memset (area + data, 0xff, 24);
  REQUIRE (decode (&h, &err) == 0);
  CHECK_EQ (h.nr_bitmaps, 0);
  CHECK (h.stale_bitmaps);

  for (uint32_t len = 0; len <= 48; ++len) {
    data = bitmaps_extension (1);
    put (data - 4, 4, len);
    if (len != 24)
      EXPECT (CORRUPT, data);
  }
  data = bitmaps_extension (1);
  put (data, 4, 0);
  EXPECT (CORRUPT, data);
  put (data, 4, 65535);
  EXPECT (OK, 0);
  put (data, 4, 65536);
  EXPECT (CORRUPT, data);

  data = bitmaps_extension (1);
  put (data + 4, 4, 1);
  EXPECT (CORRUPT, data + 4);

  data = bitmaps_extension (1);
  put (data + 8, 8, 65535 * 1024);
  EXPECT (OK, 0);
  put (data + 8, 8, 65535 * 1024 + 1);
  EXPECT (CORRUPT, data + 8);
  put (data + 8, 8, UINT64_MAX);
  EXPECT (CORRUPT, data + 8);

  data = bitmaps_extension (1);
  put (data + 16, 8, 0x8200);
  EXPECT (CORRUPT, data + 16);
}

static void
test_luks (void)
{
  unsigned data;

  begin_extensions (3);
  data = add_extension (EXT_LUKS, 16);
  EXPECT (CORRUPT, data);       /* encryption method none */
  put (32, 4, 1);
  EXPECT (CORRUPT, data);
  put (32, 4, 2);
  EXPECT (OK, 0);
  put (data, 8, 0x9000);
  EXPECT (OK, 0);
  put (data, 8, 0x9008);
  EXPECT (CORRUPT, data);
  put (data, 8, 0x9000);
  put (data + 8, 8, 16 << 20);
  EXPECT (OK, 0);
  put (data + 8, 8, (16 << 20) + 1);
  EXPECT (CORRUPT, data);
  put (data + 8, 8, UINT64_MAX - 0x8fff);
  EXPECT (CORRUPT, data);
  put (data, 8, INT64_MAX & ~UINT64_C (0xffff));
  put (data + 8, 8, 0x10000);
  EXPECT (CORRUPT, data);
  put (data + 8, 8, 0);
  put (data, 8, 0);
  put (data - 4, 4, 15);
  EXPECT (CORRUPT, data);
  put (data - 4, 4, 17);
  EXPECT (CORRUPT, data);
}

/* ---- Feature names ----------------------------------------------------- */

static void
feature (unsigned data, unsigned nr, unsigned type, unsigned bit,
         const char *name)
{
  area[data + 48 * nr] = (unsigned char) type;
  area[data + 48 * nr + 1] = (unsigned char) bit;
  memcpy (area + data + 48 * nr + 2, name,
          strlen (name) < 46 ? strlen (name) : 46);
}

static void
test_feature_names (void)
{
  struct q2_header h;
  struct qcow2_error err;
  unsigned data;
  char all[60];

  memset (all, 'N', sizeof all);
  begin_extensions (3);
  put (72, 8, UINT64_C (1) << 5 | UINT64_C (1) << 6 | UINT64_C (1) << 63);
  data = add_extension (EXT_FEATURES, 48 * 4 + 47);
  feature (data, 0, 1, 5, "compatible one");   /* another type of feature */
  feature (data, 1, 0, 5, "se\nven'leagues");
  feature (data, 2, 0, 7, "not set");
  all[59] = '\0';
  feature (data, 3, 0, 63, all);               /* fills its field */
  feature (data, 4, 0, 6, "half an entry");
  REQUIRE (decode (&h, &err) == -1);
  CHECK_ERROR (&err, UNSUPPORTED, 72);
  CHECK (strstr (err.text, "se\\x0aven\\x27leagues") != NULL);
  CHECK (strstr (err.text, "compatible one") == NULL);
  CHECK (strstr (err.text, "not set") == NULL);
  CHECK (strstr (err.text, "half") == NULL);
  CHECK (strstr (err.text, "bit 6") != NULL);
  all[46] = '\0';
  CHECK (strstr (err.text, all) != NULL);
  all[46] = 'N';
  all[47] = '\0';
  CHECK (strstr (err.text, all) == NULL);

  /* All unknown at once: more than fits. */
  put (72, 8, ~UINT64_C (0x1f));
  REQUIRE (decode (&h, &err) == -1);
  CHECK_ERROR (&err, UNSUPPORTED, 72);
}

/* ---- Random bytes ------------------------------------------------------ */

static void
check_random (void)
{
  const size_t len = q2_header_area (area, sizeof area);
  unsigned char *const bytes = calloc (1, len);
  struct q2_geometry geo;
  struct q2_header h;
  struct qcow2_error err;

  REQUIRE (bytes != NULL);
  memcpy (bytes, area, len < sizeof area ? len : sizeof area);
  if (q2_header_decode (bytes, len, &h, &geo, &err) == 0) {
    CHECK (h.l1_entries >= geo.l1_needed);
    CHECK (h.l1_entries <= (32 << 20) / 8);
    CHECK (geo.virtual_size <= INT64_MAX);
    CHECK (geo.l2_table_size <= 2 << 20);
  }
  else
    CHECK (err.kind == FORMAT || err.kind == UNSUPPORTED ||
           err.kind == CORRUPT);
  free (bytes);
}

static void
test_random (void)
{
  struct rng rng = { 2024 };

  for (unsigned n = unit_scaled (200000); n > 0; --n) {
    const unsigned version = 1 + n % 3;

    if (n % 4 == 0) {           /* anything behind magic and version */
      rng_fill (&rng, area, 512);
      put (0, 4, 0x514649fb);
      put (4, 4, version);
      if (version > 1)
        put (20, 4, 8 + rng_below (&rng, 5));
    }
    else {                      /* valid but for a few bytes */
      base_header (version);
      if (n % 8 == 1) {
        begin_extensions (version == 1 ? 3 : version);
        add_extension (EXT_BITMAPS, 24);
        add_extension (EXT_FEATURES, 96);
      }
      for (uint64_t i = 1 + rng_below (&rng, 6); i > 0; --i)
        area[rng_below (&rng, 300)] = (unsigned char) rng_next (&rng);
      if (version > 1 && area[23] > 12 && area[23] <= 21)
        area[23] = 12;          /* keep it quick */
    }
    unit_context ("random header %u", n);
    check_random ();
  }
  unit_context ("%s", "");
}

int
main (void)
{
  test_fields ();
  test_values ();
  test_area ();
  test_extension_area ();
  test_names ();
  test_bitmaps ();
  test_luks ();
  test_feature_names ();
  test_random ();
  return unit_finish ();
}
