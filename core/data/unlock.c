/* SPDX-License-Identifier: BSD-3-Clause */
/* unlock.c - opens the LUKS header of an image with a passphrase.
 *
 * Owns      the order of slots, and the bound of the work.
 * Method    for each active slot, PBKDF2 makes a key from the passphrase.  It
 *           decrypts the slot's key material, whose stripes merge to a
 *           candidate for the key of the disk.  A digest in the header
 *           verifies it.  A slot that would exceed the bound is skipped, so
 *           that the others are tried. The keyring saves all of this for known
 *           keys and, for a while, for failures that took much work.
 * Locks     none; one call, one thread.
 * Spec      LUKS on-disk format 1.2.3, "Master key recovery".
 *
 * Everything that depends on the passphrase or the key is in one allocation,
 * which is always wiped.  Remains of nettle's functions on the stack are not.
 */
#include "config.h"

#include "data/unlock.h"

#include "base/error.h"
#include "base/secret.h"
#include "codec/afsplit.h"
#include "codec/pbkdf.h"
#include "format/luks.h"
#include "data/keyring.h"

#include <inttypes.h>
#include <string.h>

struct secrets {
  unsigned char slot_key[Q2_MAX_KEY_BYTES];
  unsigned char key[Q2_MAX_KEY_BYTES];
  unsigned char digest[Q2_LUKS_DIGEST];
  unsigned char material[];
};

struct unlock {
  const struct q2_io *io;
  uint64_t luks_offset;
  const char *passphrase;
  size_t len;
  struct qcow2_keyring *keyring; /* or NULL */
  struct q2_luks luks;
  unsigned slots;               /* a bit for each that may be tried */
  unsigned opened;              /* the one that opened */
  uint64_t rounds_left;
  struct q2_work work;          /* the bound, and whether a client waits */
  struct secrets *secrets;
};

/* The work of trying a slot. */
static uint64_t
rounds (const struct q2_luks *luks, const struct q2_luks_slot *slot)
{
  return q2_pbkdf2_rounds (luks->hash, slot->iterations, luks->key_bytes) +
    q2_pbkdf2_rounds (luks->hash, luks->digest_iterations, Q2_LUKS_DIGEST);
}

/* Has no branch that depends on the bytes. */
static bool
is_equal (const unsigned char *a, const unsigned char *b, size_t len)
{
  unsigned char diff = 0;

  for (size_t i = 0; i < len; ++i)
    diff |= a[i] ^ b[i];
  return diff == 0;
}

/* secrets->material := the decrypted key material of the slot. */
static int
read_material (const struct unlock *u, const struct q2_luks_slot *slot,
               struct qcow2_error *err)
{
  struct secrets *const s = u->secrets;
  struct q2_cipher *cipher;

  if (q2_io_read (u->io, s->material, slot->material_bytes,
                  u->luks_offset + slot->material_off, QCOW2_IO_HEADER,
                  err) == -1)
    return -1;
  cipher = q2_cipher_new (&u->luks.spec, s->slot_key, u->luks.key_bytes, err);
  if (cipher == NULL)
    return -1;
  q2_cipher_decrypt (cipher, s->material, s->material, slot->material_bytes,
                     0);
  q2_cipher_free (cipher);
  return 0;
}

/* Returns 1 if the slot opens, with the key in secrets->key, 0 if not. */
static int
try_slot (struct unlock *u, const struct q2_luks_slot *slot,
          struct qcow2_error *err)
{
  const struct q2_luks *const luks = &u->luks;
  struct secrets *const s = u->secrets;

  if (q2_pbkdf2 (luks->hash, u->passphrase, u->len, slot->salt,
                 sizeof slot->salt, slot->iterations, s->slot_key,
                 luks->key_bytes, &u->work, err) == -1 ||
      read_material (u, slot, err) == -1)
    return -1;
  q2_af_merge (luks->hash, s->material, luks->key_bytes, slot->stripes,
               s->key);
  if (q2_pbkdf2 (luks->hash, s->key, luks->key_bytes, luks->digest_salt,
                 sizeof luks->digest_salt, luks->digest_iterations,
                 s->digest, sizeof s->digest, &u->work, err) == -1)
    return -1;
  return is_equal (s->digest, luks->digest, sizeof s->digest);
}

static int
fail_all (const struct unlock *u, unsigned tried, unsigned passed_over,
          struct qcow2_error *err)
{
  if (passed_over > 0)
    return q2_fail_advise (err, QCOW2_ERR_AUTH, QCOW2_ADVICE_KEY_SLOTS,
                           u->luks_offset,
                           "the passphrase opens none of the %u key slots "
                           "that were tried, and %u were not, because their "
                           "iteration counts ask for too much work", tried,
                           passed_over);
  if (tried == 0)
    return q2_fail (err, QCOW2_ERR_AUTH, u->luks_offset,
                    "the LUKS header at offset 0x%" PRIx64 " has no active "
                    "key slot: no passphrase opens the image any more",
                    u->luks_offset);
  return q2_fail_advise (err, QCOW2_ERR_AUTH, QCOW2_ADVICE_OTHER_PASSPHRASE,
                         u->luks_offset, "no key slot of the image opens with "
                         "the passphrase given");
}

