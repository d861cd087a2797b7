/* SPDX-License-Identifier: BSD-3-Clause */
/* since.h - what has changed since a moment, in memory.
 *
 * A transaction has a point in time; its bitmaps are in the file, and kept up,
 * only some time later.  What changes in between is recorded here, and added
 * to those of them that are enabled.
 *
 * Locks: none.  It begins and ends while the gate is closed.
 */
#ifndef QCOW2_TRACK_SINCE_H
#define QCOW2_TRACK_SINCE_H

#include "base/budget.h"
#include "format/bitmap.h"

#include <stdatomic.h>

/* Bytes of bits that are looked at only if one of them is set: who does has
 * closed the gate.
 */
#define Q2_SINCE_BLOCK 512

struct q2_since {
  struct q2_bitmap like;        /* one of its size, without a name */
  uint64_t nr_bits, len;        /* bytes of them */
  _Atomic bool any;             /* of them is set */
  _Atomic unsigned char *bits;
  _Atomic unsigned char *blocks;        /* of the bits: not 0 if one is set */
  struct qcow2_budget *budget;
  uint64_t charge;
};

/* For a disk of that geometry, with granules of that size, or larger ones if
 * the disk is too large for them.  NULL: *err is set.
 */
extern struct q2_since *q2_since_new (const struct q2_geometry *geo,
                                      unsigned granularity_bits,
                                      struct qcow2_budget *budget,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 4), __warn_unused_result__));
extern void q2_since_free (struct q2_since *since);

/* 'count' bytes of the disk are about to change.  Any number of threads. */
extern void q2_since_note (struct q2_since *since, uint64_t count,
                           uint64_t guest_off) __attribute__ ((__nonnull__));

#endif /* QCOW2_TRACK_SINCE_H */
