/* SPDX-License-Identifier: BSD-3-Clause */
/* pool.h - decompression contexts with their input buffers, reused.
 *
 * A context belongs to one thread between get and put.  Their number is
 * bounded, so that large clusters and many clients cannot take unbounded
 * memory: a thread that finds none waits.
 */
#ifndef QCOW2_CODEC_POOL_H
#define QCOW2_CODEC_POOL_H

#include "qcow2.h"

struct q2_codec_pool;
struct q2_codec;

/* For images whose compressed clusters have at most 'max_csize' bytes. */
extern struct q2_codec_pool *
q2_codec_pool_new (enum qcow2_compression compression, size_t max_csize,
                   struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_codec_pool_free (struct q2_codec_pool *pool);

/* Waits for a codec.  A thread that holds one must not ask for another. */
extern struct q2_codec *q2_codec_get (struct q2_codec_pool *pool,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_codec_put (struct q2_codec_pool *pool, struct q2_codec *codec)
  __attribute__ ((__nonnull__));

/* A buffer for a stream of at most max_csize bytes.  NULL: out of memory. */
extern void *q2_codec_in (struct q2_codec *codec)
  __attribute__ ((__nonnull__));

/* Decompress 'in_len' bytes at 'in' to exactly 'out_len' bytes at 'out'.
 * Returns NULL, or a fault (codec/fault.h).
 */
extern const char *q2_codec_decompress (struct q2_codec *codec,
                                        const void *in, size_t in_len,
                                        void *out, size_t out_len)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CODEC_POOL_H */
