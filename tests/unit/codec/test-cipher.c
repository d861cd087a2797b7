/* SPDX-License-Identifier: BSD-3-Clause */
/* test-cipher.c - ciphers, hashes and keys against the results of other
 * programs.
 */
#include "config.h"

#include "codec/afsplit.h"
#include "codec/cipher.h"
#include "codec/hash.h"
#include "codec/pbkdf.h"

#include "cipher_vectors.h"
#include "threads.h"
#include "unit.h"

/* What the strings of a LUKS header may say; this needs no nettle. */
static void
test_spec (void)
{
  static const struct {
    const char *name, *mode;
    size_t key_bytes;           /* 0: refused */
  } specs[] = {
    { "aes", "xts-plain64", 64 }, { "aes", "xts-plain", 48 },
    { "aes", "xts-plain64", 32 }, { "aes", "cbc-essiv:sha256", 32 },
    { "aes", "cbc-essiv:md5", 16 }, { "aes", "cbc-plain64:sha1", 24 },
    { "serpent", "ctr-plain64", 24 }, { "twofish", "ecb-plain64", 16 },
    { "cast5", "cbc-plain", 16 }, { "cast5", "cbc-essiv:md5", 16 },
    { "aes", "ecb", 16 },
    /* A hash as long as no key of the cipher. */
    { "aes", "cbc-essiv:sha1", 0 }, { "aes", "xts-essiv:sha512", 0 },
    { "aes", "cbc-essiv:ripemd160", 0 }, { "aes", "cbc-essiv:sha384", 0 },
    { "cast5", "cbc-essiv:sha256", 0 }, { "cast5", "xts-plain64", 0 },
    /* No sense at all. */
    { "", "xts-plain64", 0 }, { "AES", "xts-plain64", 0 },
    { "aes-256", "xts-plain64", 0 }, { "3des", "cbc-plain64", 0 },
    { "aes", "", 0 }, { "aes", "xts", 0 }, { "aes", "xts-", 0 },
    { "aes", "cbc", 0 }, { "aes", "lrw-plain64", 0 }, { "aes", "x", 0 },
    { "aes", "xts-plain641", 0 }, { "aes", "xts-plai", 0 },
    { "aes", "xts_plain", 0 }, { "aes", "xtsplain", 0 },
    { "aes", "cbc-essiv", 0 }, { "aes", "cbc-essiv:", 0 },
    { "aes", "cbc-essiv:sha", 0 }, { "aes", "cbc-plain64:", 0 },
    { "aes", "cbc-plain64:x", 0 }, { "aes", "ecb-", 0 },
    { "a\nb'\\", "\x1b[2J\xff", 0 },
  };

  for (unsigned i = 0; i < sizeof specs / sizeof specs[0]; ++i) {
    struct q2_cipher_spec spec;
    struct qcow2_error err;
    const int r = q2_cipher_spec_decode (specs[i].name, specs[i].mode, 4096,
                                         &spec, &err);

    unit_context ("%s %s", specs[i].name, specs[i].mode);
    if (specs[i].key_bytes == 0) {
      CHECK_EQ (r, -1);
      CHECK_ERROR (&err, QCOW2_ERR_UNSUPPORTED, 4096);
      CHECK (strpbrk (err.text, "\n\x1b") == NULL);
      continue;
    }
    CHECK_EQ (r, 0);
    CHECK (q2_cipher_spec_takes_key (&spec, specs[i].key_bytes));
    for (size_t n = 0; n < 200; ++n)
      if (q2_cipher_spec_takes_key (&spec, n)) {
        const size_t one = spec.mode == Q2_MODE_XTS ? n / 2 : n;

        CHECK (n <= Q2_MAX_KEY_BYTES);
        CHECK (one == 16 ||
               (spec.alg != Q2_CIPHER_CAST5 && (one == 24 || one == 32)));
      }
  }
  unit_context ("%s", "");
}

#ifdef HAVE_NETTLE
#include <nettle/cbc.h>
#include <nettle/ctr.h>
#include <nettle/nettle-meta.h>
#include <nettle/twofish.h>
#include <nettle/xts.h>

#define BYTES (VECTOR_SECTORS * Q2_CRYPT_SECTOR)

