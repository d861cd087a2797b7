/* SPDX-License-Identifier: BSD-3-Clause */
/* rebuild.h - a new refcount table and new refcount blocks, from what was
 * counted, beside those that cannot be used.
 *
 *   q2_rebuild_init
 *   q2_rebuild_note      which blocks there have to be
 *   q2_rebuild_place     where all of that goes: behind what is in use
 *   q2_rebuild_fill      write the blocks
 *   q2_rebuild_switch    write the table, and let the header name it
 *   q2_rebuild_free
 *
 * Nothing that is in the file changes before the last write of the switch.
 */
#ifndef QCOW2_CHECK_REBUILD_H
#define QCOW2_CHECK_REBUILD_H

#include "check/repair_job.h"

struct q2_rebuild {
  bool keep;                    /* references may have been missed: what had
                                   a refcount, or may have had one, keeps it */
  uint64_t *blocks;             /* by index: 0, or the new block; before it is
                                   placed 1 if there has to be one */
  uint64_t nr_blocks;           /* up to the last of them */
  uint64_t first, end;          /* clusters that are new: the table first */
  uint64_t table_clusters;
  unsigned char *buf;           /* a cluster */
  size_t buf_size;
};

extern int q2_rebuild_init (struct q2_rebuild *rb,
                            const struct q2_geometry *geo, bool keep,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_rebuild_free (struct q2_rebuild *rb)
  __attribute__ ((__nonnull__));

/* The job's counts are those of all that the image refers to, but for the
 * refcounts themselves, which leave.
 */
extern int q2_rebuild_note (struct q2_rebuild *rb, struct q2_repair_job *j,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* 'end': clusters, behind the last one that is in use, and at or behind which
 * all that is new goes.  Makes the file long enough.
 */
extern int q2_rebuild_place (struct q2_rebuild *rb, struct q2_repair_job *j,
                             uint64_t end, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_rebuild_fill (struct q2_rebuild *rb, struct q2_repair_job *j,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_rebuild_switch (struct q2_rebuild *rb, struct q2_repair_job *j,
                              struct q2_superblock *sb,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CHECK_REBUILD_H */
