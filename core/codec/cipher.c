/* SPDX-License-Identifier: BSD-3-Clause */
/* cipher.c - encrypts and decrypts sectors with nettle.
 *
 * Owns      the key schedules, in memory that is wiped (base/secret.h).
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
#include "base/error.h"
#include "base/secret.h"
#include "codec/hash.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

static const struct q2_cipher_spec aes_legacy = {
  .alg = Q2_CIPHER_AES, .mode = Q2_MODE_CBC, .iv = Q2_IV_PLAIN64,
};
#define AES_LEGACY_KEY 16

struct q2_cipher *
q2_cipher_aes_legacy (const char *passphrase, size_t len,
                      struct qcow2_error *err)
{
  unsigned char key[AES_LEGACY_KEY] = { 0 };
  struct q2_cipher *c;

  memcpy (key, passphrase, q2_min (len, sizeof key));
  c = q2_cipher_new (&aes_legacy, key, sizeof key, err);
  explicit_bzero (key, sizeof key);
  return c;
}

#ifdef HAVE_NETTLE
#include <nettle/cbc.h>
#include <nettle/ctr.h>
#include <nettle/nettle-meta.h>

#define BATCH 16                /* sectors */
#define BATCH_BYTES (BATCH * Q2_CRYPT_SECTOR)
#define MAX_BLOCK 16            /* of a cipher */

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

static const struct nettle_cipher *
find_cipher (enum q2_cipher_alg alg, size_t key_len)
{
  /* Indexed by (length - 16) / 8. */
  static const struct nettle_cipher *const ciphers[][3] = {
    [Q2_CIPHER_AES] = { &nettle_aes128, &nettle_aes192, &nettle_aes256 },
    [Q2_CIPHER_SERPENT] =
    { &nettle_serpent128, &nettle_serpent192, &nettle_serpent256 },
    [Q2_CIPHER_TWOFISH] =
    { &nettle_twofish128, &nettle_twofish192, &nettle_twofish256 },
    [Q2_CIPHER_CAST5] = { &nettle_cast128 },
  };
  const struct nettle_cipher *const cipher = ciphers[alg][(key_len - 16) / 8];

  /* q2_cipher_spec_takes_key has allowed it. */
  assert (cipher->key_size == key_len && cipher->block_size <= MAX_BLOCK);
  return cipher;
}

/* The key of ESSIV is the hash of the other key. */
static void
set_essiv_key (struct q2_cipher *c, const struct q2_cipher_spec *spec,
               const void *key, size_t key_len)
{
  const struct nettle_cipher *const cipher =
    find_cipher (spec->alg, q2_hash_bytes (spec->iv_hash));
  unsigned char digest[Q2_MAX_HASH_BYTES];

  q2_hash_digest (spec->iv_hash, NULL, 0, key, key_len, digest);
  cipher->set_encrypt_key (c->essiv_key, digest);
  c->essiv_encrypt = cipher->encrypt;
  explicit_bzero (digest, sizeof digest);
}

struct q2_cipher *
q2_cipher_new (const struct q2_cipher_spec *spec, const void *key,
               size_t key_len, struct qcow2_error *err)
{
  const size_t half =
    spec->mode == Q2_MODE_XTS ? key_len / 2 : key_len;
  const struct nettle_cipher *cipher;
  unsigned char *mem;
  size_t step, head, size;
  struct q2_cipher *c;

  if (!q2_assume (q2_cipher_spec_takes_key (spec, key_len), err))
    return NULL;
  cipher = find_cipher (spec->alg, half);
  /* The size for the longest key, since an ESSIV key may be longer than the
   * cipher's.
   */
  step = q2_align_up (find_cipher (spec->alg, spec->alg == Q2_CIPHER_CAST5
                                   ? 16 : 32)->context_size, 64);
  head = q2_align_up (sizeof *c, 64);
  size = head + 4 * step;
  mem = q2_secret_alloc (size);
  if (mem == NULL) {
    q2_fail_nomem (err, "the cipher");
    return NULL;
  }
  c = (void *) mem;
  *c = (struct q2_cipher) {
    .size = size, .mode = spec->mode, .iv = spec->iv,
    .block = cipher->block_size,
    .encrypt = cipher->encrypt, .decrypt = cipher->decrypt,
    .encrypt_key = mem + head, .decrypt_key = mem + head + step,
    .iv_key = mem + head + 2 * step, .essiv_key = mem + head + 3 * step,
  };
  cipher->set_encrypt_key (c->encrypt_key, key);
  cipher->set_decrypt_key (c->decrypt_key, key);
  if (spec->mode == Q2_MODE_XTS)
    cipher->set_encrypt_key (c->iv_key, (const unsigned char *) key + half);
  if (spec->iv == Q2_IV_ESSIV)
    set_essiv_key (c, spec, key, key_len);
  return c;
}

void
q2_cipher_free (struct q2_cipher *c)
{
  if (c != NULL)
    q2_secret_free (c, c->size);
}

/* The IVs of 'n' sectors, one block each. */
static void
make_ivs (const struct q2_cipher *c, unsigned char *ivs, unsigned n,
          uint64_t sector)
{
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
  unsigned char blocks[BATCH * MAX_BLOCK];

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
  unsigned char ivs[BATCH * MAX_BLOCK];

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
  unsigned char ivs[BATCH * MAX_BLOCK];

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

int
q2_cipher_check_built (struct qcow2_error *err)
{
  (void) err;
  return 0;
}

#else /* !HAVE_NETTLE */

static int
fail_no_nettle (struct qcow2_error *err)
{
  return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                  "the image is encrypted, and this program was built "
                  "without nettle, which that needs");
}

int
q2_cipher_check_built (struct qcow2_error *err)
{
  return fail_no_nettle (err);
}

/* Always fails. */
struct q2_cipher *
q2_cipher_new (const struct q2_cipher_spec *spec, const void *key,
               size_t key_len, struct qcow2_error *err)
{
  (void) spec; (void) key; (void) key_len;
  fail_no_nettle (err);
  return NULL;
}

void
q2_cipher_free (struct q2_cipher *c)
{
  assert (c == NULL);
}

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
