/* SPDX-License-Identifier: BSD-3-Clause */
/* cipher_modes.c - encrypts and decrypts sectors with nettle.
 *
 * Owns      the modes, and the IVs of sectors.
 * Method    nettle's block ciphers use the instructions that the processor
 *           has, and are fast if one call gets many blocks.  Its functions for
 *           XTS pass one at a time.  So we take BATCH sectors at a time, and
 *           one call does all of their IVs, tweaks or blocks.  When CBC
 *           encrypts, each block needs the one before it: then one call does
 *           one block of every sector.
 * Locks     none; a cipher is constant.
 */
#include "config.h"

#include "codec/cipher.h"

#include "base/assume.h"
#include "base/bits.h"

#include <endian.h>
#include <string.h>

#ifdef HAVE_NETTLE
#include "codec/cipher_impl.h"

#include <nettle/cbc.h>
#include <nettle/ctr.h>

#define BATCH 16                /* sectors */
#define BATCH_BYTES (BATCH * Q2_CRYPT_SECTOR)

/* The IVs of 'n' sectors, one block each. */
static void
make_ivs (const struct q2_cipher *c, unsigned char *ivs, unsigned n,
          uint64_t sector)
{
  (void) q2_check (n <= BATCH && c->block >= sizeof sector &&
                   c->block <= Q2_MAX_BLOCK);
  memset (ivs, 0, n * c->block);
  for (unsigned i = 0; i < n; ++i) {
    const uint64_t nr = sector + i;
    const uint64_t le = htole64 (c->iv == Q2_IV_PLAIN ? (uint32_t) nr : nr);

    memcpy (ivs + i * c->block, &le, sizeof le);
  }
  if (c->iv == Q2_IV_ESSIV)
    c->essiv_encrypt (c->essiv_key, n * c->block, ivs, ivs);
}

/* ---- XTS --------------------------------------------------------------- */

/* 16 bytes at any address, which compilers XOR at once. */
typedef uint64_t block16
  __attribute__ ((__vector_size__ (16), __aligned__ (1), __may_alias__));

/* dst = src ^ mask, for 'len' bytes, a multiple of 16 */
static inline void
xor_blocks (unsigned char *dst, const unsigned char *src,
            const unsigned char *mask, size_t len)
{
  for (size_t i = 0; i < len; i += sizeof (block16))
    *(block16 *) (dst + i) =
      *(const block16 *) (src + i) ^ *(const block16 *) (mask + i);
}

/* Two little-endian numbers, to or from the machine's byte order. */
static inline block16
little_endian (block16 t)
{
  return (block16) { htole64 (t[0]), htole64 (t[1]) };
}

/* The tweak of the next block: this one times x in GF(2^128), whose lowest bit
 * is in the first byte.
 */
static inline block16
next_tweak (block16 t)
{
  const block16 carry = { t[1] >> 63, t[0] >> 63 };

  return (t + t) ^ (-carry & (block16) { 0x87, 1 });
}

/* One block of a sector: dst = src ^ tweak; stores the tweak in 'mask'. */
static inline block16
mask_block (unsigned char *dst, const unsigned char *src,
            unsigned char *mask, size_t pos, block16 t)
{
  const block16 m = little_endian (t);

  *(block16 *) (mask + pos) = m;
  *(block16 *) (dst + pos) = *(const block16 *) (src + pos) ^ m;
  return next_tweak (t);
}

/* All blocks of four sectors, interleaved: a tweak depends on the one before
 * it, but not on those of other sectors.
 */
static void
mask_four (unsigned char *dst, const unsigned char *src, unsigned char *mask,
           const block16 *first)
{
  block16 a = little_endian (first[0]), b = little_endian (first[1]);
  block16 c = little_endian (first[2]), d = little_endian (first[3]);

  for (size_t i = 0; i < Q2_CRYPT_SECTOR; i += sizeof a) {
    a = mask_block (dst, src, mask, i, a);
    b = mask_block (dst, src, mask, i + Q2_CRYPT_SECTOR, b);
    c = mask_block (dst, src, mask, i + 2 * Q2_CRYPT_SECTOR, c);
    d = mask_block (dst, src, mask, i + 3 * Q2_CRYPT_SECTOR, d);
  }
}