/* With room to move what is encrypted to any alignment. */
static unsigned char plain[BYTES], out[BYTES + 32], again[BYTES + 32];

/* The bytes that cipher-vectors.py takes too. */
static void
fill_bytes (unsigned char *p, size_t n, unsigned a, unsigned b)
{
  for (size_t i = 0; i < n; ++i)
    p[i] = (unsigned char) (i * a + (i >> 8) * 31 + b);
}

static void
check_sha256 (const void *bytes, size_t len, const char *hex)
{
  unsigned char digest[32];
  char text[65];

  q2_hash_digest (Q2_HASH_SHA256, NULL, 0, bytes, len, digest);
  for (unsigned i = 0; i < 32; ++i)
    snprintf (text + 2 * i, 3, "%02x", digest[i]);
  CHECK (strcmp (text, hex) == 0);
}

static struct q2_cipher *
new_cipher (const char *name, const char *mode, size_t key_bytes)
{
  unsigned char key[Q2_MAX_KEY_BYTES];
  struct q2_cipher_spec spec;
  struct qcow2_error err;
  struct q2_cipher *c;

  fill_bytes (key, key_bytes, 29, 5);
  REQUIRE (q2_cipher_spec_decode (name, mode, 0, &spec, &err) == 0);
  c = q2_cipher_new (&spec, key, key_bytes, &err);
  REQUIRE (c != NULL);
  return c;
}

/* All ways to split it into calls, and to put it in memory, come to the same.
 */
static void
check_ways (const struct q2_cipher *c)
{
  for (unsigned step = 1; step < VECTOR_SECTORS; step += 1 + step / 3) {
    for (unsigned at = 0; at < VECTOR_SECTORS; at += step) {
      const size_t n = (at + step < VECTOR_SECTORS ? step
                        : VECTOR_SECTORS - at) * Q2_CRYPT_SECTOR;

      q2_cipher_encrypt (c, again + 1 + at * Q2_CRYPT_SECTOR,
                         plain + at * Q2_CRYPT_SECTOR, n, VECTOR_FIRST + at);
    }
    CHECK_BYTES (again + 1, out, BYTES);
    for (unsigned at = 0; at < VECTOR_SECTORS; at += step) {
      const size_t n = (at + step < VECTOR_SECTORS ? step
                        : VECTOR_SECTORS - at) * Q2_CRYPT_SECTOR;

      q2_cipher_decrypt (c, again + 1 + at * Q2_CRYPT_SECTOR,
                         again + 1 + at * Q2_CRYPT_SECTOR, n,
                         VECTOR_FIRST + at);
    }
    CHECK_BYTES (again + 1, plain, BYTES);
  }
  /* Neither end of the buffer is passed, nothing is done for nothing. */
  memset (again, 0x77, sizeof again);
  q2_cipher_decrypt (c, again + 3, out, BYTES, VECTOR_FIRST);
  CHECK_BYTES (again + 3, plain, BYTES);
  q2_cipher_encrypt (c, again + 3, again + 3, 0, 0);
  q2_cipher_encrypt (c, again + 3, again + 3, BYTES, VECTOR_FIRST);
  CHECK_BYTES (again + 3, out, BYTES);
  for (unsigned i = 0; i < 3; ++i)
    CHECK_EQ (again[i], 0x77);
  for (unsigned i = 3 + BYTES; i < sizeof again; ++i)
    CHECK_EQ (again[i], 0x77);
}

static void
test_vectors (void)
{
  for (unsigned i = 0; i < sizeof vectors / sizeof vectors[0]; ++i) {
    struct q2_cipher *const c =
      new_cipher (vectors[i].name, vectors[i].mode, vectors[i].key_bytes);

    unit_context ("%s %s %zu", vectors[i].name, vectors[i].mode,
                  vectors[i].key_bytes);
    q2_cipher_encrypt (c, out, plain, BYTES, VECTOR_FIRST);
    check_sha256 (out, BYTES, vectors[i].sha256);
    check_ways (c);
    q2_cipher_free (c);
  }
  unit_context ("%s", "");
  q2_cipher_free (NULL);
}

