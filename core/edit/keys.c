/* SPDX-License-Identifier: BSD-3-Clause */
/* keys.c - key slots of an encrypted image.
 *
 * Owns      adding and removing them.
 * Method    a slot is made while it is inactive: its key material, then its
 *           salt and iterations, then the word that makes it active; each is
 *           durable before the next is written, and that word lies in one
 *           sector.  Removing is the other way round.  None of it touches the
 *           disk, its key, or any refcount.
 * Locks     none; one of these at a time.
 * Spec      LUKS on-disk format 1.2.3, "Adding new passwords" and "Password
 *           revocation".
 */
#include "config.h"

#include "edit/slot.h"
#include "image/image.h"

#include "base/assume.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/random.h"
#include "base/secret.h"
#include "data/unlock.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define ALL_SLOTS ((1u << Q2_LUKS_SLOTS) - 1)

_Static_assert (QCOW2_NR_KEY_SLOTS == Q2_LUKS_SLOTS, "slots of a header");

struct keys {
  struct q2_io io;
  uint64_t host_off, bytes;
  unsigned char header[Q2_LUKS_HEADER];
  struct q2_luks luks;
};

/* ---- What there is ---------------------------------------------------- */

static int
load (struct keys *k, struct qcow2_image *image, const struct qcow2_io *host,
      struct qcow2_error *err)
{
  const struct q2_header h = q2_image_header (image);

  if (image->view != NULL || h.crypt != Q2_CRYPT_LUKS)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "the image is not encrypted with LUKS, so it has no keys");
  k->io = q2_image_io (image, host);
  k->host_off = h.luks_offset;
  k->bytes = h.luks_bytes;
  if (q2_io_read (&k->io, k->header, sizeof k->header, k->host_off,
                  QCOW2_IO_HEADER, err) == -1)
    return -1;
  return q2_luks_decode (k->header, k->host_off, k->bytes, &k->luks, err);
}

static int
check_writable (const struct keys *k, struct qcow2_error *err)
{
  if (k->io.host->ops->pwrite != NULL && k->io.host->ops->flush != NULL)
    return 0;
  return q2_fail (err, QCOW2_ERR_READ_ONLY, QCOW2_NO_OFFSET,
                  "keys cannot be changed: the image file cannot be written "
                  "to");
}

/* ---- Changes ---------------------------------------------------------- */

/* Durably. */
static int
write_piece (const struct keys *k, const void *bytes, uint64_t len,
             uint64_t off, struct qcow2_error *err)
{
  if (!q2_assume (len > 0 && len <= k->bytes && off <= k->bytes - len, err) ||
      q2_io_write (&k->io, bytes, len, k->host_off + off, QCOW2_IO_HEADER,
                   err) == -1)
    return -1;
  return q2_io_flush (&k->io, err);
}

static int
write_state (const struct keys *k, unsigned nr, bool active,
             struct qcow2_error *err)
{
  struct q2_luks_bytes piece;

  q2_luks_encode_state (nr, active, &piece);
  /* It decides, so it is written as one. */
  if (!q2_assume (piece.off / Q2_HEADER_SECTOR ==
                  (piece.off + piece.len - 1) / Q2_HEADER_SECTOR, err))
    return -1;
  return write_piece (k, piece.bytes, piece.len, piece.off, err);
}

static int
write_slot (const struct keys *k, unsigned nr,
            const struct q2_luks_slot *slot, const unsigned char *material,
            struct qcow2_error *err)
{
  struct q2_luks_bytes piece;

  /* Nobody opens the disk with a slot that is half made. */
  if (!q2_assume (nr < Q2_LUKS_SLOTS && !k->luks.slots[nr].active, err))
    return -1;
  q2_luks_encode_parameters (nr, slot, &piece);
  if (write_piece (k, material, slot->material_bytes, slot->material_off, err)
      == -1 ||
      write_piece (k, piece.bytes, piece.len, piece.off, err) == -1)
    return -1;
  return write_state (k, nr, true, err) == 0 ? 0
    : q2_fail_outcome (err, QCOW2_OUTCOME_UNKNOWN, "it is not known whether "
                       "the new key slot is active, since that could not be "
                       "written");
}

