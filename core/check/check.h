/* SPDX-License-Identifier: BSD-3-Clause */
/* check.h - checks an image, and repairs it. */
#ifndef QCOW2_CHECK_CHECK_H
#define QCOW2_CHECK_CHECK_H

#include "meta/superblock.h"

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

#endif /* QCOW2_CHECK_CHECK_H */
