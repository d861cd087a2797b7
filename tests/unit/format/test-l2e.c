/* SPDX-License-Identifier: BSD-3-Clause */
/* test-l2e.c - decoding of every kind of L2 entry.
 *
 * Exhaustive where possible: each bit of the entry, each size of a compressed
 * cluster, each state of each subcluster.
 */
#include "config.h"

#include "format/l2e.h"

#include "unit.h"

static struct q2_geometry
geometry (unsigned version, unsigned cluster_bits, bool extended)
{
  const struct q2_geometry_params p = {
    .version = version, .cluster_bits = cluster_bits, .l2_bits = 9,
    .virtual_size = 1 << 20, .refcount_order = 4, .extended_l2 = extended,
  };
  struct q2_geometry geo;
  struct qcow2_error err;

  unit_context ("v%u cluster 2^%u %s", version, cluster_bits,
                extended ? "extended" : "");
  REQUIRE (q2_geometry_init (&geo, &p, &err) == 0);
  return geo;
}

static struct q2_mapping
decode (const struct q2_geometry *geo, uint64_t descriptor, uint64_t bitmap)
{
  struct q2_mapping m;

  memset (&m, 0x5a, sizeof m);
  q2_l2e_decode (geo, descriptor, bitmap, &m);
  CHECK ((m.problem != NULL) == (m.kind == Q2_CLUSTER_INVALID));
  return m;
}

/* ---- Standard entries ------------------------------------------------- */

/* From a data cluster whose offset is not disturbed by one more bit. */
static void
flip_each_bit (const struct q2_geometry *geo)
{
  const uint64_t host_off = UINT64_C (0x0055555555) << 24;

  for (unsigned bit = 0; bit < 64; ++bit) {
    const uint64_t flag = UINT64_C (1) << bit;
    const struct q2_mapping m = decode (geo, host_off ^ flag, UINT32_MAX);
    const unsigned first_offset_bit =
      geo->version == 1 ? 9 : geo->cluster_bits;
    enum q2_cluster_kind kind = Q2_CLUSTER_DATA;
    uint64_t off = host_off;

    if (geo->version == 1) {
      if (bit == 63)
        kind = Q2_CLUSTER_COMPRESSED;
      else if (bit < first_offset_bit)
        kind = Q2_CLUSTER_INVALID;
      off ^= flag;
    }
    else if (bit == 62)
      kind = Q2_CLUSTER_COMPRESSED;
    else if (bit >= 9 && bit < first_offset_bit)
      kind = Q2_CLUSTER_INVALID;
    else if (bit == 0 && !geo->extended_l2)
      kind = geo->version == 3 ? Q2_CLUSTER_ZERO : Q2_CLUSTER_INVALID;
    else if (bit >= 9 && bit <= 55)
      off ^= flag;              /* the others are reserved, or COPIED */

    if (!CHECK_EQ (m.kind, kind))
      fprintf (stderr, "bit %u\n", bit);
    if (kind == Q2_CLUSTER_DATA || kind == Q2_CLUSTER_ZERO)
      CHECK_EQ (m.host_off, off);
  }
}

static void
test_standard (void)
{
  for (unsigned version = 1; version <= 3; ++version)
    for (unsigned bits = 9; bits <= (version == 1 ? 16u : 21u); ++bits)
      for (unsigned extended = 0;
           extended <= (version == 3 && bits >= 14); ++extended) {
        const struct q2_geometry geo = geometry (version, bits, extended);

        flip_each_bit (&geo);
        CHECK_EQ (decode (&geo, 0, 0).kind, Q2_CLUSTER_UNALLOCATED);
        if (version > 1) {      /* COPIED and reserved bits alone */
          CHECK_EQ (decode (&geo, UINT64_C (1) << 63, 0).kind,
                    Q2_CLUSTER_UNALLOCATED);
          CHECK_EQ (decode (&geo, UINT64_C (0xbf000000000001fe), 0).kind,
                    Q2_CLUSTER_UNALLOCATED);
        }
        if (version == 3 && !extended) {
          CHECK_EQ (decode (&geo, 1, 0).kind, Q2_CLUSTER_ZERO);
          CHECK_EQ (decode (&geo, 1, 0).host_off, 0);
          /* The second word does not exist. */
          CHECK_EQ (decode (&geo, 0, UINT64_MAX).kind,
                    Q2_CLUSTER_UNALLOCATED);
        }
      }
}

static void
test_l1_entries (void)
{
  const struct q2_geometry v1 = geometry (1, 12, false);
  const struct q2_geometry v3 = geometry (3, 16, false);

  CHECK_EQ (q2_l1e_table (&v1, UINT64_C (0x8000000000012345)),
            UINT64_C (0x8000000000012345));
  for (unsigned bit = 0; bit < 64; ++bit)
    CHECK_EQ (q2_l1e_table (&v3, UINT64_C (1) << bit),
              bit >= 9 && bit <= 55 ? UINT64_C (1) << bit : 0);
}

/* ---- Compressed entries ----------------------------------------------- */

