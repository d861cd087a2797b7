/* SPDX-License-Identifier: BSD-3-Clause */
/* test-geometry.c - every shift, mask and limit for every legal geometry.
 *
 * The expected values come from tables and plain arithmetic written for
 * this test, not from the engine's formulas.
 */
#include "config.h"

#include "format/geometry.h"

#include "unit.h"

/* Where the offset of a compressed cluster ends, by cluster_bits - 9; from
 * the specification's "x = 62 - (cluster_bits - 8)".
 */
static const unsigned x_of[] = {
  61, 60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49,
};

static uint64_t
ones (unsigned from, unsigned to)  /* bits from .. to, inclusive */
{
  uint64_t v = 0;

  for (unsigned bit = from; bit <= to; ++bit)
    v |= UINT64_C (1) << bit;
  return v;
}

static void
check_common (const struct q2_geometry *geo,
              const struct q2_geometry_params *p)
{
  const uint64_t cluster = UINT64_C (1) << p->cluster_bits;

  CHECK_EQ (geo->version, p->version);
  CHECK_EQ (geo->virtual_size, p->virtual_size);
  CHECK_EQ (geo->cluster_bits, p->cluster_bits);
  CHECK_EQ (geo->cluster_size, cluster);
  CHECK_EQ (geo->extended_l2, p->extended_l2);
  CHECK_EQ (UINT64_C (1) << geo->entry_bits, p->extended_l2 ? 16 : 8);
  CHECK_EQ (UINT64_C (1) << geo->subcluster_bits,
            p->extended_l2 ? cluster / 32 : cluster);
  CHECK_EQ (geo->l2_table_size,
            (UINT64_C (1) << geo->l2_bits) * (p->extended_l2 ? 16 : 8));
  CHECK_EQ (UINT64_C (1) << geo->l1_shift,
            (UINT64_C (1) << geo->l2_bits) * cluster);
}

static void
check_v1 (const struct q2_geometry *geo, const struct q2_geometry_params *p)
{
  CHECK_EQ (geo->l2_bits, p->l2_bits);
  CHECK_EQ (geo->table_align, 512);
  CHECK_EQ (geo->offset_mask, ones (0, 62));
  CHECK_EQ (geo->compressed_flag, ones (63, 63));
  CHECK_EQ (geo->zero_flag, 0);
  /* Bit 63 flag, then cluster_bits bits of size, then the offset. */
  CHECK_EQ (geo->coffset_mask, ones (0, 62 - p->cluster_bits));
  CHECK_EQ (geo->csize_mask << geo->csize_shift,
            ones (63 - p->cluster_bits, 62));
  CHECK_EQ (q2_geometry_max_csize (geo), geo->cluster_size - 1);
}

static void
check_v2 (const struct q2_geometry *geo, const struct q2_geometry_params *p)
{
  const unsigned x = x_of[p->cluster_bits - 9];

  CHECK_EQ (geo->l2_table_size, geo->cluster_size);
  CHECK_EQ (geo->table_align, geo->cluster_size);
  CHECK_EQ (geo->offset_mask, ones (9, 55));
  CHECK_EQ (geo->compressed_flag, ones (62, 62));
  CHECK_EQ (geo->zero_flag, p->extended_l2 ? 0 : 1);
  CHECK_EQ (geo->csize_shift, x);
  CHECK_EQ (geo->coffset_mask, ones (0, x - 1));
  CHECK_EQ (geo->csize_mask << x, ones (x, 61));
  CHECK_EQ (q2_geometry_max_csize (geo), geo->cluster_size * 2);
  CHECK_EQ (geo->refcount_order, p->refcount_order);
  CHECK_EQ (UINT64_C (1) << geo->refblock_bits,
            geo->cluster_size * 8 / (UINT64_C (1) << p->refcount_order));
}

static void
check_indexes (const struct q2_geometry *geo)
{
  const uint64_t per_l2 = UINT64_C (1) << geo->l2_bits;
  struct rng rng = { geo->l1_shift };

  for (unsigned i = 0; i < 20; ++i) {
    const uint64_t guest_off = rng_next (&rng) >> (1 + rng_below (&rng, 50));
    const uint64_t cluster = guest_off / geo->cluster_size;

    CHECK_EQ (q2_l1_index (geo, guest_off), cluster / per_l2);
    CHECK_EQ (q2_l2_index (geo, guest_off), cluster % per_l2);
  }
}

static bool
is_legal (const struct q2_geometry_params *p)
{
  if (p->version == 1)
    return p->cluster_bits >= 9 && p->cluster_bits <= 16 &&
      p->l2_bits >= 6 && p->l2_bits <= 13;
  return p->cluster_bits >= 9 && p->cluster_bits <= 21 &&
    p->refcount_order <= 6 && !(p->extended_l2 && p->cluster_bits < 14);
}

