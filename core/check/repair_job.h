/* SPDX-License-Identifier: BSD-3-Clause */
/* repair_job.h - what the two halves of repairing share: repair.c scans,
 * repair_write.c writes.  Nobody else includes this.
 */
#ifndef QCOW2_CHECK_REPAIR_JOB_H
#define QCOW2_CHECK_REPAIR_JOB_H

#include "check/recount.h"
#include "check/repair.h"

struct q2_repair {
  struct q2_recount recount;
  struct q2_repair_info info;
  uint64_t *blocks;             /* by index: the refcount block, 0: none */
  uint64_t nr_blocks;           /* that the table has room for */
};

/* What a scan or a write passes around. */
struct q2_repair_job {
  struct q2_repair *r;
  struct q2_counts *counts;     /* the repair's, once there are any */
  const struct q2_io *io;
  const struct q2_geometry *geo;
  unsigned char *buf;           /* a cluster */
  uint64_t too_high, too_low;   /* refcounts that were corrected */
  uint64_t cursor;              /* there is no free cluster before this one */
  bool unflushed;
};

/* The index of the block that has the refcount of a cluster. */
static inline uint64_t
q2_repair_block_of (const struct q2_repair_job *j, uint64_t cluster)
{
  return cluster >> j->geo->refblock_bits;
}

static inline bool
q2_repair_has_block (const struct q2_repair_job *j, uint64_t idx)
{
  return idx < j->r->nr_blocks && j->r->blocks[idx] != 0;
}

/* Whether a block that exists has no bytes in the file, as far as the host can
 * tell.
 */
extern bool q2_repair_is_hole (const struct q2_repair_job *j, uint64_t idx)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Read a block into j->buf. */
extern int q2_repair_read_block (struct q2_repair_job *j, uint64_t idx,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make the block in j->buf, with index 'idx', what was counted.  Returns
 * whether that changed it.
 */
extern bool q2_repair_correct_block (struct q2_repair_job *j, uint64_t idx)
  __attribute__ ((__nonnull__));

/* The first cluster >= 'cluster' that is used but has no refcount. */
extern uint64_t q2_repair_next_uncovered (const struct q2_repair_job *j,
                                          uint64_t cluster)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_CHECK_REPAIR_JOB_H */
