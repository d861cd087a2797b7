/* SPDX-License-Identifier: BSD-3-Clause */
/* cipher.c - the ciphers of nettle, and their keys.
 *
 * Owns      the key schedules, in memory that is wiped (base/secret.h).
 * Method    all schedules that a mode needs (cipher_modes.c) lie behind the
 *           struct.
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
#include "codec/cipher_impl.h"

#include <nettle/nettle-meta.h>

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
  assert (cipher->key_size == key_len &&
          cipher->block_size <= Q2_MAX_BLOCK);
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

#endif
