/* SPDX-License-Identifier: BSD-3-Clause */
/* afsplit.c - the stripes of a LUKS key slot.
 *
 * Owns      nothing.
 * Method    merging XORs all stripes, and hashes the result so far before each
 *           but the first.  All but the last are random; that one makes the
 *           result the key.  A key longer than a digest is hashed in pieces of
 *           that length, each prefixed with its number; the last digest is cut
 *           to the rest of the key.
 * Locks     none; pure.
 */
#include "config.h"

#include "codec/afsplit.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/random.h"
#include "codec/hash.h"

#include <string.h>

static void
diffuse (enum q2_hash hash, unsigned char *key, size_t key_len)
{
  const size_t step = q2_hash_bytes (hash);
  unsigned char digest[Q2_MAX_HASH_BYTES], nr[4];

  for (size_t off = 0; off < key_len; off += step) {
    const size_t n = q2_min (step, key_len - off);

    store_be32 (nr, (uint32_t) (off / step));
    q2_hash_digest (hash, nr, sizeof nr, key + off, n, digest);
    memcpy (key + off, digest, n);
  }
  explicit_bzero (digest, sizeof digest);
}

/* What 'stripes' stripes make of 'key', before the next one. */
static void
merge (enum q2_hash hash, const unsigned char *stripe, size_t key_len,
       uint32_t stripes, unsigned char *key)
{
  memset (key, 0, key_len);
  for (uint32_t i = 0; i < stripes; ++i) {
    if (i > 0)
      diffuse (hash, key, key_len);
    for (size_t j = 0; j < key_len; ++j)
      key[j] ^= *stripe++;
  }
}

void
q2_af_merge (enum q2_hash hash, const void *split, size_t key_len,
             uint32_t stripes, void *ret_key)
{
  unsigned char key[Q2_MAX_KEY_BYTES];

  if (!q2_check (key_len <= sizeof key && stripes > 0))
    return;
  merge (hash, split, key_len, stripes, key);
  memcpy (ret_key, key, key_len);
  explicit_bzero (key, sizeof key);
}

int
q2_af_split (enum q2_hash hash, const void *key, size_t key_len,
             uint32_t stripes, void *ret_split, struct qcow2_error *err)
{
  const size_t random_len = key_len * (stripes - 1);
  unsigned char *const split = ret_split, *const last = split + random_len;
  unsigned char sum[Q2_MAX_KEY_BYTES];

  if (!q2_assume (key_len <= sizeof sum && stripes > 0, err) ||
      q2_random (split, random_len, err) == -1)
    return -1;
  merge (hash, split, key_len, stripes - 1, sum);
  if (stripes > 1)
    diffuse (hash, sum, key_len);
  for (size_t j = 0; j < key_len; ++j)
    last[j] = sum[j] ^ ((const unsigned char *) key)[j];
  explicit_bzero (sum, sizeof sum);
  return 0;
}
