/* SPDX-License-Identifier: BSD-3-Clause */
/* header_span.h - numbers of the header that are changed in place.
 *
 * Those of a span lie next to each other within the first sector, so one
 * write of them reaches the disk whole or not at all:
 *
 *      48         56     60              72      80      88      96
 *      | refcount | its  |               | in-   | com-  | auto- |
 *      | table    | size |               | comp. | pat.  | clear |
 *      Q2_SPAN_REFCOUNT_TABLE            Q2_SPAN_FEATURES
 *
 * Feature bits exist from version 3 on.
 *
 * Spec: "Header".
 */
#ifndef QCOW2_FORMAT_HEADER_SPAN_H
#define QCOW2_FORMAT_HEADER_SPAN_H

#include "format/header.h"

enum q2_header_span { Q2_SPAN_REFCOUNT_TABLE, Q2_SPAN_FEATURES };

/* Where all spans have ended. */
#define Q2_SPANS_END 96u

/* What is to be written, and where. */
struct q2_header_bytes {
  uint32_t off, len;
  unsigned char bytes[24];
};

extern void q2_header_encode_span (const struct q2_header *header,
                                   enum q2_header_span span,
                                   struct q2_header_bytes *ret)
  __attribute__ ((__nonnull__));

/* Take the numbers of a span from the first Q2_SPANS_END bytes of a file. */
extern void q2_header_decode_span (const unsigned char *bytes,
                                   enum q2_header_span span,
                                   struct q2_header *header)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_FORMAT_HEADER_SPAN_H */