/* nettle's own functions for modes, sector by sector: for twofish-192, which
 * libgcrypt does not have.
 */
static void
test_twofish_192 (void)
{
  unsigned char key[48], iv[16];
  struct twofish_ctx k1, k2;
  struct q2_cipher *c;

  fill_bytes (key, sizeof key, 29, 5);
  nettle_twofish192.set_encrypt_key (&k1, key);
  nettle_twofish192.set_encrypt_key (&k2, key + 24);
  for (unsigned mode = 0; mode < 3; ++mode) {
    static const char *const modes[] = {
      "xts-plain64", "cbc-plain64", "ctr-plain64"
    };

    unit_context ("%s", modes[mode]);
    c = new_cipher ("twofish", modes[mode], mode == 0 ? 48 : 24);
    q2_cipher_encrypt (c, out, plain, BYTES, VECTOR_FIRST);
    for (unsigned i = 0; i < VECTOR_SECTORS; ++i) {
      unsigned char *const to = again + i * Q2_CRYPT_SECTOR;
      const unsigned char *const from = plain + i * Q2_CRYPT_SECTOR;

      memset (iv, 0, sizeof iv);
      for (unsigned j = 0; j < 8; ++j)
        iv[j] = (unsigned char) ((VECTOR_FIRST + i) >> (8 * j));
      if (mode == 0)
        xts_encrypt_message (&k1, &k2, nettle_twofish192.encrypt, iv,
                             Q2_CRYPT_SECTOR, to, from);
      else if (mode == 1)
        cbc_encrypt (&k1, nettle_twofish192.encrypt, 16, iv, Q2_CRYPT_SECTOR,
                     to, from);
      else
        ctr_crypt (&k1, nettle_twofish192.encrypt, 16, iv, Q2_CRYPT_SECTOR,
                   to, from);
    }
    CHECK_BYTES (out, again, BYTES);
    check_ways (c);
    q2_cipher_free (c);
  }
  unit_context ("%s", "");
}

/* "plain" knows 32 bits of a sector's number. */
static void
test_plain_wraps (void)
{
  struct q2_cipher *const c = new_cipher ("aes", "xts-plain", 64);

  q2_cipher_encrypt (c, out, plain, BYTES, UINT64_C (0x700000005));
  q2_cipher_encrypt (c, again, plain, BYTES, 5);
  CHECK_BYTES (out, again, BYTES);
  q2_cipher_free (c);
}

/* Made with
 *   printf '%512s' | openssl enc -aes-128-cbc -nopad -K KEY \
 *     -iv 7b000000000000000000000000000000 | sha256sum
 */
static void
test_legacy (void)
{
  static const char zero_key[] =    /* 16 zeros */
    "8be94fa9543f81d232a19ec5bf397fcde1fabaf9d9112a163969a4fc7b1224a0";
  static const char full_key[] =    /* 30 .. 39, 61 .. 66 */
    "5166b28ab08df5425b57744e48b4f1978ef23cfe738b5926fc6ed0e9ac7dc5c3";
  static const char sesame_key[] =  /* 73 65 73 61 6d 65, 10 zeros */
    "bc13eddc546dd4762bc84e4fc3c6e61768af10867a1fa2fe99f415efd6571948";
  static const struct {
    const char *passphrase, *sha256;
  } keys[] = {
    { "", zero_key }, { "sesame", sesame_key },
    { "0123456789abcdef", full_key }, { "0123456789abcdefXYZ", full_key },
  };
  unsigned char spaces[Q2_CRYPT_SECTOR];
  struct qcow2_error err;

  memset (spaces, ' ', sizeof spaces);
  for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; ++i) {
    struct q2_cipher *const c =
      q2_cipher_aes_legacy (keys[i].passphrase, strlen (keys[i].passphrase),
                            &err);

    unit_context ("passphrase '%s'", keys[i].passphrase);
    REQUIRE (c != NULL);
    q2_cipher_encrypt (c, out, spaces, sizeof spaces, 0x7b);
    check_sha256 (out, sizeof spaces, keys[i].sha256);
    q2_cipher_free (c);
  }
  unit_context ("%s", "");
}

