/* SPDX-License-Identifier: BSD-3-Clause */
/* cipher_spec.h - how an encrypted image is encrypted.
 *
 * A LUKS header names a cipher, such as "aes", and has a second string of the
 * form MODE-IV[:HASH], such as "xts-plain64" or "cbc-essiv:sha256".
 *
 * Spec: LUKS on-disk format 1.2.3, "cipher-name", "cipher-mode" and
 * "hash-spec".
 */
#ifndef QCOW2_FORMAT_CIPHER_SPEC_H
#define QCOW2_FORMAT_CIPHER_SPEC_H

#include "qcow2.h"

enum q2_hash {
  Q2_HASH_MD5,
  Q2_HASH_SHA1,
  Q2_HASH_SHA224,
  Q2_HASH_SHA256,
  Q2_HASH_SHA384,
  Q2_HASH_SHA512,
  Q2_HASH_RIPEMD160,
  Q2_HASH_SM3,
};
#define Q2_NR_HASHES 8
#define Q2_MAX_HASH_BYTES 64

enum q2_cipher_alg {
  Q2_CIPHER_AES,                /* keys of 16, 24 and 32 bytes */
  Q2_CIPHER_SERPENT,
  Q2_CIPHER_TWOFISH,
  Q2_CIPHER_CAST5,              /* keys of 16 bytes, blocks of 8 */
};

enum q2_cipher_mode {
  Q2_MODE_ECB,
  Q2_MODE_CBC,
  Q2_MODE_CTR,
  Q2_MODE_XTS,                  /* the key is two keys of half its length */
};

/* How to compute the IV of a sector from its number. */
enum q2_cipher_iv {
  Q2_IV_NONE,                   /* ECB needs none */
  Q2_IV_PLAIN,                  /* the lower 32 bits, little-endian */
  Q2_IV_PLAIN64,                /* 64 bits, little-endian */
  Q2_IV_ESSIV,                  /* PLAIN64, encrypted with a hash of the key */
};

struct q2_cipher_spec {
  enum q2_cipher_alg alg;
  enum q2_cipher_mode mode;
  enum q2_cipher_iv iv;
  enum q2_hash iv_hash;         /* for Q2_IV_ESSIV only */
};

/* Longest key of any cipher and mode, in bytes. */
#define Q2_MAX_KEY_BYTES 64

/* Decode the two strings of a LUKS header; 'host_off' is its place, for the
 * message.  Fails with QCOW2_ERR_UNSUPPORTED if a name is unknown, or if the
 * names do not go together: ESSIV needs a hash as long as one of the cipher's
 * keys, XTS a cipher with blocks of 16 bytes.
 */
extern int q2_cipher_spec_decode (const char *name, const char *mode,
                                  uint64_t host_off,
                                  struct q2_cipher_spec *ret_spec,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* True if the cipher and its mode take keys of 'key_bytes' bytes. */
extern bool q2_cipher_spec_takes_key (const struct q2_cipher_spec *spec,
                                      size_t key_bytes)
  __attribute__ ((__nonnull__));

/* The hash that is called 'name'; false if there is none. */
extern bool q2_hash_decode (const char *name, enum q2_hash *ret_hash)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Its name, a constant string. */
extern const char *q2_hash_name (enum q2_hash hash)
  __attribute__ ((__returns_nonnull__));

/* The two strings of a LUKS header, NUL bytes after them. */
#define Q2_CIPHER_NAME 32
extern void q2_cipher_spec_encode (const struct q2_cipher_spec *spec,
                                   char ret_name[Q2_CIPHER_NAME],
                                   char ret_mode[Q2_CIPHER_NAME])
  __attribute__ ((__nonnull__));

/* Bytes of a digest, at most Q2_MAX_HASH_BYTES. */
extern size_t q2_hash_bytes (enum q2_hash hash);

#endif /* QCOW2_FORMAT_CIPHER_SPEC_H */