/* ---- Adding ----------------------------------------------------------- */

static int
choose_slot (const struct keys *k, int wanted, unsigned *ret_nr,
             struct q2_luks_slot *ret, struct qcow2_error *err)
{
  if (wanted != QCOW2_ANY_SLOT && (wanted < 0 || wanted >= Q2_LUKS_SLOTS))
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "there is no key slot %d, only 0 to %d", wanted,
                    Q2_LUKS_SLOTS - 1);
  for (unsigned i = 0; i < Q2_LUKS_SLOTS; ++i) {
    if (wanted != QCOW2_ANY_SLOT ? i != (unsigned) wanted
        : k->luks.slots[i].active)
      continue;
    if (k->luks.slots[i].active)
      return q2_fail (err, QCOW2_ERR_EXISTS, QCOW2_NO_OFFSET,
                      "key slot %u is in use", i);
    *ret_nr = i;
    return q2_luks_free_slot (k->header, k->host_off, k->bytes, &k->luks, i,
                              ret, err);
  }
  return q2_fail (err, QCOW2_ERR_NO_SPACE, k->host_off,
                  "all %d key slots are in use; remove one first",
                  Q2_LUKS_SLOTS);
}

/* The key of the disk, and what opens it, are in 'secrets'. */
static int
add_slot (const struct keys *k, struct q2_slot_secrets *secrets,
          const char *passphrase, size_t len, unsigned iter_time,
          unsigned nr, struct q2_luks_slot *slot, struct qcow2_error *err)
{
  unsigned char *const material = q2_buffer_alloc (slot->material_bytes);
  int r;

  if (material == NULL)
    return q2_fail_nomem (err, "a key slot");
  r = q2_slot_make (&k->luks, secrets, passphrase, len, iter_time, slot,
                    material, err);
  if (r == 0)
    r = write_slot (k, nr, slot, material, err);
  q2_buffer_free (material, slot->material_bytes);
  return r;
}

static int
add_key (const struct keys *k, const char *passphrase, size_t len,
         const char *new_passphrase, size_t new_len, unsigned iter_time,
         unsigned nr, struct q2_luks_slot *slot, struct qcow2_error *err)
{
  struct q2_slot_secrets *const secrets = q2_secret_alloc (sizeof *secrets);
  struct q2_luks ignored;
  unsigned opened;
  int r;

  if (secrets == NULL)
    return q2_fail_nomem (err, "the key of the image");
  r = q2_luks_recover (&k->io, k->host_off, k->bytes, passphrase, len,
                       ALL_SLOTS, &ignored, &opened, secrets->key, err);
  if (r == 0)
    r = add_slot (k, secrets, new_passphrase, new_len, iter_time, nr, slot,
                  err);
  q2_secret_free (secrets, sizeof *secrets);
  return r;
}

int
qcow2_add_key (struct qcow2_image *image, const struct qcow2_io *host,
               const char *passphrase, size_t len,
               const char *new_passphrase, size_t new_len, int wanted,
               unsigned iter_time, unsigned *ret_slot,
               struct qcow2_error *err)
{
  struct q2_luks_slot slot;
  struct keys k;
  int r;

  if (new_len == 0)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "the new passphrase is empty");
  if (load (&k, image, host, err) == -1 || check_writable (&k, err) == -1 ||
      choose_slot (&k, wanted, ret_slot, &slot, err) == -1)
    return -1;
  r = add_key (&k, passphrase, len, new_passphrase, new_len, iter_time,
               *ret_slot, &slot, err);
  return q2_check_end (err) == -1 ? -1 : r;
}

/* ---- Removing --------------------------------------------------------- */

