/* SPDX-License-Identifier: BSD-3-Clause */
/* foreign.h - recognizes other formats, for messages. */
#ifndef QCOW2_FORMAT_FOREIGN_H
#define QCOW2_FORMAT_FOREIGN_H

#include "qcow2.h"

/* What the first sector of a file begins with, followed by zeros, while an
 * image is created in it.
 */
#define Q2_CREATION_MARK                                                      \
  "A qcow2 image was to be created here, which was interrupted.\n"

/* Describe the file that begins with these 'len' bytes: the rest of a sentence
 * that begins with "not a qcow2 image: ", a constant string; and what to do
 * about it.
 */
extern const char *q2_foreign_describe (const unsigned char *bytes,
                                        size_t len,
                                        enum qcow2_advice *ret_advice)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_FORMAT_FOREIGN_H */
