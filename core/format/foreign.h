/* SPDX-License-Identifier: BSD-3-Clause */
/* foreign.h - recognizes other formats, for messages. */
#ifndef QCOW2_FORMAT_FOREIGN_H
#define QCOW2_FORMAT_FOREIGN_H

#include <stddef.h>

/* Describe the file that begins with these 'len' bytes, and say what to do
 * about it: the rest of a sentence that begins with "not a qcow2 image: ".
 * Returns a constant string.
 */
extern const char *q2_foreign_describe (const unsigned char *bytes,
                                        size_t len)
  __attribute__ ((__nonnull__ (1)));

#endif /* QCOW2_FORMAT_FOREIGN_H */
