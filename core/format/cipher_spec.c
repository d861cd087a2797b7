/* SPDX-License-Identifier: BSD-3-Clause */
/* cipher_spec.c - the names of ciphers, modes and hashes.
 *
 * Owns      the names, and which of them go together.
 * Method    tables, of the names on which QEMU and dm-crypt agree.
 *           codec/cipher.c knows which ciphers this program has.
 * Locks     none; pure.
 * Spec      LUKS on-disk format 1.2.3.
 */
#include "config.h"

#include "format/cipher_spec.h"

#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const struct {
  char name[12];
  size_t bytes;
} hashes[Q2_NR_HASHES] = {
  [Q2_HASH_MD5] = { "md5", 16 },
  [Q2_HASH_SHA1] = { "sha1", 20 },
  [Q2_HASH_SHA224] = { "sha224", 28 },
  [Q2_HASH_SHA256] = { "sha256", 32 },
  [Q2_HASH_SHA384] = { "sha384", 48 },
  [Q2_HASH_SHA512] = { "sha512", 64 },
  [Q2_HASH_RIPEMD160] = { "ripemd160", 20 },
  [Q2_HASH_SM3] = { "sm3", 32 },
};

static const char algs[][8] = {
  [Q2_CIPHER_AES] = "aes",
  [Q2_CIPHER_SERPENT] = "serpent",
  [Q2_CIPHER_TWOFISH] = "twofish",
  [Q2_CIPHER_CAST5] = "cast5",
};

static const char modes[][4] = {
  [Q2_MODE_ECB] = "ecb",
  [Q2_MODE_CBC] = "cbc",
  [Q2_MODE_CTR] = "ctr",
  [Q2_MODE_XTS] = "xts",
};

static const char ivs[][8] = {
  [Q2_IV_NONE] = "",
  [Q2_IV_PLAIN] = "plain",
  [Q2_IV_PLAIN64] = "plain64",
  [Q2_IV_ESSIV] = "essiv",
};

#define NR(array) (sizeof (array) / sizeof (array)[0])

bool
q2_hash_decode (const char *name, enum q2_hash *ret_hash)
{
  for (unsigned i = 0; i < NR (hashes); ++i)
    if (strcmp (name, hashes[i].name) == 0) {
      *ret_hash = (enum q2_hash) i;
      return true;
    }
  return false;
}

const char *
q2_hash_name (enum q2_hash hash)
{
  return hashes[hash].name;
}

void
q2_cipher_spec_encode (const struct q2_cipher_spec *spec,
                       char ret_name[Q2_CIPHER_NAME],
                       char ret_mode[Q2_CIPHER_NAME])
{
  const bool essiv = spec->iv == Q2_IV_ESSIV;

  memset (ret_name, 0, Q2_CIPHER_NAME);
  memset (ret_mode, 0, Q2_CIPHER_NAME);
  snprintf (ret_name, Q2_CIPHER_NAME, "%s", algs[spec->alg]);
  /* ECB has no use for an IV; other programs expect to find one all the same.
   */
  snprintf (ret_mode, Q2_CIPHER_NAME, "%.3s-%s%s%s", modes[spec->mode],
            ivs[spec->iv == Q2_IV_NONE ? Q2_IV_PLAIN64 : spec->iv],
            essiv ? ":" : "", essiv ? hashes[spec->iv_hash].name : "");
}

size_t
q2_hash_bytes (enum q2_hash hash)
{
  return hashes[hash].bytes;
}

static bool
takes_key (enum q2_cipher_alg alg, size_t bytes)
{
  return bytes == 16 ||
    (alg != Q2_CIPHER_CAST5 && (bytes == 24 || bytes == 32));
}

bool
q2_cipher_spec_takes_key (const struct q2_cipher_spec *spec,
                          size_t key_bytes)
{
  if (spec->mode == Q2_MODE_XTS)
    return key_bytes % 2 == 0 && takes_key (spec->alg, key_bytes / 2);
  return takes_key (spec->alg, key_bytes);
}

static bool
decode_alg (const char *name, enum q2_cipher_alg *ret_alg)
{
  for (unsigned i = 0; i < NR (algs); ++i)
    if (strcmp (name, algs[i]) == 0) {
      *ret_alg = (enum q2_cipher_alg) i;
      return true;
    }
  return false;
}

/* MODE[-IV[:HASH]]; the hash is ignored where it is not used. */
static bool
decode_mode (const char *s, struct q2_cipher_spec *spec)
{
  unsigned i;
  size_t len;

  for (i = 0; i < NR (modes); ++i)
    if (strncmp (s, modes[i], 3) == 0)
      break;
  if (i == NR (modes))
    return false;
  spec->mode = (enum q2_cipher_mode) i;
  s += 3;
  if (*s == '\0') {
    spec->iv = Q2_IV_NONE;
    return spec->mode == Q2_MODE_ECB;
  }
  if (*s++ != '-')
    return false;
  len = strcspn (s, ":");
  for (i = Q2_IV_PLAIN; i < NR (ivs); ++i)
    if (strlen (ivs[i]) == len && memcmp (s, ivs[i], len) == 0)
      break;
  if (i == NR (ivs))
    return false;
  spec->iv = (enum q2_cipher_iv) i;
  s += len;
  if (*s == '\0' ? spec->iv == Q2_IV_ESSIV
      : !q2_hash_decode (s + 1, &spec->iv_hash))
    return false;
  if (spec->mode == Q2_MODE_ECB)
    spec->iv = Q2_IV_NONE;
  return true;
}

int
q2_cipher_spec_decode (const char *name, const char *mode,
                       uint64_t host_off, struct q2_cipher_spec *ret_spec,
                       struct qcow2_error *err)
{
  struct q2_cipher_spec spec = { .iv_hash = Q2_HASH_SHA256 };
  const char *problem = NULL;
  char buf[2][32 * 4];

  if (!decode_alg (name, &spec.alg))
    problem = "aes, serpent, twofish and cast5 are known";
  else if (!decode_mode (mode, &spec))
    problem = "the modes ecb, cbc, ctr and xts are known, with plain, "
      "plain64 and essiv:HASH";
  else if (spec.mode == Q2_MODE_XTS && spec.alg == Q2_CIPHER_CAST5)
    problem = "cast5 has no xts mode";
  else if (spec.iv == Q2_IV_ESSIV &&
           !takes_key (spec.alg, q2_hash_bytes (spec.iv_hash)))
    problem = "the cipher has no keys as long as that hash";
  if (problem != NULL)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, host_off,
                    "the LUKS header at offset 0x%" PRIx64 " asks for the "
                    "cipher '%s' in mode '%s': %s", host_off,
                    q2_printable (buf[0], sizeof buf[0], name, strlen (name)),
                    q2_printable (buf[1], sizeof buf[1], mode, strlen (mode)),
                    problem);
  *ret_spec = spec;
  return 0;
}
