/* SPDX-License-Identifier: BSD-3-Clause */
/* hash.c - hash functions of nettle.
 *
 * Owns      the mapping from enum q2_hash to nettle's hashes.
 * Method    a table.  The state is wiped, since the hashed bytes are secret.
 * Locks     none; pure.
 */
#include "config.h"

#include "codec/hash.h"

#include "base/assume.h"

#include <string.h>

#ifdef HAVE_NETTLE

const struct nettle_hash *
q2_hash_nettle (enum q2_hash hash)
{
  static const struct nettle_hash *const hashes[Q2_NR_HASHES] = {
    [Q2_HASH_MD5] = &nettle_md5,
    [Q2_HASH_SHA1] = &nettle_sha1,
    [Q2_HASH_SHA224] = &nettle_sha224,
    [Q2_HASH_SHA256] = &nettle_sha256,
    [Q2_HASH_SHA384] = &nettle_sha384,
    [Q2_HASH_SHA512] = &nettle_sha512,
    [Q2_HASH_RIPEMD160] = &nettle_ripemd160,
    [Q2_HASH_SM3] = &nettle_sm3,
  };

  return hashes[q2_check (hash < Q2_NR_HASHES && hashes[hash] != NULL)
                ? hash : Q2_HASH_SHA256];
}

void
q2_hash_digest (enum q2_hash hash, const void *prefix, size_t prefix_len,
                const void *bytes, size_t len, void *ret_digest)
{
  const struct nettle_hash *const h = q2_hash_nettle (hash);
  union q2_hash_state state;

  h->init (&state);
  h->update (&state, prefix_len, prefix);
  h->update (&state, len, bytes);
  h->digest (&state, h->digest_size, ret_digest);
  explicit_bzero (&state, sizeof state);
}

#else /* !HAVE_NETTLE */

void
q2_hash_digest (enum q2_hash hash, const void *prefix, size_t prefix_len,
                const void *bytes, size_t len, void *ret_digest)
{
  (void) prefix; (void) prefix_len; (void) bytes; (void) len;
  memset (ret_digest, 0, q2_hash_bytes (hash));
}

#endif
