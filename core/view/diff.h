/* SPDX-License-Identifier: BSD-3-Clause */
/* diff.h - views of the changes between two snapshots, or since one. */
#ifndef QCOW2_VIEW_DIFF_H
#define QCOW2_VIEW_DIFF_H

#include "view/mask.h"
#include "view/snapshot_view.h"

/* ---- diff.c --------------------------------------------------------- */

/* Open a view of the differences; 'name' is "A..B", see qcow2.h. */
extern struct qcow2_image *
q2_diff_open (struct qcow2_image *image, const struct qcow2_io *host,
              const struct qcow2_name *name, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The mask of what differs between that snapshot and the active disk, for
 * bytes that the active disk has; whoever uses it frees it with its ops.
 * NULL: *err is set.
 */
extern struct q2_mask *
q2_diff_since (struct qcow2_image *image, const struct qcow2_io *host,
               const struct q2_found_snapshot *a, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- diff_name.c ---------------------------------------------------- */

/* The disks that "A..B" names. */
struct q2_diff_pair {
  struct q2_found_snapshot a, b;
  bool b_is_active;             /* then b is not valid */
};

/* Fails unless the name can be split in exactly one way. */
extern int q2_diff_find_pair (struct qcow2_image *image,
                              const struct qcow2_io *host,
                              const struct qcow2_name *name,
                              struct q2_diff_pair *ret_pair,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_VIEW_DIFF_H */
