/* SPDX-License-Identifier: BSD-3-Clause */
/* overlap.h - which clusters of the file are metadata.
 *
 * The last line of defence against images that lie and against our own
 * mistakes: a write that would land on something it must not is refused.
 *
 * A set of clusters with their class, asked before each write; that costs a
 * look into a hash table for each cluster, however large the image is.
 *
 * Locks: overlap.lock, readers and writers, inside; rank: last.
 */
#ifndef QCOW2_META_OVERLAP_H
#define QCOW2_META_OVERLAP_H

#include "base/budget.h"

struct q2_overlap;

enum q2_meta_class {
  Q2_META_NONE,
  Q2_META_HEADER,
  Q2_META_L1,
  Q2_META_L2,
  Q2_META_REFCOUNT_TABLE,
  Q2_META_REFCOUNT_BLOCK,
  Q2_META_SNAPSHOT_TABLE,
  Q2_META_INACTIVE_L1,
  Q2_META_INACTIVE_L2,          /* of a snapshot */
  Q2_META_SHARED_L2,            /* of the disk, but not its own to change */
  Q2_META_ENCRYPTION_HEADER,
  Q2_META_BITMAP_DIRECTORY,
  Q2_META_BITMAP_TABLE,
  Q2_META_BITMAP_BITS,
};

/* The set takes its memory, up to 48 bytes for each cluster while it grows,
 * from the budget (or NULL).
 */
extern struct q2_overlap *q2_overlap_new (unsigned cluster_bits,
                                          struct qcow2_budget *budget,
                                          struct qcow2_error *err)
  __attribute__ ((__nonnull__ (3), __warn_unused_result__));
extern void q2_overlap_free (struct q2_overlap *overlap);

/* Whether the budget has room for so many clusters more, now. */
extern bool q2_overlap_has_room (struct q2_overlap *overlap,
                                 uint64_t clusters)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The clusters that hold [host_off, host_off+len) are of this class.  Fails
 * with QCOW2_ERR_CORRUPT if one of them is of another; but a table that is
 * shared may be found to be a snapshot's.
 */
extern int q2_overlap_add (struct q2_overlap *overlap, uint64_t host_off,
                           uint64_t len, enum q2_meta_class class,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* They are nothing any more. */
extern void q2_overlap_remove (struct q2_overlap *overlap, uint64_t host_off,
                               uint64_t len) __attribute__ ((__nonnull__));

/* A cluster that has a class gets another one; one that has none is left
 * alone.
 */
extern void q2_overlap_turn (struct q2_overlap *overlap, uint64_t host_off,
                             enum q2_meta_class class)
  __attribute__ ((__nonnull__));

/* Those of them that are shared L2 tables are nothing any more. */
extern void q2_overlap_unshare (struct q2_overlap *overlap,
                                uint64_t host_off, uint64_t len)
  __attribute__ ((__nonnull__));

/* Fail with QCOW2_ERR_CORRUPT if any of the clusters is of another class
 * than the one that is about to be written.
 */
extern int q2_overlap_check (struct q2_overlap *overlap, uint64_t host_off,
                             uint64_t len, enum q2_meta_class class,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same if several classes will do, given as bits, 1 << class; 'wanted' is
 * for the message.  While other threads turn classes this is not the same as
 * to look twice.
 */
extern int q2_overlap_check_any (struct q2_overlap *overlap,
                                 uint64_t host_off, uint64_t len,
                                 unsigned classes, enum q2_meta_class wanted,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The class of one cluster. */
extern enum q2_meta_class q2_overlap_class (struct q2_overlap *overlap,
                                            uint64_t host_off)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_META_OVERLAP_H */
