/* SPDX-License-Identifier: BSD-3-Clause */
/* afsplit.h - the stripes of a LUKS key slot.
 *
 * A key slot spreads its key over thousands of stripes.  All of them are
 * needed to get it back, so that destroying any of them destroys the key.
 *
 * Spec: LUKS on-disk format 1.2.3, "Anti-forensic splitter".
 */
#ifndef QCOW2_CODEC_AFSPLIT_H
#define QCOW2_CODEC_AFSPLIT_H

#include "format/cipher_spec.h"

/* Write the key of 'key_len' bytes, at most Q2_MAX_KEY_BYTES, to 'ret_key';
 * 'split' has 'stripes' > 0 times as many bytes.
 */
extern void q2_af_merge (enum q2_hash hash, const void *split, size_t key_len,
                         uint32_t stripes, void *ret_key)
  __attribute__ ((__nonnull__));

/* Write the stripes of the key to 'ret_split'; they differ each time.  Fails
 * if the kernel has no random bytes.
 */
extern int q2_af_split (enum q2_hash hash, const void *key, size_t key_len,
                        uint32_t stripes, void *ret_split,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CODEC_AFSPLIT_H */