/* Leaves the key in secrets->key. */
static int
try_slots (struct unlock *u, struct qcow2_error *err)
{
  unsigned tried = 0, passed_over = 0;

  for (unsigned i = 0; i < Q2_LUKS_SLOTS; ++i) {
    const struct q2_luks_slot *const slot = &u->luks.slots[i];
    uint64_t cost;
    int r;

    if (!slot->active || !(u->slots >> i & 1))
      continue;
    cost = rounds (&u->luks, slot);
    if (cost > u->rounds_left) {
      passed_over++;
      continue;
    }
    u->rounds_left -= cost;
    tried++;
    r = try_slot (u, slot, err);
    u->opened = i;
    if (r != 0)
      return r == 1 ? 0 : -1;
  }
  return fail_all (u, tried, passed_over, err);
}

/* Leaves the key in secrets->key; 'header' is the raw one. */
static int
find_key (struct unlock *u, const unsigned char *header,
          struct qcow2_error *err)
{
  const struct q2_keyring_query query = {
    .header = header, .passphrase = u->passphrase, .len = u->len,
  };

  struct q2_keyring_try try = { .query = &query };
  int r;

  if (u->keyring == NULL)
    return try_slots (u, err);
  r = q2_keyring_begin (u->keyring, &try, u->work.budget, u->secrets->key,
                        err);
  if (r != 0)
    return r == 1 ? 0 : -1;
  r = try_slots (u, err);
  q2_keyring_end (u->keyring, &try, r == 0 ? u->secrets->key : NULL,
                  Q2_LUKS_MAX_ROUNDS - u->rounds_left, err);
  return r;
}

static size_t
secrets_size (const struct q2_luks *luks)
{
  size_t material = 0;

  for (unsigned i = 0; i < Q2_LUKS_SLOTS; ++i)
    material = q2_max (material, luks->slots[i].material_bytes);
  return sizeof (struct secrets) + material;
}

/* Reads the header, and makes room for what is secret. */
static int
begin (struct unlock *u, uint64_t luks_bytes,
       unsigned char header[Q2_LUKS_HEADER], size_t *ret_size,
       struct qcow2_error *err)
{
  u->slots = (1u << Q2_LUKS_SLOTS) - 1;
  u->rounds_left = Q2_LUKS_MAX_ROUNDS;
  if (q2_cipher_check_built (err) == -1 ||
      q2_io_read (u->io, header, Q2_LUKS_HEADER, u->luks_offset,
                  QCOW2_IO_HEADER, err) == -1 ||
      q2_luks_decode (header, u->luks_offset, luks_bytes, &u->luks, err)
      == -1)
    return -1;
  *ret_size = secrets_size (&u->luks);
  u->secrets = q2_secret_alloc (*ret_size);
  if (u->secrets == NULL)
    return q2_fail_nomem (err, "the key of the image");
  u->work = q2_work_begin (q2_io_budget (u->io), UINT64_MAX,
                           "trying the passphrase");
  return 0;
}

int
q2_luks_unlock (const struct q2_io *io, uint64_t luks_offset,
                uint64_t luks_bytes, const char *passphrase, size_t len,
                struct qcow2_keyring *keyring, struct q2_cipher **ret_cipher,
                struct qcow2_error *err)
{
  struct unlock u = {
    .io = io, .luks_offset = luks_offset, .passphrase = passphrase,
    .len = len, .keyring = keyring,
  };
  unsigned char header[Q2_LUKS_HEADER];
  struct q2_cipher *cipher = NULL;
  size_t size;

  if (begin (&u, luks_bytes, header, &size, err) == -1)
    return -1;
  if (find_key (&u, header, err) == 0)
    cipher = q2_cipher_new (&u.luks.spec, u.secrets->key, u.luks.key_bytes,
                            err);
  q2_work_end (&u.work);
  q2_secret_free (u.secrets, size);
  if (cipher == NULL)
    return -1;
  *ret_cipher = cipher;
  return 0;
}

int
q2_luks_recover (const struct q2_io *io, uint64_t luks_offset,
                 uint64_t luks_bytes, const char *passphrase, size_t len,
                 unsigned slots, struct q2_luks *ret_luks, unsigned *ret_slot,
                 unsigned char ret_key[Q2_MAX_KEY_BYTES],
                 struct qcow2_error *err)
{
  struct unlock u = {
    .io = io, .luks_offset = luks_offset, .passphrase = passphrase,
    .len = len,
  };
  unsigned char header[Q2_LUKS_HEADER];
  size_t size;
  int r;

  if (begin (&u, luks_bytes, header, &size, err) == -1)
    return -1;
  u.slots &= slots;
  r = try_slots (&u, err);
  if (r == 0) {
    *ret_luks = u.luks;
    *ret_slot = u.opened;
    memcpy (ret_key, u.secrets->key, Q2_MAX_KEY_BYTES);
  }
  q2_work_end (&u.work);
  q2_secret_free (u.secrets, size);
  return r;
}