/* *ret: a bit for each slot that opens with the passphrase. */
static int
find_slots (const struct keys *k, const char *passphrase, size_t len,
            unsigned *ret, struct qcow2_error *err)
{
  unsigned char *const key = q2_secret_alloc (Q2_MAX_KEY_BYTES);
  struct q2_luks ignored;
  unsigned opened;
  int r = 0;

  if (key == NULL)
    return q2_fail_nomem (err, "the key of the image");
  *ret = 0;
  while (r == 0) {
    r = q2_luks_recover (&k->io, k->host_off, k->bytes, passphrase, len,
                         ALL_SLOTS & ~*ret, &ignored, &opened, key, err);
    /* Else this never ends. */
    if (r == 0 && !q2_assume (opened < Q2_LUKS_SLOTS &&
                              !(*ret >> opened & 1), err))
      r = -1;
    if (r == 0)
      *ret |= 1u << opened;
  }
  q2_secret_free (key, Q2_MAX_KEY_BYTES);
  return *ret != 0 && err->kind == QCOW2_ERR_AUTH ? 0 : -1;
}

static unsigned
active_slots (const struct q2_luks *luks)
{
  unsigned active = 0;

  for (unsigned i = 0; i < Q2_LUKS_SLOTS; ++i)
    active |= (unsigned) luks->slots[i].active << i;
  return active;
}

/* Overwrites what opened the disk, though a medium may keep old bytes. */
static int
erase (const struct keys *k, unsigned nr, struct qcow2_error *err)
{
  const struct q2_luks_slot *const slot = &k->luks.slots[nr];
  const struct q2_luks_slot none = { .active = false };
  unsigned char *const noise = q2_buffer_alloc (slot->material_bytes);
  struct q2_luks_bytes piece;
  int r;

  if (noise == NULL)
    return q2_fail_nomem (err, "erasing a key slot");
  r = q2_random (noise, slot->material_bytes, err);
  if (r == 0)
    r = write_piece (k, noise, slot->material_bytes, slot->material_off, err);
  q2_luks_encode_parameters (nr, &none, &piece);
  if (r == 0)
    r = write_piece (k, piece.bytes, piece.len, piece.off, err);
  q2_buffer_free (noise, slot->material_bytes);
  return r;
}

static int
remove_slots (const struct keys *k, unsigned slots, struct qcow2_error *err)
{
  for (unsigned i = 0; i < Q2_LUKS_SLOTS; ++i) {
    if (!(slots >> i & 1))
      continue;
    if (write_state (k, i, false, err) == -1)
      return q2_fail_outcome (err, QCOW2_OUTCOME_UNKNOWN, "it is not known "
                              "whether the key slot is removed, since that "
                              "could not be written");
    if (erase (k, i, err) == -1)
      return q2_fail_outcome (err, QCOW2_OUTCOME_DONE, "the key slot is "
                              "removed, but the key that its passphrase opens "
                              "is still in the file");
  }
  return 0;
}

static int
check_removal (const struct keys *k, unsigned slots, bool force,
               struct qcow2_error *err)
{
  const unsigned active = active_slots (&k->luks);

  if ((slots & active) != slots)
    return q2_fail (err, QCOW2_ERR_NOT_FOUND, QCOW2_NO_OFFSET,
                    "the key slot is not in use");
  if ((active & ~slots) == 0 && !force)
    return q2_fail (err, QCOW2_ERR_REFUSED, QCOW2_NO_OFFSET,
                    "no key slot would be left, and nobody could read the "
                    "disk any more");
  return 0;
}

int
qcow2_remove_key (struct qcow2_image *image, const struct qcow2_io *host,
                  const char *passphrase, size_t len, int slot, bool force,
                  unsigned *ret_removed, struct qcow2_error *err)
{
  struct keys k;
  int r = 0;

  if (load (&k, image, host, err) == -1 || check_writable (&k, err) == -1)
    return -1;
  if (slot != QCOW2_ANY_SLOT && (slot < 0 || slot >= Q2_LUKS_SLOTS))
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "there is no key slot %d, only 0 to %d", slot,
                    Q2_LUKS_SLOTS - 1);
  if (slot != QCOW2_ANY_SLOT)
    *ret_removed = 1u << slot;
  else if (!q2_assume (passphrase != NULL, err))
    return -1;
  else
    r = find_slots (&k, passphrase, len, ret_removed, err);
  if (r == 0)
    r = check_removal (&k, *ret_removed, force, err);
  if (r == 0)
    r = remove_slots (&k, *ret_removed, err);
  return q2_check_end (err) == -1 ? -1 : r;
}
