/* SPDX-License-Identifier: BSD-3-Clause */
/* cipher.h - encrypts and decrypts sectors of the disk.
 *
 * Spec: LUKS on-disk format 1.2.3, and "Full disk encryption header
 * pointer"; the qcow2 specification's encryption method 1 ("AES").
 */
#ifndef QCOW2_CODEC_CIPHER_H
#define QCOW2_CODEC_CIPHER_H

#include "format/cipher_spec.h"

/* Bytes of a sector.  Each is encrypted by itself, with an IV computed from
 * its number.
 */
#define Q2_CRYPT_SECTOR 512

/* A key, ready for use.  It is constant, so any number of threads may use it
 * at once.
 */
struct q2_cipher;

/* Fail with QCOW2_ERR_UNSUPPORTED if this program was built without nettle:
 * then there are no ciphers.
 */
extern int q2_cipher_check_built (struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Copies 'key'; 'key_len' must satisfy q2_cipher_spec_takes_key.  Fails with
 * QCOW2_ERR_UNSUPPORTED if this program was built without nettle, and with
 * QCOW2_ERR_NOMEM.
 */
extern struct q2_cipher *q2_cipher_new (const struct q2_cipher_spec *spec,
                                        const void *key, size_t key_len,
                                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* For images with encryption method "AES": the key is the first 16 bytes of
 * the passphrase, filled up with zeros.  A wrong one cannot be noticed.
 * Sectors are numbered by guest offset, from 0.  Fails like q2_cipher_new.
 */
extern struct q2_cipher *q2_cipher_aes_legacy (const char *passphrase,
                                               size_t len,
                                               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Wipes the key.  NULL is allowed. */
extern void q2_cipher_free (struct q2_cipher *cipher);

/* Encrypt or decrypt 'len' bytes, a multiple of Q2_CRYPT_SECTOR; 'sector' is
 * the number of the first one.  'dst' may be 'src'; otherwise they must not
 * overlap.  Neither needs to be aligned.  Cannot fail.
 */
extern void q2_cipher_encrypt (const struct q2_cipher *cipher, void *dst,
                               const void *src, size_t len, uint64_t sector)
  __attribute__ ((__nonnull__));
extern void q2_cipher_decrypt (const struct q2_cipher *cipher, void *dst,
                               const void *src, size_t len, uint64_t sector)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_CODEC_CIPHER_H */
