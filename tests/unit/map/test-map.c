/* SPDX-License-Identifier: BSD-3-Clause */
/* test-map.c - runs against a naive model of 512 byte sectors.
 *
 * The model has the place of each sector.  Merged by the rules of map.h it
 * gives the only right list of runs for any range and any limit.
 */
#include "config.h"

#include "format/header.h"
#include "map/map.h"

#include "memory_io.h"
#include "random_image.h"
#include "unit.h"

#define SECTOR 512
#define MAX_EXPECTED 4096

static struct q2_run expected[MAX_EXPECTED + 1];

static enum q2_run_kind
run_kind (enum sector_kind kind)
{
  switch (kind) {
  case SECTOR_UNALLOCATED: return Q2_RUN_UNALLOCATED;
  case SECTOR_ZERO:        return Q2_RUN_ZERO;
  case SECTOR_DATA:        return Q2_RUN_DATA;
  case SECTOR_COMPRESSED:  return Q2_RUN_COMPRESSED;
  }
  abort ();
}

static bool
continues (const struct q2_run *last, const struct q2_run *next,
           uint64_t cluster_size)
{
  if (last->kind != next->kind)
    return false;
  if (last->kind == Q2_RUN_DATA)
    return last->host_off + last->len == next->host_off;
  if (last->kind == Q2_RUN_COMPRESSED) /* one cluster each */
    return last->guest_off / cluster_size == next->guest_off / cluster_size;
  return true;
}

/* The runs of [guest_off, guest_off+len), sector by sector; what lies
 * before the window is unallocated.
 */
static size_t
expect_runs (const struct random_image *image, uint64_t guest_off,
             uint64_t len)
{
  size_t nr = 0;

  while (len > 0) {
    struct q2_run piece = { .kind = Q2_RUN_UNALLOCATED,
                            .guest_off = guest_off };

    if (guest_off < image->base)
      piece.len = image->base - guest_off;
    else {
      const uint64_t at = guest_off - image->base;
      const struct sector *const s = &image->sectors[at / SECTOR];

      piece.kind = run_kind (s->kind);
      piece.len = SECTOR - at % SECTOR;
      piece.host_off =
        s->kind == SECTOR_DATA ? s->host_off + at % SECTOR : s->host_off;
      piece.csize = s->csize;
    }
    if (piece.len > len)
      piece.len = len;
    if (nr > 0 && continues (&expected[nr - 1], &piece,
                             image->b.cluster_size))
      expected[nr - 1].len += piece.len;
    else if (nr < MAX_EXPECTED)
      expected[nr++] = piece;
    else
      break;
    guest_off += piece.len;
    len -= piece.len;
  }
  return nr;
}

static void
try_range (const struct random_image *image, struct q2_tables *tables,
           struct memory_io *m, uint64_t guest_off, uint64_t len, size_t max)
{
  static struct q2_run runs[MAX_EXPECTED + 1];
  const struct q2_io io = { .host = &m->io, .file_size = m->io.size };
  const size_t nr_expected = expect_runs (image, guest_off, len);
  struct qcow2_error err;
  size_t nr = 0;

  memset (&runs[max], 0x5a, sizeof runs[0]);
  if (!CHECK_EQ (q2_map_runs (tables, &io, guest_off, len, runs, max, &nr,
                              &err), 0))
    return;
  CHECK_EQ (nr, nr_expected < max ? nr_expected : max);
  for (size_t i = 0; i < nr && i < nr_expected; ++i) {
    bool same = CHECK_EQ (runs[i].kind, expected[i].kind);

    same &= CHECK_EQ (runs[i].guest_off, expected[i].guest_off);
    same &= CHECK_EQ (runs[i].len, expected[i].len);
    if (runs[i].kind == Q2_RUN_DATA || runs[i].kind == Q2_RUN_COMPRESSED)
      same &= CHECK_EQ (runs[i].host_off, expected[i].host_off);
    if (runs[i].kind == Q2_RUN_COMPRESSED)
      same &= CHECK_EQ (runs[i].csize, expected[i].csize);
    if (!same) {
      fprintf (stderr, "run %zu of %zu of %" PRIu64 " bytes at 0x%" PRIx64
               "\n", i, nr, len, guest_off);
      return;
    }
  }
  CHECK_EQ (((unsigned char *) &runs[max])[0], 0x5a);
}

