/* SPDX-License-Identifier: BSD-3-Clause */
/* luks.c - the LUKS header of an encrypted image.
 *
 * Owns      the layout of the header, and its rules.
 * Method    each field is read at its offset.  Inactive slots are ignored,
 *           since a deleted key may leave anything there.  So are the UUID and
 *           the payload's offset: in a qcow2 image the data does not follow
 *           the header.
 * Locks     none; pure.
 * Spec      LUKS on-disk format 1.2.3, "PHDR" and "key slot".
 */
#include "config.h"

#include "format/luks.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAGIC "LUKS\xba\xbe"
#define SECTOR 512
#define NAME 32                 /* bytes of a string, with its end */
#define SLOT_ACTIVE UINT32_C (0x00ac71f3)
#define SLOT_DISABLED UINT32_C (0x0000dead)

/* Where the fields are. */
enum {
  VERSION = 6,
  CIPHER_NAME = 8,
  CIPHER_MODE = 40,
  HASH_SPEC = 72,
  PAYLOAD = 104,
  KEY_BYTES = 108,
  MK_DIGEST = 112,
  MK_DIGEST_SALT = 132,
  MK_DIGEST_ITERATIONS = 164,
  UUID = 168,
  SLOTS = 208,
  SLOT_BYTES = 48,
};

/* The string, which must be shorter than its field; else fail. */
static const char *
string (const unsigned char *p, unsigned at, const char *what,
        uint64_t host_off, struct qcow2_error *err)
{
  if (memchr (p + at, '\0', NAME) != NULL)
    return (const char *) p + at;
  q2_fail (err, QCOW2_ERR_CORRUPT, host_off + at,
           "the LUKS header at offset 0x%" PRIx64 ": the name of its %s does "
           "not end", host_off, what);
  return NULL;
}

static int
check_start (const unsigned char *p, uint64_t host_off, uint64_t luks_bytes,
             struct qcow2_error *err)
{
  const unsigned version = load_be16 (p + VERSION);

  if (luks_bytes < Q2_LUKS_HEADER)
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                    "the LUKS header at offset 0x%" PRIx64 " has only "
                    "%" PRIu64 " bytes, less than the %d of any such header",
                    host_off, luks_bytes, Q2_LUKS_HEADER);
  if (memcmp (p, MAGIC, VERSION) != 0)
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off,
                    "there is no LUKS header at offset 0x%" PRIx64 ", where "
                    "the image says it is", host_off);
  if (version != 1)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, host_off + VERSION,
                    "the LUKS header at offset 0x%" PRIx64 " has version %u; "
                    "qcow2 images use version 1", host_off, version);
  return 0;
}

static int
decode_cipher (const unsigned char *p, uint64_t host_off,
               struct q2_luks *luks, struct qcow2_error *err)
{
  const char *const name = string (p, CIPHER_NAME, "cipher", host_off, err);
  const char *mode, *hash;
  char buf[NAME * 4];

  if (name == NULL ||
      (mode = string (p, CIPHER_MODE, "mode", host_off, err)) == NULL ||
      (hash = string (p, HASH_SPEC, "hash", host_off, err)) == NULL ||
      q2_cipher_spec_decode (name, mode, host_off, &luks->spec, err) == -1)
    return -1;
  if (!q2_hash_decode (hash, &luks->hash))
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, host_off + HASH_SPEC,
                    "the LUKS header at offset 0x%" PRIx64 " asks for the "
                    "hash '%s', which is not known", host_off,
                    q2_printable (buf, sizeof buf, hash, strlen (hash)));
  luks->key_bytes = load_be32 (p + KEY_BYTES);
  if (!q2_cipher_spec_takes_key (&luks->spec, luks->key_bytes))
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off + KEY_BYTES,
                    "the LUKS header at offset 0x%" PRIx64 " has a key of "
                    "%zu bytes, which its cipher '%s' in mode '%s' does not "
                    "take", host_off, luks->key_bytes, name, mode);
  return 0;
}

static int
fail_slot (struct qcow2_error *err, uint64_t host_off, unsigned nr,
           const char *what)
{
  return q2_fail (err, QCOW2_ERR_CORRUPT, host_off + SLOTS + nr * SLOT_BYTES,
                  "the LUKS header at offset 0x%" PRIx64 ": key slot %u %s",
                  host_off, nr, what);
}

/* What an active slot says of its key, or what a slot that is not active has
 * for the next one: the place must be one for a key.
 */
