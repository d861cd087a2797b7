/* SPDX-License-Identifier: BSD-3-Clause */
/* pbkdf.h - derives keys from passphrases.
 *
 * Spec: RFC 8018 (PBKDF2), with HMAC.
 */
#ifndef QCOW2_CODEC_PBKDF_H
#define QCOW2_CODEC_PBKDF_H

#include "base/budget.h"
#include "format/cipher_spec.h"

/* Fill 'ret_key' with 'key_len' > 0 bytes; 'iterations' > 0.  The time is
 * proportional to q2_pbkdf2_rounds; each round counts as Q2_PBKDF2_STEPS steps
 * of the work.  Fails only if that is too much, or abandoned.  Does nothing
 * without nettle.
 */
#define Q2_PBKDF2_STEPS 16
extern int q2_pbkdf2 (enum q2_hash hash, const void *secret,
                      size_t secret_len, const void *salt, size_t salt_len,
                      uint32_t iterations, void *ret_key, size_t key_len,
                      struct q2_work *work, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The number of HMACs: at most 4 for each iteration and key. */
static inline uint64_t
q2_pbkdf2_rounds (enum q2_hash hash, uint32_t iterations, size_t key_len)
{
  const size_t digest = q2_hash_bytes (hash);

  return (uint64_t) iterations * ((key_len + digest - 1) / digest);
}

#endif /* QCOW2_CODEC_PBKDF_H */
