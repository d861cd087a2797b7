/* SPDX-License-Identifier: BSD-3-Clause */
/* random.h - random bytes for keys and salts, from the kernel. */
#ifndef QCOW2_BASE_RANDOM_H
#define QCOW2_BASE_RANDOM_H

#include "qcow2.h"

/* Waits for the kernel to have enough entropy, which it has soon after it was
 * booted.  Fails with QCOW2_ERR_IO if it gives none.
 */
extern int q2_random (void *buf, size_t len, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_BASE_RANDOM_H */
