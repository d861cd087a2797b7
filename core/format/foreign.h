/* SPDX-License-Identifier: BSD-3-Clause */
/* foreign.h - files that are no qcow2 images, but that people take for one.
 */
#ifndef QCOW2_FORMAT_FOREIGN_H
#define QCOW2_FORMAT_FOREIGN_H

#include <stddef.h>

/* What a file whose first 'len' bytes these are is, and what to do about it:
 * the rest of a sentence that begins with "not a qcow2 image: ".
 */
extern const char *q2_foreign_describe (const unsigned char *bytes,
                                        size_t len)
  __attribute__ ((__nonnull__ (1)));

#endif /* QCOW2_FORMAT_FOREIGN_H */