static int
decode_place (const unsigned char *p, unsigned nr, uint64_t host_off,
              uint64_t luks_bytes, const struct q2_luks *luks,
              unsigned nr_others, struct q2_luks_slot *s,
              struct qcow2_error *err)
{
  s->material_off = (uint64_t) load_be32 (p + 40) * SECTOR;
  s->stripes = load_be32 (p + 44);
  if (s->stripes == 0 || s->stripes > Q2_LUKS_MAX_STRIPES)
    return fail_slot (err, host_off, nr,
                      "does not have between 1 and 16000 stripes");
  s->material_bytes = q2_align_up (luks->key_bytes * s->stripes, SECTOR);
  if (s->material_off < Q2_LUKS_HEADER)
    return fail_slot (err, host_off, nr, "has its key inside the header");
  if (s->material_off + s->material_bytes > luks_bytes)
    return fail_slot (err, host_off, nr,
                      "has its key outside of the encryption header's "
                      "clusters");
  for (unsigned i = 0; i < nr_others; ++i) {
    const struct q2_luks_slot *const o = &luks->slots[i];

    if (o->active && o->material_off < s->material_off + s->material_bytes &&
        s->material_off < o->material_off + o->material_bytes)
      return fail_slot (err, host_off, nr,
                        "has its key where another slot has one");
  }
  return 0;
}

static int
decode_slot (const unsigned char *header, unsigned nr, uint64_t host_off,
             uint64_t luks_bytes, struct q2_luks *luks,
             struct qcow2_error *err)
{
  const unsigned char *const p = header + SLOTS + nr * SLOT_BYTES;
  const uint32_t state = load_be32 (p);
  struct q2_luks_slot *const s = &luks->slots[nr];

  *s = (struct q2_luks_slot) { .active = state == SLOT_ACTIVE };
  if (state == SLOT_DISABLED)
    return 0;
  if (state != SLOT_ACTIVE)
    return fail_slot (err, host_off, nr, "is neither active nor disabled");
  s->iterations = load_be32 (p + 4);
  memcpy (s->salt, p + 8, sizeof s->salt);
  if (s->iterations == 0)
    return fail_slot (err, host_off, nr, "has an iteration count of 0");
  return decode_place (p, nr, host_off, luks_bytes, luks, nr, s, err);
}

int
q2_luks_decode (const void *bytes, uint64_t host_off, uint64_t luks_bytes,
                struct q2_luks *ret_luks, struct qcow2_error *err)
{
  const unsigned char *const p = bytes;
  struct q2_luks luks;

  if (check_start (p, host_off, luks_bytes, err) == -1 ||
      decode_cipher (p, host_off, &luks, err) == -1)
    return -1;
  memcpy (luks.digest, p + MK_DIGEST, sizeof luks.digest);
  memcpy (luks.digest_salt, p + MK_DIGEST_SALT, sizeof luks.digest_salt);
  luks.digest_iterations = load_be32 (p + MK_DIGEST_ITERATIONS);
  if (luks.digest_iterations == 0)
    return q2_fail (err, QCOW2_ERR_CORRUPT, host_off + MK_DIGEST_ITERATIONS,
                    "the LUKS header at offset 0x%" PRIx64 " has an "
                    "iteration count of 0 for the digest of its key",
                    host_off);
  for (unsigned i = 0; i < Q2_LUKS_SLOTS; ++i)
    if (decode_slot (p, i, host_off, luks_bytes, &luks, err) == -1)
      return -1;
  *ret_luks = luks;
  return 0;
}

/* ---- Writing ---------------------------------------------------------- */

static uint64_t
material_bytes (size_t key_bytes)
{
  return q2_align_up (key_bytes * Q2_LUKS_STRIPES, Q2_LUKS_ALIGN);
}

uint64_t
q2_luks_material_off (size_t key_bytes, unsigned nr)
{
  return Q2_LUKS_ALIGN + nr * material_bytes (key_bytes);
}

uint64_t
q2_luks_bytes (size_t key_bytes)
{
  return q2_luks_material_off (key_bytes, Q2_LUKS_SLOTS);
}

void
q2_luks_encode_parameters (unsigned nr, const struct q2_luks_slot *s,
                           struct q2_luks_bytes *ret)
{
  unsigned char *const p = ret->bytes;

  (void) q2_check (nr < Q2_LUKS_SLOTS);
  ret->off = SLOTS + nr * SLOT_BYTES + 4;
  ret->len = 36;
  store_be32 (p, s->iterations);
  memcpy (p + 4, s->salt, sizeof s->salt);
}

void
q2_luks_encode_state (unsigned nr, bool active, struct q2_luks_bytes *ret)
{
  ret->off = SLOTS + nr * SLOT_BYTES;
  ret->len = 4;
  store_be32 (ret->bytes, active ? SLOT_ACTIVE : SLOT_DISABLED);
}

static void
put (unsigned char *header, const struct q2_luks_bytes *piece)
{
  memcpy (header + piece->off, piece->bytes, piece->len);
}

