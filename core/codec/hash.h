/* SPDX-License-Identifier: BSD-3-Clause */
/* hash.h - hash functions of nettle. */
#ifndef QCOW2_CODEC_HASH_H
#define QCOW2_CODEC_HASH_H

#include "format/cipher_spec.h"

#ifdef HAVE_NETTLE
#include <nettle/md5.h>
#include <nettle/nettle-meta.h>
#include <nettle/ripemd160.h>
#include <nettle/sha1.h>
#include <nettle/sha2.h>
#include <nettle/sm3.h>

/* Room for the state of any hash. */
union q2_hash_state {
  struct md5_ctx md5;
  struct sha1_ctx sha1;
  struct sha256_ctx sha256;
  struct sha512_ctx sha512;
  struct ripemd160_ctx ripemd160;
  struct sm3_ctx sm3;
};

/* nettle's description of the hash; a constant. */
extern const struct nettle_hash *q2_hash_nettle (enum q2_hash hash)
  __attribute__ ((__returns_nonnull__));
#endif

/* Hash 'prefix' followed by 'bytes'; either may be empty.  Writes
 * q2_hash_bytes (hash) bytes to 'ret_digest', which may be 'bytes'.  Does
 * nothing without nettle: then no cipher can use the result.
 */
extern void q2_hash_digest (enum q2_hash hash, const void *prefix,
                            size_t prefix_len, const void *bytes, size_t len,
                            void *ret_digest)
  __attribute__ ((__nonnull__ (6)));

#endif /* QCOW2_CODEC_HASH_H */
