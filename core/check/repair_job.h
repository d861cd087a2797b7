/* SPDX-License-Identifier: BSD-3-Clause */
/* repair_job.h - what the parts of repairing share: repair.c scans an image
 * that was not closed, check.c any image, compare.c compares refcounts with
 * what was counted, and repair_write.c writes.  Nobody else includes this.
 */
#ifndef QCOW2_CHECK_REPAIR_JOB_H
#define QCOW2_CHECK_REPAIR_JOB_H

#include "check/fetch.h"
#include "check/recount.h"
#include "check/repair.h"

#include "base/bits.h"

struct q2_repair {
  struct q2_recount recount;
  struct q2_repair_info info;
  uint64_t *blocks;             /* by index: the refcount block, 0: none */
  uint64_t nr_blocks;           /* that the table has room for */
  uint64_t missing_end;         /* indexes below were looked at */

  /* The rest is what a check knows, and a scan does not need. */
  bool checked;                 /* no dirty bit protects what is written */
  bool never_lower, never_raise;        /* refcounts */
  bool keep_flags;
  bool dropped;                 /* a block that the table names cannot be used,
                                   so its refcounts are unknown */
  bool *stale;                  /* by index: the table's entry is wrong; NULL:
                                   none is known to be */
  bool *unread;                 /* by index: the host could not read the block,
                                   so nothing of it is known; NULL as above */
  uint64_t nr_unread;           /* so many of them; 1 for the table */
  bool table_unread;            /* nothing is known of any refcount */
  uint64_t first_free;          /* nothing new goes in front of this cluster */
  uint64_t *named;              /* clusters that the header and the table say
                                   are refcounts, in ascending order, even if
                                   they cannot be */
  size_t nr_named;
};

/* What a scan or a write passes around. */
struct q2_repair_job {
  struct q2_repair *r;
  struct q2_counts *counts;     /* the repair's, once there are any */
  const struct q2_io *io;
  const struct q2_geometry *geo;
  unsigned char *buf;           /* a cluster */
  struct q2_fetch *fetch;       /* of blocks, while they are compared; or NULL
                                   */
  uint64_t fetched_end;         /* the index behind the last one that it was
                                   asked for */
  uint64_t too_high, too_low;   /* refcounts that were corrected */
  uint64_t cursor;              /* there is no free cluster before this one */
  bool unflushed;
  struct q2_findings *findings; /* of a check while it compares, or NULL */
  uint64_t end;                 /* behind the last cluster of the file whose
                                   refcount is not 0 */
};

/* repair.c: read the refcount table into r->blocks, in CPU byte order, as far
 * as the file has it; the rest is 0.  'table_off' and 'bytes' are multiples of
 * a cluster.
 */
extern int q2_repair_read_table (struct q2_repair_job *j, uint64_t table_off,
                                 uint64_t bytes, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

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

/* Whether it was found that a block cannot be read. */
static inline bool
q2_repair_is_unread (const struct q2_repair_job *j, uint64_t idx)
{
  return j->r->nr_unread > 0 && idx < j->r->nr_blocks && j->r->unread[idx];
}

/* The cluster behind the last one of the file. */
static inline uint64_t
q2_repair_file_end (const struct q2_io *io, const struct q2_geometry *geo)
{
  return q2_ceil_shift (q2_io_size (io), geo->cluster_bits);
}

/* The largest refcount that the image can store. */
static inline uint64_t
q2_repair_max_count (const struct q2_repair_job *j)
{
  return UINT64_MAX >> (64 - (1u << j->geo->refcount_order));
}

/* What the refcount of a cluster should be: more users than it can tell are
 * there only in a check, which has said so.
 */
static inline uint64_t
q2_repair_counted (const struct q2_repair_job *j, uint64_t cluster)
{
  const uint64_t count = q2_counts_get (j->counts, cluster).count;
  const uint64_t max = q2_repair_max_count (j);

  return count < max ? count : max;
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

/* Make the block in j->buf, with index 'idx', what was counted, as far as that
 * is allowed.  Returns whether that changed it.
 */
extern bool q2_repair_correct_block (struct q2_repair_job *j, uint64_t idx)
  __attribute__ ((__nonnull__));

/* The first cluster >= 'cluster' that is used but has no refcount. */
extern uint64_t q2_repair_next_uncovered (const struct q2_repair_job *j,
                                          uint64_t cluster)
  __attribute__ ((__nonnull__));

/* Compare all refcounts that the counts are about with them: adds to too_high,
 * too_low and missing_blocks of the repair's info.  In a check the counts may
 * be about fewer clusters then.
 */
extern int q2_repair_compare (struct q2_repair_job *j,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CHECK_REPAIR_JOB_H */
