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

/* ---- covered.c -------------------------------------------------------- */

extern bool q2_cover_has (const struct q2_cover *c, uint64_t cluster)
  __attribute__ ((__nonnull__));
extern void q2_cover_add (struct q2_cover *c, uint64_t cluster)
  __attribute__ ((__nonnull__));
/* All of 'a' are in 'b'. */
extern bool q2_cover_is_part (const struct q2_cover *a,
                              const struct q2_cover *b)
  __attribute__ ((__nonnull__));
extern void q2_cover_copy (struct q2_cover *a, const struct q2_cover *b)
  __attribute__ ((__nonnull__));
/* Leave out what is not in 'b'. */
extern void q2_cover_keep (struct q2_cover *a, const struct q2_cover *b)
  __attribute__ ((__nonnull__));

/* A refcount is about to change: note whether that is urgent.  True: the file
 * need not be changed for it.
 */
extern bool q2_ahead_note_locked (struct q2_refcounts *rc, uint64_t cluster,
                                  uint64_t old, uint64_t new_)
  __attribute__ ((__nonnull__));

/* ---- ahead.c ---------------------------------------------------------- */

/* A commit begins.  First the slices that have to be written become dirty;
 * clusters that cannot be covered are taken from 'next'.  When they are
 * copied, the copies cover these.  Then it ends: the copies are durable, or
 * may be in the file.
 */
extern void q2_ahead_begin_locked (struct q2_refcounts *rc,
                                   struct q2_cover *next)
  __attribute__ ((__nonnull__));
extern void q2_ahead_gather_locked (struct q2_refcounts *rc,
                                    const struct q2_cover *next,
                                    struct q2_refcounts_dirty *dirty)
  __attribute__ ((__nonnull__));
extern void q2_ahead_end_locked (struct q2_refcounts *rc,
                                 const struct q2_refcounts_dirty *dirty,
                                 bool durable) __attribute__ ((__nonnull__));

/* Some refcount of the file is higher than in memory, or may be so. */
extern bool q2_ahead_is_any_locked (struct q2_refcounts *rc)
  __attribute__ ((__nonnull__));

/* The sector of the table with entry 'i' is to be written. */
extern void q2_refcounts_make_entry_dirty_locked (struct q2_refcounts *rc,
                                                  uint64_t i)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_ALLOC_REFCOUNTS_IMPL_H */
