/* SPDX-License-Identifier: BSD-3-Clause */
/* slot.c - making key slots of LUKS headers.
 *
 * Owns      the choice of ciphers, and how much work a guess is made to be.
 * Method    the work is measured: so many rounds of PBKDF2 as this thread does
 *           in the time that is asked for, within the bounds of what readers
 *           accept.
 * Locks     none; one call, one thread.
 * Spec      LUKS on-disk format 1.2.3, "Initialization" and "Adding new
 *           passwords".
 */
#include "config.h"

#include "edit/slot.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/random.h"
#include "base/secret.h"
#include "codec/afsplit.h"
#include "codec/cipher.h"
#include "codec/pbkdf.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The least that the format's specification allows. */
#define MIN_ITERATIONS 1000

/* ---- Ciphers ---------------------------------------------------------- */

static const struct {
  char name[12];
  enum q2_cipher_alg alg;
  unsigned bytes;
} ciphers[] = {
  { "aes-128", Q2_CIPHER_AES, 16 },
  { "aes-192", Q2_CIPHER_AES, 24 },
  { "aes-256", Q2_CIPHER_AES, 32 },
  { "cast5-128", Q2_CIPHER_CAST5, 16 },
  { "serpent-128", Q2_CIPHER_SERPENT, 16 },
  { "serpent-192", Q2_CIPHER_SERPENT, 24 },
  { "serpent-256", Q2_CIPHER_SERPENT, 32 },
  { "twofish-128", Q2_CIPHER_TWOFISH, 16 },
  { "twofish-192", Q2_CIPHER_TWOFISH, 24 },
  { "twofish-256", Q2_CIPHER_TWOFISH, 32 },
};

static int
fail_word (struct qcow2_error *err, const char *what, const char *word,
           const char *known)
{
  char buf[80];

  return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                  "there is no %s '%s' for an encrypted image; there are %s",
                  what, q2_printable (buf, sizeof buf, word, strlen (word)),
                  known);
}

static int
choose_cipher (const char *word, enum q2_cipher_alg *ret_alg,
               size_t *ret_bytes, struct qcow2_error *err)
{
  for (size_t i = 0; i < sizeof ciphers / sizeof ciphers[0]; ++i)
    if (strcmp (word, ciphers[i].name) == 0) {
      *ret_alg = ciphers[i].alg;
      *ret_bytes = ciphers[i].bytes;
      return 0;
    }
  return fail_word (err, "cipher", word, "aes-128, aes-192, aes-256, the same "
                    "of serpent and twofish, and cast5-128");
}

/* The mode as a header has it, which its reader then checks. */
static int
choose_mode (const struct qcow2_luks_options *o, enum q2_cipher_alg alg,
             struct q2_luks *luks, struct qcow2_error *err)
{
  const char *const mode = o->cipher_mode ? o->cipher_mode : "xts";
  const char *const iv = o->ivgen_alg ? o->ivgen_alg : "plain64";
  const char *const hash = o->ivgen_hash_alg ? o->ivgen_hash_alg : "sha256";
  const struct q2_cipher_spec plain = { .alg = alg, .mode = Q2_MODE_ECB };
  char name[Q2_CIPHER_NAME], ignored[Q2_CIPHER_NAME], text[80];
  struct qcow2_error why;

  if (strlen (mode) != 3)
    return fail_word (err, "mode", mode, "ecb, cbc, ctr and xts");
  q2_cipher_spec_encode (&plain, name, ignored);
  snprintf (text, sizeof text, "%s-%s%s%s", mode, iv,
            strcmp (iv, "essiv") == 0 ? ":" : "",
            strcmp (iv, "essiv") == 0 ? hash : "");
  if (strlen (text) < Q2_CIPHER_NAME &&
      q2_cipher_spec_decode (name, text, 0, &luks->spec, &why) == 0)
    return 0;
  return fail_word (err, "mode", text, "ecb, cbc, ctr and xts (the last for "
                    "ciphers with blocks of 16 bytes), with IVs of plain, "
                    "plain64, or essiv and a hash as long as a key of the "
                    "cipher");
}

