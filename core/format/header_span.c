/* SPDX-License-Identifier: BSD-3-Clause */
/* header_span.c - numbers of the header that are changed in place.
 *
 * Owns      where they are.
 * Locks     none; pure.
 */
#include "config.h"

#include "format/header_span.h"

#include "base/be.h"

#define REFCOUNT_TABLE_OFFSET 48        /* offset, clusters */
#define FEATURES_OFFSET 72      /* incompatible, compatible, autoclear */

void
q2_header_encode_span (const struct q2_header *h, enum q2_header_span span,
                       struct q2_header_bytes *b)
{
  switch (span) {
  case Q2_SPAN_REFCOUNT_TABLE:
    b->off = REFCOUNT_TABLE_OFFSET;
    b->len = 12;
    store_be64 (b->bytes, h->refcount_table_offset);
    store_be32 (b->bytes + 8, h->refcount_table_clusters);
    break;
  case Q2_SPAN_FEATURES:
    b->off = FEATURES_OFFSET;
    b->len = 24;
    store_be64 (b->bytes, h->incompatible);
    store_be64 (b->bytes + 8, h->compatible);
    store_be64 (b->bytes + 16, h->autoclear);
    break;
  }
}

void
q2_header_decode_span (const unsigned char *bytes, enum q2_header_span span,
                       struct q2_header *h)
{
  switch (span) {
  case Q2_SPAN_REFCOUNT_TABLE:
    h->refcount_table_offset = load_be64 (bytes + REFCOUNT_TABLE_OFFSET);
    h->refcount_table_clusters = load_be32 (bytes + REFCOUNT_TABLE_OFFSET + 8);
    break;
  case Q2_SPAN_FEATURES:
    h->incompatible = load_be64 (bytes + FEATURES_OFFSET);
    h->compatible = load_be64 (bytes + FEATURES_OFFSET + 8);
    h->autoclear = load_be64 (bytes + FEATURES_OFFSET + 16);
    break;
  }
}
