/* SPDX-License-Identifier: BSD-3-Clause */
/* repair.h - makes the refcounts of an image true that was not closed.
 *
 * In two steps, because opening an image must not change it: a scan, and,
 * before the first write, what follows from it.
 */
#ifndef QCOW2_CHECK_REPAIR_H
#define QCOW2_CHECK_REPAIR_H

#include "meta/superblock.h"
#include "io/io.h"

struct q2_repair;

struct q2_repair_info {
  uint64_t clusters;            /* in use */
  uint64_t l2_tables;           /* of the disk and of all snapshots */
  uint64_t too_high, too_low;   /* refcounts */
  uint64_t missing_blocks;      /* refcount blocks */
  uint64_t wrong_flags;         /* COPIED, in the active tables */
};

/* Find out what is wrong with the refcounts and COPIED flags.  Reads only.
 * Logs (if 'log' is not NULL) what it is doing, and what it has found.
 * Returns NULL, with QCOW2_ERR_CORRUPT, if the tables cannot be trusted or
 * the refcounts cannot be as they would have to be.
 */
extern struct q2_repair *
q2_repair_scan (const struct q2_io *io, const struct q2_header *header,
                const struct q2_geometry *geo,
                qcow2_log_fn log, void *log_opaque, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 6), __warn_unused_result__));
extern void q2_repair_free (struct q2_repair *repair);

extern const struct q2_repair_info *
q2_repair_get_info (const struct q2_repair *repair)
  __attribute__ ((__nonnull__));

/* Write the repair, to an image that has not changed since and whose dirty
 * bit is set, and clear that bit.  Everything is durable when this returns.
 * The place of the refcount table and the feature bits in the header change.
 *
 * Wherever it is interrupted or fails, the dirty bit stays set and a new
 * scan finds all it needs.  After a failure reload the superblock and scan
 * again: it is not known what has been written.
 */
extern int q2_repair_write (struct q2_repair *repair, const struct q2_io *io,
                            struct q2_superblock *superblock,
                            const struct q2_geometry *geo,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CHECK_REPAIR_H */