int
q2_luks_choose (const struct qcow2_luks_options *o, struct q2_luks *ret,
                struct qcow2_error *err)
{
  const char *const hash = o->hash_alg ? o->hash_alg : "sha256";
  struct q2_luks luks = { .hash = Q2_HASH_SHA256 };
  enum q2_cipher_alg alg = Q2_CIPHER_AES;

  if (q2_cipher_check_built (err) == -1 ||
      choose_cipher (o->cipher_alg ? o->cipher_alg : "aes-256", &alg,
                     &luks.key_bytes, err) == -1 ||
      choose_mode (o, alg, &luks, err) == -1)
    return -1;
  if (!q2_hash_decode (hash, &luks.hash))
    return fail_word (err, "hash", hash, "sha1, sha224, sha256, sha384, "
                      "sha512, ripemd160, md5 and sm3");
  if (luks.spec.mode == Q2_MODE_XTS)
    luks.key_bytes *= 2;
  if (luks.key_bytes * Q2_LUKS_STRIPES % Q2_CRYPT_SECTOR != 0)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "no image is created with keys of %zu bits in mode %s: "
                    "their slots would not end with a sector, which other "
                    "programs cannot read",
                    luks.key_bytes * 8, o->cipher_mode);
  *ret = luks;
  return 0;
}

/* ---- Work ------------------------------------------------------------- */

static uint64_t
thread_us (void)
{
  struct timespec now;

  clock_gettime (CLOCK_THREAD_CPUTIME_ID, &now);
  return (uint64_t) now.tv_sec * 1000000 + (uint64_t) now.tv_nsec / 1000;
}

/* Iterations for a key of 'key_len' bytes that take 'ms' milliseconds. */
static int
measure (enum q2_hash hash, size_t key_len, unsigned ms, uint32_t *ret,
         struct qcow2_error *err)
{
  /* A slot must leave room for seven more: see Q2_LUKS_MAX_ROUNDS. */
  const uint64_t most = Q2_LUKS_MAX_ROUNDS / 16 /
    q2_pbkdf2_rounds (hash, 1, key_len);
  struct q2_work work = q2_work_begin (NULL, UINT64_MAX, "a new passphrase");
  unsigned char key[Q2_MAX_KEY_BYTES];
  uint64_t us = 0, iterations = MIN_ITERATIONS;
  int r = 0;

  while (r == 0 && us < 20000) {
    const uint64_t start = thread_us ();

    iterations *= 2;
    r = q2_pbkdf2 (hash, "x", 1, "salt", 4, (uint32_t) iterations, key,
                   key_len, &work, err);
    us = thread_us () - start;
  }
  q2_work_end (&work);
  *ret = (uint32_t) q2_max (q2_min (iterations * ms * 1000 / (us | 1), most),
                            MIN_ITERATIONS);
  return r;
}

int
q2_slot_make (const struct q2_luks *luks, struct q2_slot_secrets *secrets,
              const char *passphrase, size_t len, unsigned iter_time,
              struct q2_luks_slot *slot, unsigned char *material,
              struct qcow2_error *err)
{
  struct q2_work work;
  struct q2_cipher *cipher;
  int r;

