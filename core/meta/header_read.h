/* SPDX-License-Identifier: BSD-3-Clause */
/* header_read.h - reads the header area of an image. */
#ifndef QCOW2_META_HEADER_READ_H
#define QCOW2_META_HEADER_READ_H

#include "format/header.h"
#include "io/io.h"

/* The bytes that q2_header_decode needs, in a new buffer, to be freed by the
 * caller.  NULL on error.
 */
extern unsigned char *q2_header_read (const struct q2_io *io, size_t *ret_len,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_META_HEADER_READ_H */