static struct q2_tables *
open_tables (const struct image_builder *b, struct memory_io *m,
             struct q2_geometry *geo, uint64_t cache_bytes)
{
  const struct q2_io io = { .host = &m->io, .file_size = m->io.size };
  struct qcow2_error err = { .text = "" };
  struct q2_header h;
  struct q2_tables *tables;

  if (q2_header_decode (b->bytes, b->size, &h, geo, &err) == -1) {
    fprintf (stderr, "%s\n", err.text);
    REQUIRE (!"decode");
  }
  tables = q2_tables_new (geo, &io, h.l1_offset, h.l1_entries, cache_bytes,
                          &err);
  REQUIRE (tables != NULL);
  return tables;
}

static void
try_image (struct rng *rng, const struct random_image *image)
{
  const uint64_t end = image->base + image->len;
  struct memory_io m;
  struct q2_geometry geo;
  struct q2_tables *tables;

  memory_io_init (&m, image->b.bytes, image->b.size);
  tables = open_tables (&image->b, &m, &geo, rng_below (rng, 2) << 20);
  try_range (image, tables, &m, image->base, image->len, MAX_EXPECTED);
  if (end < UINT64_C (1) << 45)
    try_range (image, tables, &m, 0, end, MAX_EXPECTED);
  for (unsigned i = 0; i < 40; ++i) {
    const uint64_t before = image->base < 5000 ? image->base : 5000;
    const uint64_t guest_off =
      image->base - before + rng_below (rng, image->len + before);
    const uint64_t len = 1 + rng_below (rng, end - guest_off);
    const size_t max = 1 + rng_below (rng, rng_below (rng, 2) ? 3 : 60);

    try_range (image, tables, &m, guest_off, len, max);
  }
  q2_tables_free (tables);
}

static void
test_random_images (void)
{
  for (unsigned seed = 1; seed <= unit_scaled (300); ++seed) {
    struct rng rng = { seed };
    const struct image_spec spec = random_spec (&rng);
    struct random_image image;

    random_image_init (&image, &rng, &spec, 256 << 10);
    unit_context ("seed %u: %s", seed, random_image_describe (&image));
    try_image (&rng, &image);
    random_image_free (&image);
  }
}

/* Every geometry, not only likely ones. */
static void
test_all_geometries (void)
{
  struct rng rng = { 1234 };

  for (unsigned version = 1; version <= 3; ++version)
    for (unsigned bits = 9; bits <= (version == 1 ? 16u : 21u); ++bits)
      for (unsigned variant = 0; variant < (version == 2 ? 1u : 8u);
           ++variant) {
        const struct image_spec spec = {
          .version = version, .cluster_bits = bits,
          .l2_bits = 6 + variant, .refcount_order = variant % 7,
          .extended_l2 = version == 3 && bits >= 14 && variant % 2,
        };
        struct random_image image;

        if (bits > 18 && variant > 1)
          continue;             /* takes long, shows nothing new */
        random_image_init (&image, &rng, &spec, 16 << 10);
        unit_context ("all: %s", random_image_describe (&image));
        try_image (&rng, &image);
        random_image_free (&image);
      }
}

/* ---- Contiguous clusters are one run, and one request ------------------ */

