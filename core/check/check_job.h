/* SPDX-License-Identifier: BSD-3-Clause */
/* check_job.h - what the parts of a check share: check.c decides and repairs,
 * check_scan.c looks at everything, window by window, check_table.c at the
 * refcount table.  Nobody else includes this.
 */
#ifndef QCOW2_CHECK_CHECK_JOB_H
#define QCOW2_CHECK_CHECK_JOB_H

#include "check/check.h"
#include "check/repair_job.h"

struct q2_check {
  const struct q2_io *io;
  struct q2_superblock *sb;     /* through which the header is written */
  const struct qcow2_check_options *options;
  struct q2_findings findings;
  uint64_t rebuilt_at;          /* host offset of what a rebuild has written */

  /* Of a pass: */
  struct q2_header h;
  struct q2_geometry geo;
  struct q2_repair *r;          /* its counts are those of the last window */
  unsigned char *buf;           /* a cluster */
  uint64_t end;                 /* clusters that are in use, or have a
                                   refcount */
  uint64_t used_end;            /* clusters that are in use */
  bool no_table;                /* of refcounts */
  uint64_t windows;             /* how many it took */
  uint64_t allocated, compressed;
  uint64_t skipped;             /* parts that were not walked */

  /* For progress: */
  uint64_t begin;               /* of the window */
  unsigned percent;
};

/* ---- check_scan.c ----------------------------------------------------- */

/* Find out what is wrong, now. */
extern int q2_check_scan (struct q2_check *c, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_check_end_scan (struct q2_check *c)
  __attribute__ ((__nonnull__));

/* Call fn for each window of what was scanned, with counts of all references;
 * if 'but_refcounts', without the refcount table and its blocks.
 */
typedef int (*q2_check_window_fn) (struct q2_check *c,
                                   struct q2_repair_job *j, void *opaque,
                                   struct qcow2_error *err);
extern int q2_check_each_window (struct q2_check *c, bool but_refcounts,
                                 q2_check_window_fn fn, void *opaque,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 3, 5), __warn_unused_result__));

/* ---- check_table.c ---------------------------------------------------- */

/* What of the refcount table and its blocks may be something else, too. */
struct q2_check_places {
  struct q2_watch watch;
  uint64_t *clusters;
  bool *hit;
};

/* Read the refcount table into the repair, as it is in the file, and list
 * where it and its blocks are.
 */
extern int q2_check_load_table (struct q2_check *c, struct q2_repair_job *j,
                                struct q2_check_places *ret,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_check_free_places (struct q2_check_places *places)
  __attribute__ ((__nonnull__));

/* In the first window: count the table and the blocks it names; what cannot be
 * a block is none and stale.  Sets c->no_table if there is no table that can
 * be used, or none that was read.  All of that is reported.
 */
extern int q2_check_take_table (struct q2_check *c, struct q2_repair_job *j,
                                struct q2_scope *window,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* In others: count those that are known. */
extern int q2_check_count_table (struct q2_check *c, struct q2_repair_job *j,
                                 struct q2_scope *window,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CHECK_CHECK_JOB_H */
