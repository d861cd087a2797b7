/* SPDX-License-Identifier: BSD-3-Clause */
/* pbkdf.c - PBKDF2 on top of nettle's HMAC.
 *
 * Owns      PBKDF2 with HMAC of any hash.
 * Method    nettle has PBKDF2, too, but its call cannot be cut short, and an
 *           image may ask for minutes of it.
 * Locks     none; pure.
 */
#include "config.h"

#include "codec/pbkdf.h"

#include "codec/hash.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"

#include <string.h>

#ifdef HAVE_NETTLE
#include <nettle/hmac.h>

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

/* Rounds between two checks of whether to go on: a few milliseconds. */
#define PIECE 4096u

/* T_i of RFC 8018. */
static int
derive_block (struct hmac *hmac, const void *salt, size_t salt_len,
              uint32_t i, uint32_t iterations, unsigned char *ret,
              struct q2_work *work, struct qcow2_error *err)
{
  const size_t size = hmac->hash->digest_size;
  unsigned char u[Q2_MAX_HASH_BYTES], number[4];
  int r = 0;

  store_be32 (number, i);
  update (hmac, salt_len, salt);
  update (hmac, sizeof number, number);
  digest (hmac, size, u);
  memcpy (ret, u, size);
  for (uint32_t n = 1; n < iterations && r == 0; ++n) {
    if (n % PIECE == 1)
      r = q2_work_do (work, (uint64_t) q2_min (PIECE, iterations - n) *
                      Q2_PBKDF2_STEPS, err);
    update (hmac, size, u);
    digest (hmac, size, u);
    for (size_t j = 0; j < size; ++j)
      ret[j] ^= u[j];
  }
  explicit_bzero (u, sizeof u);
  return r;
}

int
q2_pbkdf2 (enum q2_hash hash, const void *secret, size_t secret_len,
           const void *salt, size_t salt_len, uint32_t iterations,
           void *ret_key, size_t key_len, struct q2_work *work,
           struct qcow2_error *err)
{
  struct hmac hmac = { .hash = q2_hash_nettle (hash) };
  unsigned char block[Q2_MAX_HASH_BYTES];
  unsigned char *key = ret_key;
  int r = 0;

  if (!q2_assume (iterations > 0 && key_len > 0, err))
    return -1;
  hmac_set_key (&hmac.outer, &hmac.inner, &hmac.state, hmac.hash, secret_len,
                secret);
  for (uint32_t i = 1; key_len > 0 && r == 0; ++i) {
    const size_t n = q2_min (key_len, hmac.hash->digest_size);

    r = derive_block (&hmac, salt, salt_len, i, iterations, block, work,
                      err);
    memcpy (key, block, n);
    key += n;
    key_len -= n;
  }
  explicit_bzero (&hmac, sizeof hmac);
  explicit_bzero (block, sizeof block);
  return r;
}

#else /* !HAVE_NETTLE */

int
q2_pbkdf2 (enum q2_hash hash, const void *secret, size_t secret_len,
           const void *salt, size_t salt_len, uint32_t iterations,
           void *ret_key, size_t key_len, struct q2_work *work,
           struct qcow2_error *err)
{
  (void) hash; (void) secret; (void) secret_len; (void) salt;
  (void) salt_len; (void) iterations; (void) work; (void) err;
  memset (ret_key, 0, key_len);
  return 0;
}

#endif
