/* SPDX-License-Identifier: BSD-3-Clause */
/* deflate.h - raw deflate streams of compressed clusters.
 *
 * Spec: "Compressed Clusters Descriptor".  docs/FORMAT-NOTES.md says which
 * bytes real writers leave after a stream.
 */
#ifndef QCOW2_CODEC_DEFLATE_H
#define QCOW2_CODEC_DEFLATE_H

#include <stddef.h>

/* A decompressor; one thread at a time may use it. */
struct q2_inflater;

/* NULL: out of memory. */
extern struct q2_inflater *q2_inflater_new (void);
extern void q2_inflater_free (struct q2_inflater *inflater);

/* Fill exactly 'out_len' bytes from the stream at the start of 'in'.  The
 * stream may be followed by other bytes, or go on; it must not end early.
 * Returns NULL, or a fault (codec/fault.h).
 */
extern const char *q2_inflate (struct q2_inflater *inflater, const void *in,
                               size_t in_len, void *out, size_t out_len)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CODEC_DEFLATE_H */
