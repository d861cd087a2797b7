/* SPDX-License-Identifier: BSD-3-Clause */
/* foreign.h - files that are no qcow2 images, but that people take for one.
 */
#ifndef QCOW2_FORMAT_FOREIGN_H
#define QCOW2_FORMAT_FOREIGN_H

#include "qcow2.h"

/* What a file whose first 'len' bytes these are is: the rest of a sentence
 * that begins with "not a qcow2 image: "; and what to do about it.
 */
extern const char *q2_foreign_describe (const unsigned char *bytes,
                                        size_t len,
                                        enum qcow2_advice *ret_advice)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_FORMAT_FOREIGN_H */