static void
try_compressed (const struct q2_geometry *geo, uint64_t field,
                uint64_t host_off)
{
  const unsigned x = geo->version == 1 ? 63 - geo->cluster_bits
    : 70 - geo->cluster_bits;
  const uint64_t flag = UINT64_C (1) << (geo->version == 1 ? 63 : 62);
  struct q2_mapping m = decode (geo, flag | field << x | host_off, UINT64_MAX);
  const uint64_t csize = geo->version == 1 ? field
    : (field + 1) * 512 - host_off % 512;

  CHECK_EQ (m.kind, Q2_CLUSTER_COMPRESSED);
  CHECK_EQ (m.host_off, host_off);
  CHECK_EQ (m.csize, csize);
  CHECK (m.csize <= q2_geometry_max_csize (geo));
  if (geo->version > 1) {       /* COPIED must not matter */
    m = decode (geo, UINT64_C (1) << 63 | flag | field << x | host_off, 0);
    CHECK_EQ (m.kind, Q2_CLUSTER_COMPRESSED);
    CHECK_EQ (m.csize, csize);
  }
}

static void
test_compressed (void)
{
  for (unsigned version = 1; version <= 3; ++version)
    for (unsigned bits = 9; bits <= (version == 1 ? 16u : 21u); ++bits) {
      const struct q2_geometry geo =
        geometry (version, bits, version == 3 && bits >= 14);
      const unsigned size_bits = version == 1 ? bits : bits - 8;
      const unsigned x = (version == 1 ? 63 : 62) - size_bits;
      const uint64_t max_off = (UINT64_C (1) << x) - 1;

      for (uint64_t field = 0; field < UINT64_C (1) << size_bits; ++field) {
        const uint64_t offs[] = { 0, 1, 511, 512, 513, 0x123456789ab,
                                  max_off, max_off - 511 };

        for (size_t i = 0; i < sizeof offs / sizeof offs[0]; ++i)
          try_compressed (&geo, field, offs[i] & max_off);
      }
    }
}

/* ---- Extended entries ------------------------------------------------- */

enum state { BACKING, ALLOC, ZERO, BOTH };

/* What a bitmap and an offset must decode to, state by state. */
static void
try_bitmap (const struct q2_geometry *geo, uint64_t host_off,
            const enum state *states)
{
  enum q2_cluster_kind kind = Q2_CLUSTER_SUBCLUSTERS;
  unsigned nr[4] = { 0 };
  uint64_t bitmap = 0;
  struct q2_mapping m;

  for (unsigned i = 0; i < 32; ++i) {
    nr[states[i]]++;
    if (states[i] == ALLOC || states[i] == BOTH)
      bitmap |= UINT64_C (1) << i;
    if (states[i] == ZERO || states[i] == BOTH)
      bitmap |= UINT64_C (1) << (32 + i);
  }
  if (nr[BOTH] > 0 || (host_off == 0 && nr[ALLOC] > 0))
    kind = Q2_CLUSTER_INVALID;
  else if (nr[ZERO] == 32)
    kind = Q2_CLUSTER_ZERO;
  else if (nr[ALLOC] == 32)
    kind = Q2_CLUSTER_DATA;
  else if (nr[BACKING] == 32)
    kind = Q2_CLUSTER_UNALLOCATED;

  m = decode (geo, host_off, bitmap);
  CHECK_EQ (m.kind, kind);
  if (kind == Q2_CLUSTER_SUBCLUSTERS) {
    CHECK_EQ (m.alloc_bits, (uint32_t) bitmap);
    CHECK_EQ (m.zero_bits, bitmap >> 32);
  }
  if (kind != Q2_CLUSTER_INVALID)
    CHECK_EQ (m.host_off, host_off);
}

static void
test_extended (void)
{
  struct rng rng = { 7 };

  for (unsigned bits = 14; bits <= 21; ++bits) {
    const struct q2_geometry geo = geometry (3, bits, true);

    for (unsigned with_offset = 0; with_offset <= 1; ++with_offset) {
      const uint64_t host_off = with_offset ? UINT64_C (5) << bits : 0;
      enum state states[32];

      /* Each state of each subcluster, all others alike. */
      for (unsigned others = BACKING; others <= BOTH; ++others)
        for (unsigned i = 0; i < 32; ++i)
          for (unsigned state = BACKING; state <= BOTH; ++state) {
            for (unsigned j = 0; j < 32; ++j)
              states[j] = (enum state) others;
            states[i] = (enum state) state;
            try_bitmap (&geo, host_off, states);
          }
      for (unsigned n = 0; n < 2000; ++n) {
        const uint64_t nr_states = 2 + rng_below (&rng, 3);

        for (unsigned j = 0; j < 32; ++j)
          states[j] = (enum state) rng_below (&rng, nr_states);
        if (nr_states == 4 && rng_below (&rng, 2))
          for (unsigned j = 0; j < 32; ++j)
            if (states[j] == BOTH)
              states[j] = ZERO;
        try_bitmap (&geo, host_off, states);
      }
    }
    /* The unused bit 0 of the descriptor is ignored. */
    CHECK_EQ (decode (&geo, 1, 0).kind, Q2_CLUSTER_UNALLOCATED);
    CHECK_EQ (decode (&geo, UINT64_C (1) << bits | 1, UINT32_MAX).kind,
              Q2_CLUSTER_DATA);
  }
}

int
main (void)
{
  test_standard ();
  test_l1_entries ();
  test_compressed ();
  test_extended ();
  return unit_finish ();
}
