/* SPDX-License-Identifier: BSD-3-Clause */
/* geometry.c - derives struct q2_geometry from a few header fields.
 *
 * Owns      the arithmetic of the format: which bits mean what for each
 *           version and cluster size.
 * Method    one function per concern.  Every input gives either numbers that
 *           cannot overflow later, or an error.
 * Locks     none; pure.
 * Spec      "Cluster mapping": x = 62 - (cluster_bits - 8).
 */
#include "config.h"

#include "format/geometry.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>

static int
check_params (const struct q2_geometry_params *p, struct qcow2_error *err)
{
  const unsigned max_bits = p->version == 1 ? 16 : Q2_MAX_CLUSTER_BITS;

  if (p->cluster_bits < Q2_MIN_CLUSTER_BITS || p->cluster_bits > max_bits)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, p->version == 1 ? 32 : 20,
                    "unsupported cluster size 2^%u: a version %u image has "
                    "2^%u to 2^%u bytes", p->cluster_bits, p->version,
                    Q2_MIN_CLUSTER_BITS, max_bits);
  if (p->version == 1 && (p->l2_bits < 6 || p->l2_bits > 13))
    return q2_fail (err, QCOW2_ERR_CORRUPT, 33,
                    "invalid L2 table size 2^%u entries: a version 1 image "
                    "has 2^6 to 2^13", p->l2_bits);
  if (p->refcount_order > 6)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 96,
                    "refcount width 2^%u bits is too large: at most 64 bits "
                    "are allowed", p->refcount_order);
  /* 32 subclusters of at least a sector each. */
  if (p->extended_l2 && p->cluster_bits < 14)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 20,
                    "unsupported subcluster size: extended L2 entries need "
                    "clusters of at least 16 KiB, these have %" PRIu64
                    " bytes", UINT64_C (1) << p->cluster_bits);
  if (p->virtual_size > INT64_MAX)
    return q2_fail (err, QCOW2_ERR_CORRUPT, 24,
                    "virtual disk size %" PRIu64 " is too big",
                    p->virtual_size);
  return 0;
}

static void
init_v1_entries (struct q2_geometry *geo)
{
  geo->offset_mask = ~(UINT64_C (1) << 63);
  geo->compressed_flag = UINT64_C (1) << 63;
  geo->zero_flag = 0;
  geo->csize_shift = 63 - geo->cluster_bits;
  geo->csize_mask = geo->cluster_size - 1;
  geo->coffset_mask = (UINT64_C (1) << geo->csize_shift) - 1;
}

static void
init_v2_entries (struct q2_geometry *geo)
{
  geo->offset_mask = UINT64_C (0x00fffffffffffe00);
  geo->compressed_flag = UINT64_C (1) << 62;
  geo->zero_flag = geo->extended_l2 ? 0 : 1;
  geo->csize_shift = 62 - (geo->cluster_bits - 8);
  geo->csize_mask = (UINT64_C (1) << (geo->cluster_bits - 8)) - 1;
  geo->coffset_mask = (UINT64_C (1) << geo->csize_shift) - 1;
}

int
q2_geometry_init (struct q2_geometry *ret_geo,
                  const struct q2_geometry_params *p,
                  struct qcow2_error *err)
{
  struct q2_geometry geo = {
    .version = p->version,
    .virtual_size = p->virtual_size,
    .cluster_bits = p->cluster_bits,
    .extended_l2 = p->extended_l2,
    .data_file = p->data_file,
    .entry_bits = p->extended_l2 ? 4 : 3,
  };

  if (check_params (p, err) == -1)
    return -1;

  geo.cluster_size = UINT64_C (1) << geo.cluster_bits;
  geo.subcluster_bits = geo.cluster_bits - (geo.extended_l2 ? 5 : 0);
  if (geo.version == 1) {
    geo.l2_bits = p->l2_bits;
    geo.table_align = 512;
    init_v1_entries (&geo);
  }
  else {
    geo.l2_bits = geo.cluster_bits - geo.entry_bits;
    geo.table_align = geo.cluster_size;
    geo.refcount_order = p->refcount_order;
    geo.refblock_bits = geo.cluster_bits + 3 - geo.refcount_order;
    init_v2_entries (&geo);
  }
  geo.l2_table_size = UINT64_C (1) << (geo.l2_bits + geo.entry_bits);
  geo.l1_shift = geo.cluster_bits + geo.l2_bits;
  geo.l1_needed = q2_ceil_shift (geo.virtual_size, geo.l1_shift);

  if (geo.l1_needed > Q2_MAX_L1_BYTES / 8)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, 24,
                    "virtual disk size %" PRIu64 " is too big for clusters "
                    "of %" PRIu64 " bytes: its L1 table would be larger than "
                    "32 MiB", geo.virtual_size, geo.cluster_size);
  /* What shifts and masks elsewhere rely on. */
  if (!q2_assume (geo.l1_shift < 64 && geo.l2_table_size >= 512 &&
                  geo.csize_shift < 63 &&
                  (geo.coffset_mask & geo.compressed_flag) == 0 &&
                  (geo.offset_mask & geo.compressed_flag) == 0 &&
                  (geo.offset_mask & geo.zero_flag) == 0, err))
    return -1;
  *ret_geo = geo;
  return 0;
}

/* A raw file has no clusters; it is read and cached in units of this size. */
#define RAW_CLUSTER_BITS 16

void
q2_geometry_init_raw (struct q2_geometry *ret_geo, uint64_t size)
{
  *ret_geo = (struct q2_geometry) {
    .virtual_size = size, .cluster_bits = RAW_CLUSTER_BITS,
    .cluster_size = UINT64_C (1) << RAW_CLUSTER_BITS,
    .subcluster_bits = RAW_CLUSTER_BITS, .entry_bits = 3,
    .l2_table_size = UINT64_C (1) << RAW_CLUSTER_BITS,
    .table_align = UINT64_C (1) << RAW_CLUSTER_BITS,
    .l1_shift = 63,             /* there is nothing to map */
  };
}
