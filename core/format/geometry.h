/* SPDX-License-Identifier: BSD-3-Clause */
/* geometry.h - every shift, mask and limit that follows from a header.
 *
 * Computed and checked for overflow once, when the header is decoded.
 * Constant afterwards, but for the last two fields, which grow with the disk
 * while others read them.
 *
 * Spec: "Cluster mapping", "Reference counts"; for version 1 the layout of
 * the older "qcow" format.
 */
#ifndef QCOW2_FORMAT_GEOMETRY_H
#define QCOW2_FORMAT_GEOMETRY_H

#include "qcow2.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#define Q2_MIN_CLUSTER_BITS 9
#define Q2_MAX_CLUSTER_BITS 21
#define Q2_MAX_L1_BYTES (UINT64_C (32) << 20)
#define Q2_MAX_REFCOUNT_TABLE_BYTES (UINT64_C (8) << 20)
#define Q2_SUBCLUSTERS 32

struct q2_geometry {
  unsigned version;            /* 1, 2 or 3; 0: raw, the file is the disk */
  bool data_file;              /* data clusters lie in a data file, each at its
                                  guest offset, and have no refcounts */

  unsigned cluster_bits;
  uint64_t cluster_size;       /* 1 << cluster_bits */

  /* L2 tables. */
  bool extended_l2;
  unsigned entry_bits;         /* log2 of an entry's bytes: 3 or 4 */
  unsigned l2_bits;            /* log2 of the entries of a table */
  uint64_t l2_table_size;      /* bytes; one cluster but in version 1 */
  uint64_t table_align;        /* alignment of tables: cluster, v1: 512 */
  unsigned subcluster_bits;    /* log2 of the bytes of a subcluster */

  /* L1 table. */
  unsigned l1_shift;           /* log2 of the guest bytes per L1 entry */

  /* L2 entries. */
  uint64_t offset_mask;        /* host offset in a standard entry */
  uint64_t compressed_flag;
  uint64_t zero_flag;          /* 0 where entries have none (v1, ext. L2) */
  unsigned csize_shift;        /* compressed: position, width and unit of */
  uint64_t csize_mask;         /*   the size field ...                    */
  uint64_t coffset_mask;       /*   and the bits of the offset            */

  /* Refcounts; 0 in version 1. */
  unsigned refcount_order;     /* width is 1 << refcount_order bits */
  unsigned refblock_bits;      /* log2 of the entries of a block */

  _Atomic uint64_t virtual_size;        /* bytes */
  _Atomic uint64_t l1_needed;  /* L1 entries that cover that */
};

/* Fields of the header; see struct q2_header. */
struct q2_geometry_params {
  unsigned version;
  uint64_t virtual_size;
  unsigned cluster_bits;
  unsigned l2_bits;            /* version 1 only */
  bool extended_l2;
  bool data_file;
  unsigned refcount_order;
};

/* Fails with QCOW2_ERR_CORRUPT or _UNSUPPORTED if a number is outside the
 * limits of the format or of QEMU.
 */
extern int q2_geometry_init (struct q2_geometry *ret_geo,
                             const struct q2_geometry_params *params,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The geometry of a raw file of 'size' bytes.  There are no tables and no
 * entries.
 */
extern void q2_geometry_init_raw (struct q2_geometry *ret_geo, uint64_t size)
  __attribute__ ((__nonnull__));

/* A copy of what somebody else may be resizing.  The two numbers that change
 * need not belong to each other then.
 */
static inline struct q2_geometry
q2_geometry_copy (const struct q2_geometry *geo)
{
  struct q2_geometry copy;

  memcpy (&copy, geo, offsetof (struct q2_geometry, virtual_size));
  copy.virtual_size = geo->virtual_size;
  copy.l1_needed = geo->l1_needed;
  return copy;
}

/* It becomes that of a disk of another size, the size of 'as'; all else is
 * alike.  Tables that cover that must be there already.
 */
static inline void
q2_geometry_resize (struct q2_geometry *geo, const struct q2_geometry *as)
{
  geo->l1_needed = as->l1_needed;
  geo->virtual_size = as->virtual_size;
}

/* Largest number of host bytes a compressed cluster can occupy. */
static inline uint64_t
q2_geometry_max_csize (const struct q2_geometry *geo)
{
  return geo->version == 1 ? geo->csize_mask : (geo->csize_mask + 1) * 512;
}

/* The index of the L1 entry, and of the entry in its L2 table, that map a
 * guest offset.
 */
static inline uint64_t
q2_l1_index (const struct q2_geometry *geo, uint64_t guest_off)
{
  return guest_off >> geo->l1_shift;
}

static inline uint64_t
q2_l2_index (const struct q2_geometry *geo, uint64_t guest_off)
{
  return (guest_off >> geo->cluster_bits) &
    ((UINT64_C (1) << geo->l2_bits) - 1);
}

/* The same of a cluster of the disk, by its number. */
static inline uint64_t
q2_l1_index_of_cluster (const struct q2_geometry *geo, uint64_t guest_cluster)
{
  return guest_cluster >> geo->l2_bits;
}

static inline uint64_t
q2_l2_index_of_cluster (const struct q2_geometry *geo, uint64_t guest_cluster)
{
  return guest_cluster & ((UINT64_C (1) << geo->l2_bits) - 1);
}

#endif /* QCOW2_FORMAT_GEOMETRY_H */
