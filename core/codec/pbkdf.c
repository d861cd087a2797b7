/* SPDX-License-Identifier: BSD-3-Clause */
/* pbkdf.c - PBKDF2, by nettle.
 *
 * Owns      HMAC with any of the hashes.
 * Method    nettle has PBKDF2 over whatever keyed hash it is given, and HMAC
 *           over whatever hash; here they are put together.
 * Locks     none; pure.
 */
#include "config.h"

#include "codec/pbkdf.h"

#include "codec/hash.h"

#include <string.h>

#ifdef HAVE_NETTLE
#include <nettle/hmac.h>
#include <nettle/pbkdf2.h>

struct hmac {
  const struct nettle_hash *hash;
  union q2_hash_state outer, inner, state;
};

static void
update (void *ctx, size_t len, const uint8_t *bytes)
{
  struct hmac *const hmac = ctx;

  hmac->hash->update (&hmac->state, len, bytes);
}

static void
digest (void *ctx, size_t len, uint8_t *ret_digest)
{
  struct hmac *const hmac = ctx;

  hmac_digest (&hmac->outer, &hmac->inner, &hmac->state, hmac->hash, len,
               ret_digest);
}

void
q2_pbkdf2 (enum q2_hash hash, const void *secret, size_t secret_len,
           const void *salt, size_t salt_len, uint32_t iterations,
           void *ret_key, size_t key_len)
{
  struct hmac hmac = { .hash = q2_hash_nettle (hash) };

  hmac_set_key (&hmac.outer, &hmac.inner, &hmac.state, hmac.hash, secret_len,
                secret);
  pbkdf2 (&hmac, update, digest, hmac.hash->digest_size, iterations, salt_len,
          salt, key_len, ret_key);
  explicit_bzero (&hmac, sizeof hmac);
}

#else /* !HAVE_NETTLE */

void
q2_pbkdf2 (enum q2_hash hash, const void *secret, size_t secret_len,
           const void *salt, size_t salt_len, uint32_t iterations,
           void *ret_key, size_t key_len)
{
  (void) hash; (void) secret; (void) secret_len; (void) salt;
  (void) salt_len; (void) iterations;
  memset (ret_key, 0, key_len);
}

#endif