static void
mask_one (unsigned char *dst, const unsigned char *src, unsigned char *mask,
          const block16 *first)
{
  block16 t = little_endian (*first);

  for (size_t i = 0; i < Q2_CRYPT_SECTOR; i += sizeof t)
    t = mask_block (dst, src, mask, i, t);
}

/* One batch: dst = crypt (src ^ tweaks) ^ tweaks. */
static void
xts (const struct q2_cipher *c, nettle_cipher_func *crypt, const void *key,
     unsigned char *dst, const unsigned char *src, unsigned n,
     uint64_t sector)
{
  const size_t len = (size_t) n * Q2_CRYPT_SECTOR;
  unsigned char first[BATCH * sizeof (block16)];
  unsigned char tweaks[BATCH_BYTES];
  unsigned i = 0;

  make_ivs (c, first, n, sector);
  c->encrypt (c->iv_key, sizeof (block16) * n, first, first);
  for (; i + 4 <= n; i += 4)
    mask_four (dst + i * Q2_CRYPT_SECTOR, src + i * Q2_CRYPT_SECTOR,
               tweaks + i * Q2_CRYPT_SECTOR, (block16 *) first + i);
  for (; i < n; ++i)
    mask_one (dst + i * Q2_CRYPT_SECTOR, src + i * Q2_CRYPT_SECTOR,
              tweaks + i * Q2_CRYPT_SECTOR, (block16 *) first + i);
  crypt (key, len, dst, dst);
  xor_blocks (dst, dst, tweaks, len);
}

/* ---- CBC, CTR ---------------------------------------------------------- */

static inline void
xor_word (unsigned char *p, const unsigned char *mask)
{
  uint64_t a, b;

  memcpy (&a, p, sizeof a);
  memcpy (&b, mask, sizeof b);
  a ^= b;
  memcpy (p, &a, sizeof a);
}

/* One batch: block j of all sectors at once.  'size' is the size of a block, a
 * constant where this is inlined.
 */
static inline void
cbc_encrypt_blocks (const struct q2_cipher *c, unsigned char *dst,
                    const unsigned char *src, unsigned n, uint64_t sector,
                    size_t size)
{
  unsigned char blocks[BATCH * Q2_MAX_BLOCK];

  make_ivs (c, blocks, n, sector);
  for (size_t j = 0; j < Q2_CRYPT_SECTOR; j += size) {
    for (unsigned i = 0; i < n; ++i)
      for (size_t k = 0; k < size; k += sizeof (uint64_t))
        xor_word (blocks + i * size + k, src + i * Q2_CRYPT_SECTOR + j + k);
    c->encrypt (c->encrypt_key, n * size, blocks, blocks);
    for (unsigned i = 0; i < n; ++i)
      memcpy (dst + i * Q2_CRYPT_SECTOR + j, blocks + i * size, size);
  }
}

static void
cbc_encrypt_batch (const struct q2_cipher *c, unsigned char *dst,
                   const unsigned char *src, unsigned n, uint64_t sector)
{
  if (c->block == 16)
    cbc_encrypt_blocks (c, dst, src, n, sector, 16);
  else
    cbc_encrypt_blocks (c, dst, src, n, sector, 8);
}

static void
cbc_decrypt_batch (const struct q2_cipher *c, unsigned char *dst,
                   const unsigned char *src, unsigned n, uint64_t sector)
{
  unsigned char ivs[BATCH * Q2_MAX_BLOCK];

  make_ivs (c, ivs, n, sector);
  for (unsigned i = 0; i < n; ++i)
    cbc_decrypt (c->decrypt_key, c->decrypt, c->block, ivs + i * c->block,
                 Q2_CRYPT_SECTOR, dst + i * Q2_CRYPT_SECTOR,
                 src + i * Q2_CRYPT_SECTOR);
}

