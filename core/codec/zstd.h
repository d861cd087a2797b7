/* SPDX-License-Identifier: BSD-3-Clause */
/* zstd.h - zstd frames of compressed clusters.
 *
 * Spec: "Compressed Clusters Descriptor", compression type 1.
 */
#ifndef QCOW2_CODEC_ZSTD_H
#define QCOW2_CODEC_ZSTD_H

#include <stddef.h>

/* A decompressor; one thread at a time may use it. */
struct q2_unzstd;

/* NULL: out of memory. */
extern struct q2_unzstd *q2_unzstd_new (void);
extern void q2_unzstd_free (struct q2_unzstd *unzstd);

/* Fill exactly 'out_len' bytes from the frames at the start of 'in'; there may
 * be several, and the last one must end where the output does.  Other bytes
 * may follow.  Returns NULL, or a fault (codec/fault.h).
 */
extern const char *q2_unzstd (struct q2_unzstd *unzstd, const void *in,
                              size_t in_len, void *out, size_t out_len)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CODEC_ZSTD_H */