static void
test_contiguous (unsigned version, unsigned cluster_bits, bool extended)
{
  const uint64_t len = 2 << 20, nr = len >> cluster_bits;
  const struct image_spec spec = {
    .version = version, .cluster_bits = cluster_bits, .l2_bits = 9,
    .refcount_order = 4, .extended_l2 = extended, .virtual_size = 2 * len,
  };
  const struct qcow2_options options = { 0 };
  unsigned char *const disk = malloc (len), *const buf = malloc (len);
  struct rng rng = { 17 };
  struct image_builder b;
  struct memory_io m;
  struct q2_geometry geo;
  struct q2_tables *tables;
  struct q2_run runs[3];
  struct qcow2_error err;
  struct qcow2_image *image;
  size_t nr_runs;
  uint64_t host_off = 0;

  unit_context ("contiguous: v%u cluster 2^%u %s", version, cluster_bits,
                extended ? "extended" : "");
  REQUIRE (disk && buf);
  rng_fill (&rng, disk, len);
  builder_init (&b, &spec);
  for (uint64_t i = 0; i < nr; ++i) /* L2 tables first */
    builder_set_entry (&b, i, 0, 0);
  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t off = builder_data (&b, i, disk + (i << cluster_bits));

    if (i == 0)
      host_off = off;
    REQUIRE (off == host_off + (i << cluster_bits));
  }
  builder_finish (&b);

  memory_io_init (&m, b.bytes, b.size);
  tables = open_tables (&b, &m, &geo, 1 << 20);
  CHECK_EQ (q2_map_runs (tables, &(struct q2_io) {
                           .host = &m.io, .file_size = b.size }, 0,
                         len, runs, 3, &nr_runs, &err), 0);
  CHECK_EQ (nr_runs, 1);
  CHECK_EQ (runs[0].kind, Q2_RUN_DATA);
  CHECK_EQ (runs[0].len, len);
  CHECK_EQ (runs[0].host_off, host_off);
  q2_tables_free (tables);

  image = qcow2_open (&m.io, &options, &err);
  REQUIRE (image != NULL);
  memory_io_reset (&m);
  CHECK_EQ (qcow2_pread (image, &m.io, buf, (uint32_t) len, 0, &err), 0);
  CHECK_BYTES (buf, disk, len);
  CHECK_EQ (m.reads[QCOW2_IO_DATA], 1);
  /* The mapping now is in the cache: nothing but the data is read. */
  memory_io_reset (&m);
  CHECK_EQ (qcow2_pread (image, &m.io, buf, (uint32_t) len, 0, &err), 0);
  CHECK_EQ (memory_io_total_reads (&m), 1);
  qcow2_close (image);
  builder_free (&b);
  free (disk);
  free (buf);
}

/* ---- Broken entries ----------------------------------------------------- */

static void
test_invalid (void)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = 12, .refcount_order = 4,
    .virtual_size = 1 << 20,
  };
  static const unsigned char cluster[4096] = { 1 };
  struct image_builder b;
  struct memory_io m;
  struct q2_geometry geo;
  struct q2_tables *tables;
  struct q2_io io = { .host = &m.io, .file_size = 0 };
  struct q2_run runs[8];
  struct qcow2_error err;
  size_t nr;

  unit_context ("%s", "broken entries");
  builder_init (&b, &spec);
  builder_data (&b, 3, cluster);
  builder_set_entry (&b, 4, 0x1200, 0); /* unaligned */
  builder_data (&b, 5, cluster);
  builder_finish (&b);
  memory_io_init (&m, b.bytes, b.size);
  io.file_size = b.size;
  tables = open_tables (&b, &m, &geo, 1 << 20);

  /* What comes before it is mapped. */
  CHECK_EQ (q2_map_runs (tables, &io, 0, 1 << 20, runs, 8, &nr, &err), 0);
  CHECK_EQ (nr, 2);
  CHECK_EQ (runs[1].guest_off + runs[1].len, 4 * 4096);
  /* It fails by itself, with the place of the entry. */
  CHECK_EQ (q2_map_runs (tables, &io, 4 * 4096 + 1, 9, runs, 8, &nr, &err),
            -1);
  CHECK_ERROR (&err, QCOW2_ERR_CORRUPT, builder_entry_off (&b, 4));
  /* Its neighbours do not mind. */
  CHECK_EQ (q2_map_runs (tables, &io, 5 * 4096, 9, runs, 8, &nr, &err), 0);
  q2_tables_free (tables);

  /* An L1 entry that points between clusters, and one past the end. */
  b.bytes[b.l1_off + 6] |= 2;
  tables = open_tables (&b, &m, &geo, 1 << 20);
  CHECK_EQ (q2_map_runs (tables, &io, 0, 9, runs, 8, &nr, &err), -1);
  CHECK_EQ (err.kind, QCOW2_ERR_CORRUPT);
  q2_tables_free (tables);
  b.bytes[b.l1_off + 6] &= 0xfd;
  b.bytes[b.l1_off + 3] = 1;
  tables = open_tables (&b, &m, &geo, 1 << 20);
  CHECK_EQ (q2_map_runs (tables, &io, 0, 1 << 20, runs, 8, &nr, &err), 0);
  CHECK_EQ (nr, 1);
  CHECK_EQ (runs[0].kind, Q2_RUN_UNALLOCATED);
  q2_tables_free (tables);
  builder_free (&b);
}

int
main (void)
{
  test_random_images ();
  test_all_geometries ();
  test_contiguous (3, 16, false);
  test_contiguous (3, 16, true);
  test_contiguous (2, 9, false);
  test_contiguous (3, 12, false);
  test_contiguous (2, 21, false);
  test_contiguous (1, 12, false);
  test_invalid ();
  return unit_finish ();
}