static void
try_one (const struct q2_geometry_params *p)
{
  struct q2_geometry geo;
  struct qcow2_error err;

  unit_context ("v%u cluster 2^%u l2 2^%u refcount 2^%u %s", p->version,
                p->cluster_bits, p->l2_bits, p->refcount_order,
                p->extended_l2 ? "extended" : "");
  memset (&geo, 0x5a, sizeof geo);
  if (!is_legal (p)) {
    const struct q2_geometry before = geo;

    CHECK_EQ (q2_geometry_init (&geo, p, &err), -1);
    CHECK (err.kind == QCOW2_ERR_CORRUPT ||
           err.kind == QCOW2_ERR_UNSUPPORTED);
    CHECK (memcmp (&before, &geo, sizeof geo) == 0);
    return;
  }
  if (!CHECK_EQ (q2_geometry_init (&geo, p, &err), 0))
    return;
  check_common (&geo, p);
  if (p->version == 1)
    check_v1 (&geo, p);
  else
    check_v2 (&geo, p);
  check_indexes (&geo);
}

static void
test_all (void)
{
  static const unsigned odd_bits[] = { 0, 8, 22, 31, 32, 63, 64, 255 };

  for (unsigned version = 1; version <= 3; ++version)
    for (unsigned i = 9; i <= 21 + sizeof odd_bits / sizeof odd_bits[0];
         ++i) {
      const unsigned cluster_bits = i <= 21 ? i : odd_bits[i - 22];

      if (version == 1)
        for (unsigned l2_bits = 0; l2_bits < 256; ++l2_bits)
          try_one (&(struct q2_geometry_params) {
              .version = 1, .virtual_size = 12345, .l2_bits = l2_bits,
              .cluster_bits = cluster_bits });
      else
        for (unsigned order = 0; order <= 9; ++order)
          for (unsigned extended = 0; extended <= (version == 3); ++extended)
            try_one (&(struct q2_geometry_params) {
                .version = version, .virtual_size = 12345,
                .cluster_bits = cluster_bits, .extended_l2 = extended,
                .refcount_order = order });
    }
  unit_context ("%s", "");
}

/* Which field each complaint is about. */
static void
test_error_offsets (void)
{
  static const struct {
    struct q2_geometry_params p;
    enum qcow2_error_kind kind;
    uint64_t off;
  } bad[] = {
    { { .version = 1, .cluster_bits = 17, .l2_bits = 9 },
      QCOW2_ERR_UNSUPPORTED, 32 },
    { { .version = 1, .cluster_bits = 12, .l2_bits = 14 },
      QCOW2_ERR_CORRUPT, 33 },
    { { .version = 3, .cluster_bits = 22 }, QCOW2_ERR_UNSUPPORTED, 20 },
    { { .version = 3, .cluster_bits = 16, .refcount_order = 7 },
      QCOW2_ERR_CORRUPT, 96 },
    { { .version = 3, .cluster_bits = 13, .extended_l2 = true },
      QCOW2_ERR_CORRUPT, 20 },
    { { .version = 2, .cluster_bits = 16,
        .virtual_size = UINT64_C (1) << 63 }, QCOW2_ERR_CORRUPT, 24 },
    { { .version = 2, .cluster_bits = 9,
        .virtual_size = (UINT64_C (1) << 37) + 1 },
      QCOW2_ERR_UNSUPPORTED, 24 },
  };
  struct q2_geometry geo;
  struct qcow2_error err;

  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; ++i) {
    unit_context ("bad geometry %zu", i);
    CHECK_EQ (q2_geometry_init (&geo, &bad[i].p, &err), -1);
    CHECK_ERROR (&err, bad[i].kind, bad[i].off);
  }
  unit_context ("%s", "");
}

/* The largest disk has an L1 table of 4 Mi entries, or INT64_MAX bytes. */
static void
try_size (struct q2_geometry_params p, uint64_t size, uint64_t needed)
{
  struct q2_geometry geo;
  struct qcow2_error err;

  p.virtual_size = size;
  unit_context ("v%u cluster 2^%u size %" PRIu64, p.version, p.cluster_bits,
                size);
  if (needed == UINT64_MAX)
    CHECK_EQ (q2_geometry_init (&geo, &p, &err), -1);
  else if (CHECK_EQ (q2_geometry_init (&geo, &p, &err), 0))
    CHECK_EQ (geo.l1_needed, needed);
}

static void
test_sizes (void)
{
  for (unsigned version = 1; version <= 3; ++version)
    for (unsigned bits = 9; bits <= (version == 1 ? 16u : 21u); ++bits)
      for (unsigned extended = 0;
           extended <= (version == 3 && bits >= 14); ++extended) {
        const struct q2_geometry_params p = {
          .version = version, .cluster_bits = bits, .l2_bits = 13,
          .extended_l2 = extended, .refcount_order = 4,
        };
        const unsigned span_bits =
          version == 1 ? bits + 13 : bits + bits - 3 - extended;
        const uint64_t span = UINT64_C (1) << span_bits;
        const uint64_t max = UINT64_C (1) << 22;

        try_size (p, 0, 0);
        try_size (p, 1, 1);
        try_size (p, span - 1, 1);
        try_size (p, span, 1);
        try_size (p, span + 1, 2);
        try_size (p, span * max - span, max - 1);
        try_size (p, span * max - span + 1, max);
        try_size (p, span * max, max);
        try_size (p, span * max + 1, UINT64_MAX);
        try_size (p, INT64_MAX, UINT64_MAX);
        try_size (p, (uint64_t) INT64_MAX + 1, UINT64_MAX);
        try_size (p, UINT64_MAX, UINT64_MAX);
      }
  unit_context ("%s", "");
}

int
main (void)
{
  test_all ();
  test_error_offsets ();
  test_sizes ();
  return unit_finish ();
}