/* The IV is the first counter, a big-endian number as long as a block. Each
 * sector begins with its own.
 */
static void
ctr_batch (const struct q2_cipher *c, unsigned char *dst,
           const unsigned char *src, unsigned n, uint64_t sector)
{
  unsigned char ivs[BATCH * Q2_MAX_BLOCK];

  make_ivs (c, ivs, n, sector);
  for (unsigned i = 0; i < n; ++i)
    ctr_crypt (c->encrypt_key, c->encrypt, c->block, ivs + i * c->block,
               Q2_CRYPT_SECTOR, dst + i * Q2_CRYPT_SECTOR,
               src + i * Q2_CRYPT_SECTOR);
}

/* ---- Either way -------------------------------------------------------- */

static void
encrypt_batch (const struct q2_cipher *c, unsigned char *dst,
               const unsigned char *src, unsigned n, uint64_t sector)
{
  switch (c->mode) {
  case Q2_MODE_ECB:
    c->encrypt (c->encrypt_key, (size_t) n * Q2_CRYPT_SECTOR, dst, src);
    break;
  case Q2_MODE_CBC:
    cbc_encrypt_batch (c, dst, src, n, sector);
    break;
  case Q2_MODE_CTR:
    ctr_batch (c, dst, src, n, sector);
    break;
  case Q2_MODE_XTS:
    xts (c, c->encrypt, c->encrypt_key, dst, src, n, sector);
    break;
  }
}

static void
decrypt_batch (const struct q2_cipher *c, unsigned char *dst,
               const unsigned char *src, unsigned n, uint64_t sector)
{
  switch (c->mode) {
  case Q2_MODE_ECB:
    c->decrypt (c->decrypt_key, (size_t) n * Q2_CRYPT_SECTOR, dst, src);
    break;
  case Q2_MODE_CBC:
    cbc_decrypt_batch (c, dst, src, n, sector);
    break;
  case Q2_MODE_CTR:
    ctr_batch (c, dst, src, n, sector);
    break;
  case Q2_MODE_XTS:
    xts (c, c->decrypt, c->decrypt_key, dst, src, n, sector);
    break;
  }
}

typedef void batch_fn (const struct q2_cipher *c, unsigned char *dst,
                       const unsigned char *src, unsigned n,
                       uint64_t sector);

static inline void
for_each_batch (batch_fn *fn, const struct q2_cipher *c, void *dst,
                const void *src, size_t len, uint64_t sector)
{
  unsigned char *to = dst;
  const unsigned char *from = src;

  (void) q2_check (len % Q2_CRYPT_SECTOR == 0);
  while (len >= Q2_CRYPT_SECTOR) {
    const unsigned n = (unsigned) q2_min (len / Q2_CRYPT_SECTOR, BATCH);

    fn (c, to, from, n, sector);
    to += (size_t) n * Q2_CRYPT_SECTOR;
    from += (size_t) n * Q2_CRYPT_SECTOR;
    len -= (size_t) n * Q2_CRYPT_SECTOR;
    sector += n;
  }
}

void
q2_cipher_encrypt (const struct q2_cipher *c, void *dst, const void *src,
                   size_t len, uint64_t sector)
{
  for_each_batch (encrypt_batch, c, dst, src, len, sector);
}

void
q2_cipher_decrypt (const struct q2_cipher *c, void *dst, const void *src,
                   size_t len, uint64_t sector)
{
  for_each_batch (decrypt_batch, c, dst, src, len, sector);
}

#else /* !HAVE_NETTLE */

void
q2_cipher_encrypt (const struct q2_cipher *c, void *dst, const void *src,
                   size_t len, uint64_t sector)
{
  (void) c; (void) dst; (void) src; (void) len; (void) sector;
}

void
q2_cipher_decrypt (const struct q2_cipher *c, void *dst, const void *src,
                   size_t len, uint64_t sector)
{
  (void) c; (void) dst; (void) src; (void) len; (void) sector;
}

#endif
