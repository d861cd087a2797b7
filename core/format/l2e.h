/* SPDX-License-Identifier: BSD-3-Clause */
/* l2e.h - decodes an L2 entry for readers.
 *
 * All decoding of L2 entries goes through here; the COPIED flag, which readers
 * do not need, is tested by entry.h for writers and by check/ for repairs.
 * Reserved bits are ignored, as QEMU does: existing images have them set.
 *
 * Spec: "Cluster mapping", "Standard Cluster Descriptor", "Compressed
 * Clusters Descriptor", "Extended L2 Entries".
 */
#ifndef QCOW2_FORMAT_L2E_H
#define QCOW2_FORMAT_L2E_H

#include "format/geometry.h"

enum q2_cluster_kind {
  Q2_CLUSTER_UNALLOCATED, /* reads from the backing image, or as zeros */
  Q2_CLUSTER_DATA,        /* bytes at host_off */
  Q2_CLUSTER_ZERO,        /* reads as zeros; if placed, space is kept */
  Q2_CLUSTER_COMPRESSED,  /* a stream of at most csize bytes at host_off */
  Q2_CLUSTER_SUBCLUSTERS, /* extended L2: see alloc_bits and zero_bits */
  Q2_CLUSTER_INVALID,     /* breaks the format; see 'problem' */
};

struct q2_mapping {
  enum q2_cluster_kind kind;
  bool placed;            /* the cluster lies at host_off, which can be 0 only
                             in a data file */
  uint64_t host_off;
  uint64_t csize;         /* COMPRESSED */
  uint32_t alloc_bits;    /* SUBCLUSTERS: bit i set: subcluster i is data, */
  uint32_t zero_bits;     /*   reads as zeros; never both */
  const char *problem;    /* INVALID: a constant string */
};

/* 'descriptor' is the (first) 64 bit word of the entry, 'bitmap' the second
 * one of an extended entry, otherwise ignored.  An extended entry whose
 * subclusters are all equal decodes as one of the plain kinds.
 */
extern void q2_l2e_decode (const struct q2_geometry *geo, uint64_t descriptor,
                           uint64_t bitmap, struct q2_mapping *ret_mapping)
  __attribute__ ((__nonnull__));

/* In a data file every cluster lies at its guest offset.  Make the mapping of
 * the cluster at 'guest_off' invalid if it lies elsewhere.
 */
static inline void
q2_mapping_check_place (const struct q2_geometry *geo, uint64_t guest_off,
                        struct q2_mapping *m)
{
  if (geo->data_file && m->placed &&
      m->host_off != (guest_off & ~(geo->cluster_size - 1))) {
    m->kind = Q2_CLUSTER_INVALID;
    m->problem = "a cluster does not lie in the data file where it lies on "
      "the disk";
  }
}

/* The host offset of the L2 table that an L1 entry refers to; 0: none.  It may
 * be unaligned in a corrupt image; see q2_geometry.table_align.
 */
static inline uint64_t
q2_l1e_table (const struct q2_geometry *geo, uint64_t l1e)
{
  return geo->version == 1 ? l1e : l1e & UINT64_C (0x00fffffffffffe00);
}

/* In the second word of an extended entry: the lowest zero bit. */
#define Q2_BITMAP_ZERO_SHIFT 32

/* In L1 and L2 entries of the active tables: the cluster's refcount is
 * exactly 1, so it may be written in place.  Not in version 1.
 */
#define Q2_ENTRY_COPIED (UINT64_C (1) << 63)

#endif /* QCOW2_FORMAT_L2E_H */
