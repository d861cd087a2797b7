/* SPDX-License-Identifier: BSD-3-Clause */
/* refcounts_impl.h - what the files of refcounts.h share: refcounts.c has
 * refcounts one by one, refcounts_table.c how the table grows,
 * refcounts_commit.c how table and blocks are written.  Nobody else includes
 * this.
 */
#ifndef QCOW2_ALLOC_REFCOUNTS_IMPL_H
#define QCOW2_ALLOC_REFCOUNTS_IMPL_H

#include "alloc/refcounts.h"

#define Q2_SECTOR_ENTRIES 64    /* of the table */

/* What is always true; by all that changes something. */
extern void q2_refcounts_check_locked (const struct q2_refcounts *rc)
  __attribute__ ((__nonnull__));

/* Where the refcount of a covered cluster is: a byte, or its first. */
static inline uint64_t
q2_refcount_place (const struct q2_refcounts *rc, uint64_t cluster)
{
  const unsigned bits = rc->geo->refblock_bits;
  const uint64_t in_block = cluster & ((UINT64_C (1) << bits) - 1);

  return rc->table[cluster >> bits] +
    ((in_block << rc->geo->refcount_order) >> 3);
}

/* The sector of the table with entry 'i' is to be written. */
extern void q2_refcounts_make_entry_dirty_locked (struct q2_refcounts *rc,
                                                  uint64_t i)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_ALLOC_REFCOUNTS_IMPL_H */
