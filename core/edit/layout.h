/* SPDX-License-Identifier: BSD-3-Clause */
/* layout.h - where everything of a new image lies.
 *
 * A new image is one piece without gaps:
 *
 *    | header | refcount table, blocks | L1 | LUKS | L2 tables | data |
 *      1 cluster                               maybe   only if preallocated
 *
 * so that it is written from front to back, and every cluster up to the end
 * has one reference.
 *
 * Spec: "Header", "Reference counts", "Cluster mapping".
 */
#ifndef QCOW2_EDIT_LAYOUT_H
#define QCOW2_EDIT_LAYOUT_H

#include "format/geometry.h"

/* A range of the image file in clusters. */
struct q2_region {
  uint64_t first, nr;
};

struct q2_layout {
  struct q2_region refcount_table, refcount_blocks, l1, luks, l2, data;
  uint64_t end;                 /* clusters of the file */
};

/* The layout of an image of that geometry with a LUKS header of 'luks_bytes',
 * 'l2_tables' L2 tables and 'data' clusters of data, which fails with
 * QCOW2_ERR_UNSUPPORTED where its refcount table would be larger than allowed.
 */
extern int q2_layout_init (struct q2_layout *ret_layout,
                           const struct q2_geometry *geo,
                           uint64_t luks_bytes, uint64_t l2_tables,
                           uint64_t data, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Clusters of the disk, the last of which may be partial. */
static inline uint64_t
q2_layout_guest_clusters (const struct q2_geometry *geo)
{
  return (geo->virtual_size + geo->cluster_size - 1) >> geo->cluster_bits;
}

#endif /* QCOW2_EDIT_LAYOUT_H */
