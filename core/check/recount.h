/* SPDX-License-Identifier: BSD-3-Clause */
/* recount.h - counts the references to every host cluster of an image.
 *
 * What the refcounts of an image should be follows from all of its other
 * tables.  Reads only.
 */
#ifndef QCOW2_CHECK_RECOUNT_H
#define QCOW2_CHECK_RECOUNT_H

#include "check/counts.h"
#include "check/findings.h"
#include "check/scope.h"
#include "format/header.h"
#include "io/io.h"

/* Memory of the counts: 64 TiB of clusters of 64 KiB, with the tree above
 * them.
 */
#define Q2_RECOUNT_MAX_BYTES (UINT64_C (1088) << 20)

/* How much of the scan has been done, when that has changed; in a check more
 * often.  False: end it, with QCOW2_ERR_CANCELLED.
 */
typedef bool (*q2_progress_fn) (void *opaque, unsigned percent);

struct q2_recount {
  struct q2_counts *counts;
  uint64_t begin, stop;         /* clusters that they are about, and tables
                                   anywhere: all, but for the windows of a
                                   check */
  uint64_t skipped;             /* parts that a check has left out */
  uint64_t l2_tables;           /* of the disk and of all snapshots */
  struct q2_counts *odd;        /* of a check, or NULL: clusters that have
                                   one user or a refcount of 1, not both;
                                   freed with the rest */
  bool flags_are_wrong;         /* COPIED, somewhere in the active tables */
  uint64_t hole_bytes;          /* of tables that were not read, because the
                                   host said that they are holes */
  uint64_t allocated, compressed;       /* clusters of the active disk */
  uint64_t paid;                /* steps that what is no hole has paid for */
  struct q2_work work;          /* what that was, for what comes next; to be
                                   ended by the caller */
};

/* The work that an image of no tables may cause, in steps; so much is done in
 * a few seconds.  Entries of tables, and tables that are in the file, pay for
 * more (Q2_RECOUNT_PAID_*), so time goes with what the file really has.
 * Where the host cannot tell what is a hole, all has to be read: 16 GiB.
 */
#define Q2_RECOUNT_STEPS (UINT64_C (1) << 28)
#define Q2_RECOUNT_BLIND_STEPS (UINT64_C (1) << 31)
#define Q2_RECOUNT_PAID_ENTRY 64        /* each that is not 0 */
#define Q2_RECOUNT_PAID_BYTE 2          /* each that is no hole */
#define Q2_RECOUNT_PAID_TWICE 4         /* as much, if holes are read, too */
/* What it costs that a cluster has a user. */
#define Q2_RECOUNT_CLUSTER 16

/* Walk all of an image of version 2 or 3 without external data file.  The
 * progress function may be NULL.
 *
 * Fails with QCOW2_ERR_CORRUPT where tables cannot be trusted: they lie
 * where no table can be, or one cluster is a table and something else too; or
 * where a cluster in use begins past the end of the file, so that refcounts
 * for it would make the file grow to wherever an entry says.  Clusters that
 * only data refers to may have any number of users.
 */
extern int q2_recount (struct q2_recount *ret_recount,
                       const struct q2_io *io,
                       const struct q2_header *header,
                       const struct q2_geometry *geo,
                       q2_progress_fn progress, void *opaque,
                       struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 4, 7), __warn_unused_result__));

/* The same, but what the host says about holes is not believed: for counts
 * that something is going to be freed by.  'paid' is that of the first time:
 * an image that has much may have many holes between it, such as tables with
 * few entries that were copied so that zeros became holes.
 */
extern int q2_recount_all (struct q2_recount *ret_recount,
                           const struct q2_io *io,
                           const struct q2_header *header,
                           const struct q2_geometry *geo, uint64_t paid,
                           q2_progress_fn progress, void *opaque,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 4, 8), __warn_unused_result__));

/* The same for a check: a fault becomes a finding, and what is faulty is not
 * counted.  All but the refcount table and refcount blocks, which the caller
 * counts next; what the host says about holes is not believed.  Takes at most
 * 'max_bytes' of memory; if that is not enough the window becomes shorter.
 * Fails only where the check cannot go on.
 */
extern int q2_recount_check (struct q2_recount *ret_recount,
                             const struct q2_io *io,
                             const struct q2_header *header,
                             const struct q2_geometry *geo,
                             struct q2_findings *findings,
                             struct q2_scope *window, uint64_t max_bytes,
                             q2_progress_fn progress, void *opaque,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 4, 5, 6, 10), __warn_unused_result__));
extern void q2_recount_free (struct q2_recount *recount)
  __attribute__ ((__nonnull__));

/* One COPIED flag that is wrong in the active L1 table or an active L2
 * table: the entry, and what its (first) 64 bit word should be.  Returns 0,
 * or -1 with *err filled in.
 */
typedef int (*q2_flag_fn) (void *opaque, uint64_t host_off, uint64_t word,
                           struct qcow2_error *err);

/* Call fn for each such entry, in no particular order; a piece of a table
 * is read before fn is called for its entries, so fn may change the entry
 * that it is called for.  Reads nothing if no flag is wrong.  What it costs is
 * charged to recount->work.  Entries that a check has found faulty are left
 * out.  'lenient': so are tables that cannot be read, if there were such when
 * references were counted, and all others after many of them.
 */
extern int q2_recount_flags (struct q2_recount *recount,
                             const struct q2_io *io,
                             const struct q2_header *header,
                             const struct q2_geometry *geo, bool lenient,
                             q2_flag_fn fn, void *opaque,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 4, 6, 8), __warn_unused_result__));

#endif /* QCOW2_CHECK_RECOUNT_H */