static void
encode_slot (unsigned char *header, unsigned nr, const struct q2_luks *luks)
{
  unsigned char *const p = header + SLOTS + nr * SLOT_BYTES;
  struct q2_luks_bytes piece;

  q2_luks_encode_parameters (nr, &luks->slots[nr], &piece);
  put (header, &piece);
  q2_luks_encode_state (nr, luks->slots[nr].active, &piece);
  put (header, &piece);
  store_be32 (p + 40, (uint32_t)
              (q2_luks_material_off (luks->key_bytes, nr) / SECTOR));
  store_be32 (p + 44, Q2_LUKS_STRIPES);
}

/* As text, with the bits that say that it is random. */
static void
encode_uuid (const unsigned char uuid[16], char *ret)
{
  snprintf (ret, 37, "%02x%02x%02x%02x-%02x%02x-4%x%02x-%02x%02x-"
            "%02x%02x%02x%02x%02x%02x", uuid[0], uuid[1], uuid[2], uuid[3],
            uuid[4], uuid[5], uuid[6] & 15, uuid[7], (uuid[8] & 63) | 128,
            uuid[9], uuid[10], uuid[11], uuid[12], uuid[13], uuid[14],
            uuid[15]);
}

void
q2_luks_encode (const struct q2_luks *luks, const unsigned char uuid[16],
                unsigned char ret[Q2_LUKS_HEADER])
{
  memset (ret, 0, Q2_LUKS_HEADER);
  memcpy (ret, MAGIC, VERSION);
  store_be16 (ret + VERSION, 1);
  q2_cipher_spec_encode (&luks->spec, (char *) ret + CIPHER_NAME,
                         (char *) ret + CIPHER_MODE);
  strcpy ((char *) ret + HASH_SPEC, q2_hash_name (luks->hash));
  store_be32 (ret + PAYLOAD, (uint32_t)
              (q2_luks_bytes (luks->key_bytes) / SECTOR));
  store_be32 (ret + KEY_BYTES, (uint32_t) luks->key_bytes);
  memcpy (ret + MK_DIGEST, luks->digest, sizeof luks->digest);
  memcpy (ret + MK_DIGEST_SALT, luks->digest_salt, sizeof luks->digest_salt);
  store_be32 (ret + MK_DIGEST_ITERATIONS, luks->digest_iterations);
  encode_uuid (uuid, (char *) ret + UUID);
  for (unsigned i = 0; i < Q2_LUKS_SLOTS; ++i)
    encode_slot (ret, i, luks);
}

int
q2_luks_free_slot (const void *bytes, uint64_t host_off, uint64_t luks_bytes,
                   const struct q2_luks *luks, unsigned nr,
                   struct q2_luks_slot *ret, struct qcow2_error *err)
{
  const unsigned char *const p = bytes;

  *ret = (struct q2_luks_slot) { .active = false };
  return decode_place (p + SLOTS + nr * SLOT_BYTES, nr, host_off, luks_bytes,
                       luks, Q2_LUKS_SLOTS, ret, err);
}

/* What would do something to a terminal. */
static void
make_printable (char *s)
{
  for (; *s; ++s)
    if (*s < ' ' || *s > '~')
      *s = '?';
}

bool
q2_luks_describe (const void *bytes, struct qcow2_luks *ret)
{
  const unsigned char *const p = bytes;

  if (memcmp (p, MAGIC, VERSION) != 0)
    return false;
  *ret = (struct qcow2_luks) {
    .key_bytes = load_be32 (p + KEY_BYTES),
    .digest_iterations = load_be32 (p + MK_DIGEST_ITERATIONS),
    .payload_offset = (uint64_t) load_be32 (p + PAYLOAD) * SECTOR,
  };
  memcpy (ret->cipher, p + CIPHER_NAME, NAME);
  memcpy (ret->mode, p + CIPHER_MODE, NAME);
  memcpy (ret->hash, p + HASH_SPEC, NAME);
  memcpy (ret->uuid, p + UUID, SLOTS - UUID);
  make_printable (ret->cipher);
  make_printable (ret->mode);
  make_printable (ret->hash);
  make_printable (ret->uuid);
  for (unsigned i = 0; i < Q2_LUKS_SLOTS; ++i) {
    const unsigned char *const slot = p + SLOTS + i * SLOT_BYTES;
    const bool active = load_be32 (slot) == SLOT_ACTIVE;

    ret->slots[i] = (struct qcow2_key_slot) {
      .active = active, .iterations = active ? load_be32 (slot + 4) : 0,
      .key_offset = (uint64_t) load_be32 (slot + 40) * SECTOR,
      .stripes = active ? load_be32 (slot + 44) : 0,
    };
  }
  return true;
}
