/* SPDX-License-Identifier: BSD-3-Clause */
/* compressor.h - makes the streams of compressed clusters.
 *
 * A pool of contexts, as many as there are CPUs: more would not be faster, and
 * each takes up to some MiB.
 *
 * Spec: "Compressed Clusters Descriptor".
 */
#ifndef QCOW2_CODEC_COMPRESSOR_H
#define QCOW2_CODEC_COMPRESSOR_H

#include "qcow2.h"

struct q2_compressors;

/* For at most 'max' threads at once.  'level' 0: the usual one; one that the
 * method does not have counts as the highest or lowest it has.
 */
extern struct q2_compressors *
q2_compressors_new (enum qcow2_compression compression, unsigned level,
                    unsigned max, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_compressors_free (struct q2_compressors *compressors);

/* This program can make such streams. */
extern bool q2_can_compress (enum qcow2_compression compression);

/* Compress 'len' bytes to at most 'max', which is less than 'len', at 'out'.
 * Returns the size of the stream, or 0 if it would be larger or there is no
 * memory: then the bytes are better stored as they are.  Waits for a context.
 */
extern size_t q2_compress (struct q2_compressors *compressors,
                           const void *in, size_t len, void *out, size_t max)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CODEC_COMPRESSOR_H */
