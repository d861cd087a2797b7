/* SPDX-License-Identifier: BSD-3-Clause */
/* unlock.h - opens the LUKS header of an image with a passphrase.
 *
 * Spec: "Full disk encryption header pointer"; LUKS on-disk format 1.2.3.
 */
#ifndef QCOW2_DATA_UNLOCK_H
#define QCOW2_DATA_UNLOCK_H

#include "codec/cipher.h"
#include "format/luks.h"
#include "io/io.h"

/* Try the passphrase on each active key slot of the LUKS header, at
 * 'luks_offset', of 'luks_bytes' bytes; the header extension has both numbers.
 * *ret_cipher is for data clusters, whose sectors are numbered by host offset
 * / Q2_CRYPT_SECTOR.
 *
 * Takes about as long as the image's creator wanted a guess to take, times the
 * number of slots; Q2_LUKS_MAX_ROUNDS in format/luks.h is the bound.  Reads
 * the 592 bytes of the header and the key material of the slots that it tries,
 * with class QCOW2_IO_HEADER.  If the keyring (or NULL) knows header and
 * passphrase, it reads only the header and computes nothing.
 *
 * Fails with QCOW2_ERR_AUTH if no slot opens, QCOW2_ERR_UNSUPPORTED if there
 * is no nettle or the header needs an unknown algorithm, QCOW2_ERR_CORRUPT if
 * it contradicts itself.  Only the cipher keeps a secret in memory.
 */
extern int q2_luks_unlock (const struct q2_io *io, uint64_t luks_offset,
                           uint64_t luks_bytes, const char *passphrase,
                           size_t len, struct qcow2_keyring *keyring,
                           struct q2_cipher **ret_cipher,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 4, 7, 8), __warn_unused_result__));

/* The same, for changing the header: what it says, which slot opened, and the
 * key of the disk, luks->key_bytes long, in memory that the caller wipes.
 * 'slots' has a bit for each slot that may be tried.  No keyring is asked.
 */
extern int q2_luks_recover (const struct q2_io *io, uint64_t luks_offset,
                            uint64_t luks_bytes, const char *passphrase,
                            size_t len, unsigned slots,
                            struct q2_luks *ret_luks, unsigned *ret_slot,
                            unsigned char ret_key[Q2_MAX_KEY_BYTES],
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_DATA_UNLOCK_H */
