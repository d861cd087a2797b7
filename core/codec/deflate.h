/* SPDX-License-Identifier: BSD-3-Clause */
/* deflate.h - raw deflate streams of compressed clusters.
 *
 * Spec: "Compressed Clusters Descriptor"; what real writers leave behind a
 * stream is in docs/FORMAT-NOTES.md.
 */
#ifndef QCOW2_CODEC_DEFLATE_H
#define QCOW2_CODEC_DEFLATE_H

#include <stddef.h>

/* One thread's decompressor. */
struct q2_inflater;

/* NULL: out of memory. */
extern struct q2_inflater *q2_inflater_new (void);
extern void q2_inflater_free (struct q2_inflater *inflater);

/* Fill exactly 'out_len' bytes from the stream at the start of 'in'.
 * Bytes after the stream, or a stream that would go on, are fine; a stream
 * that ends early is not.  Returns NULL, or what is wrong (a constant).
 */
extern const char *q2_inflate (struct q2_inflater *inflater, const void *in,
                               size_t in_len, void *out, size_t out_len)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CODEC_DEFLATE_H */
