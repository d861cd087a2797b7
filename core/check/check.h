/* SPDX-License-Identifier: BSD-3-Clause */
/* check.h - checks an image, and repairs it. */
#ifndef QCOW2_CHECK_CHECK_H
#define QCOW2_CHECK_CHECK_H

#include "check/repair_job.h"

/* As qcow2_check, on an image that nobody writes to meanwhile.  All is read
 * from the file; what a repair changes of the header goes through the
 * superblock.
 */
extern int q2_check_image (const struct q2_io *io,
                           struct q2_superblock *superblock,
                           const struct qcow2_check_options *options,
                           struct qcow2_check_result *ret_result,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* check_table.c: read the refcount table into the repair, and count it and
 * the blocks it names; what cannot be a block is none and stale.  Returns 1
 * if there is no table that can be used, which has been reported.
 */
extern int q2_check_refcount_table (struct q2_repair_job *j,
                                    const struct q2_header *header,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CHECK_CHECK_H */
