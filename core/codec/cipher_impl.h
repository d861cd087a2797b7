/* SPDX-License-Identifier: BSD-3-Clause */
/* cipher_impl.h - what the files of cipher.h share: cipher.c has keys,
 * cipher_modes.c what is done with sectors.  Nobody else includes this, nor do
 * they where there is no nettle.
 */
#ifndef QCOW2_CODEC_CIPHER_IMPL_H
#define QCOW2_CODEC_CIPHER_IMPL_H

#include "codec/cipher.h"

#include <nettle/nettle-types.h>

#define Q2_MAX_BLOCK 16         /* of a cipher */

struct q2_cipher {
  size_t size;                  /* of the allocation, with the keys */
  enum q2_cipher_mode mode;
  enum q2_cipher_iv iv;
  size_t block;                 /* bytes, of the cipher */
  nettle_cipher_func *encrypt, *decrypt, *iv_encrypt;
  /* Key schedules, after this struct.  Both are the same if the cipher uses
   * one for both; NULL if not needed.
   */
  void *encrypt_key, *decrypt_key;
  void *iv_key;                 /* of XTS: for tweaks */
  nettle_cipher_func *essiv_encrypt;
  void *essiv_key;
};

#endif /* QCOW2_CODEC_CIPHER_IMPL_H */