  if (!q2_assume (luks->key_bytes > 0 && luks->key_bytes <= Q2_MAX_KEY_BYTES,
                  err) ||
      !q2_assume (luks->key_bytes * slot->stripes <= slot->material_bytes &&
                  slot->material_bytes % Q2_CRYPT_SECTOR == 0, err))
    return -1;
  if (q2_random (slot->salt, sizeof slot->salt, err) == -1 ||
      measure (luks->hash, luks->key_bytes,
               iter_time ? iter_time : Q2_SLOT_ITER_TIME, &slot->iterations,
               err) == -1)
    return -1;
  work = q2_work_begin (NULL, UINT64_MAX, "a new passphrase");
  r = q2_pbkdf2 (luks->hash, passphrase, len, slot->salt, sizeof slot->salt,
                 slot->iterations, secrets->slot_key, luks->key_bytes, &work,
                 err);
  q2_work_end (&work);
  if (r == -1)
    return -1;
  memset (material, 0, slot->material_bytes);
  if (q2_af_split (luks->hash, secrets->key, luks->key_bytes, slot->stripes,
                   material, err) == -1)
    return -1;
  cipher = q2_cipher_new (&luks->spec, secrets->slot_key, luks->key_bytes,
                          err);
  if (cipher == NULL)
    return -1;
  q2_cipher_encrypt (cipher, material, material, slot->material_bytes, 0);
  q2_cipher_free (cipher);
  return 0;
}

/* ---- A new header ----------------------------------------------------- */

/* The digest with which readers notice a wrong key. */
static int
make_digest (struct q2_luks *luks, const unsigned char *key,
             unsigned iter_time, struct qcow2_error *err)
{
  struct q2_work work;
  int r;

  if (q2_random (luks->digest_salt, sizeof luks->digest_salt, err) == -1 ||
      measure (luks->hash, Q2_LUKS_DIGEST,
               (iter_time ? iter_time : Q2_SLOT_ITER_TIME) / 8,
               &luks->digest_iterations, err) == -1)
    return -1;
  work = q2_work_begin (NULL, UINT64_MAX, "a new passphrase");
  r = q2_pbkdf2 (luks->hash, key, luks->key_bytes, luks->digest_salt,
                 sizeof luks->digest_salt, luks->digest_iterations,
                 luks->digest, sizeof luks->digest, &work, err);
  q2_work_end (&work);
  return r;
}

static int
make (const struct qcow2_luks_options *o, struct q2_luks *luks,
      struct q2_slot_secrets *secrets, const char *passphrase, size_t len,
      unsigned char *bytes, struct qcow2_error *err)
{
  struct q2_luks_slot *const slot = &luks->slots[0];
  unsigned char uuid[16];

  slot->active = true;
  slot->stripes = Q2_LUKS_STRIPES;
  slot->material_off = q2_luks_material_off (luks->key_bytes, 0);
  slot->material_bytes = q2_align_up (luks->key_bytes * Q2_LUKS_STRIPES,
                                      Q2_CRYPT_SECTOR);
  if (!q2_assume (slot->material_off >= Q2_LUKS_HEADER &&
                  slot->material_off + slot->material_bytes <=
                  q2_luks_bytes (luks->key_bytes), err))
    return -1;
  if (q2_random (uuid, sizeof uuid, err) == -1 ||
      q2_random (secrets->key, luks->key_bytes, err) == -1 ||
      make_digest (luks, secrets->key, o->iter_time_ms, err) == -1 ||
      q2_slot_make (luks, secrets, passphrase, len, o->iter_time_ms, slot,
                    bytes + slot->material_off, err) == -1)
    return -1;
  q2_luks_encode (luks, uuid, bytes);
  return 0;
}

int
q2_luks_make (const struct qcow2_luks_options *o, const char *passphrase,
              size_t len, unsigned char *ret_bytes, struct qcow2_error *err)
{
  struct q2_slot_secrets *secrets;
  struct q2_luks luks;
  int r;

  if (q2_luks_choose (o, &luks, err) == -1)
    return -1;
  secrets = q2_secret_alloc (sizeof *secrets);
  if (secrets == NULL)
    return q2_fail_nomem (err, "the key of the new image");
  memset (ret_bytes, 0, q2_luks_bytes (luks.key_bytes));
  r = make (o, &luks, secrets, passphrase, len, ret_bytes, err);
  q2_secret_free (secrets, sizeof *secrets);
  return r;
}