static void
test_pbkdf2 (void)
{
  struct q2_work unbounded = q2_work_begin (NULL, UINT64_MAX, "a key");
  struct qcow2_error err;
  unsigned char salt[32], key[DERIVED_BYTES];
  char secret[256];

  fill_bytes (salt, sizeof salt, 11, 3);
  memset (secret, 's', sizeof secret);
  for (unsigned i = 0; i < sizeof derived / sizeof derived[0]; ++i) {
    enum q2_hash hash;

    unit_context ("%s, %zu", derived[i].hash, derived[i].secret_len);
    REQUIRE (q2_hash_decode (derived[i].hash, &hash));
    if (q2_pbkdf2 (hash, secret, derived[i].secret_len, salt, sizeof salt,
               DERIVED_ITERATIONS, key, sizeof key, &unbounded, &err) == -1)
      abort ();
    check_sha256 (key, sizeof key, derived[i].sha256);
  }
  unit_context ("%s", "");
  CHECK_EQ (q2_pbkdf2_rounds (Q2_HASH_SHA1, 3, 64), 12);
  CHECK_EQ (q2_pbkdf2_rounds (Q2_HASH_SHA512, UINT32_MAX, 64), UINT32_MAX);
  CHECK_EQ (q2_pbkdf2_rounds (Q2_HASH_MD5, UINT32_MAX, 64),
            4 * (uint64_t) UINT32_MAX);
}

/* One stripe is the key; with two, the hash of the first is added. */
static void
test_af_merge (void)
{
  unsigned char split[2 * 48], key[48], digest[32];

  fill_bytes (split, sizeof split, 3, 1);
  q2_af_merge (Q2_HASH_SHA256, split, 48, 1, key);
  CHECK_BYTES (key, split, 48);
  q2_af_merge (Q2_HASH_SHA256, split, 48, 2, key);
  q2_hash_digest (Q2_HASH_SHA256, "\0\0\0\0", 4, split, 32, digest);
  for (unsigned i = 0; i < 32; ++i)
    CHECK_EQ (key[i], digest[i] ^ split[48 + i]);
  q2_hash_digest (Q2_HASH_SHA256, "\0\0\0\1", 4, split + 32, 16, digest);
  for (unsigned i = 0; i < 16; ++i)
    CHECK_EQ (key[32 + i], digest[i] ^ split[80 + i]);
}

static void
use_cipher (void *arg, unsigned nr)
{
  const struct q2_cipher *const c = arg;
  unsigned char buf[3 * Q2_CRYPT_SECTOR], copy[sizeof buf];

  memset (buf, (int) nr, sizeof buf);
  memcpy (copy, buf, sizeof buf);
  for (unsigned i = 0; i < 200; ++i) {
    q2_cipher_encrypt (c, buf, buf, sizeof buf, nr + i);
    CHECK (memcmp (buf, copy, sizeof buf) != 0);
    q2_cipher_decrypt (c, buf, buf, sizeof buf, nr + i);
    CHECK_BYTES (buf, copy, sizeof buf);
  }
}

static void
test_threads (void)
{
  struct q2_cipher *const c = new_cipher ("serpent", "xts-essiv:sha256", 64);
  struct threads threads;

  threads_start (&threads, 4, use_cipher, c);
  threads_join (&threads);
  q2_cipher_free (c);
}

int
main (void)
{
  fill_bytes (plain, sizeof plain, 7, 1);
  test_spec ();
  test_vectors ();
  test_twofish_192 ();
  test_plain_wraps ();
  test_legacy ();
  test_pbkdf2 ();
  test_af_merge ();
  test_threads ();
  return unit_finish ();
}

#else /* !HAVE_NETTLE */

int
main (void)
{
  const struct q2_cipher_spec spec = { .mode = Q2_MODE_XTS };
  struct qcow2_error err;

  test_spec ();
  CHECK (q2_cipher_new (&spec, vectors, 64, &err) == NULL);
  CHECK_ERROR (&err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET);
  CHECK (q2_cipher_aes_legacy ("x", 1, &err) == NULL);
  CHECK_ERROR (&err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET);
  CHECK (derived[0].secret_len == 0);
  q2_cipher_free (NULL);
  return unit_finish ();
}

#endif
