/* SPDX-License-Identifier: BSD-3-Clause */
/* unlock.h - opens the LUKS header of an image with a passphrase.
 *
 * Spec: "Full disk encryption header pointer"; LUKS on-disk format 1.2.3.
 */
#ifndef QCOW2_DATA_UNLOCK_H
#define QCOW2_DATA_UNLOCK_H

#include "codec/cipher.h"
#include "io/io.h"

/* Try the passphrase on each active key slot of the header of 'luks_bytes'
 * bytes at 'luks_offset', which the header extension names; *ret_cipher is
 * for the data of the image.  Sectors of that are numbered by where they are
 * in the image file: host offset / Q2_CRYPT_SECTOR.
 *
 * Takes about as long as the image's creator wanted a guess to take, times
 * the number of slots, and is bounded: see Q2_LUKS_MAX_ROUNDS in
 * format/luks.h.  Reads the 592 bytes of the header and the key material of
 * the slots it tries, with class QCOW2_IO_HEADER.  If the keyring (NULL: there
 * is none) knows header and passphrase, nothing but the header is read, and
 * there is no work.
 *
 * Fails with QCOW2_ERR_AUTH if no slot opens, QCOW2_ERR_UNSUPPORTED if there
 * is no nettle or the header asks for what is not known, QCOW2_ERR_CORRUPT if
 * it contradicts itself.  Nothing secret is left behind in memory, apart from
 * the cipher.
 */
extern int q2_luks_unlock (const struct q2_io *io, uint64_t luks_offset,
                           uint64_t luks_bytes, const char *passphrase,
                           size_t len, struct qcow2_keyring *keyring,
                           struct q2_cipher **ret_cipher,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 4, 7, 8), __warn_unused_result__));

#endif /* QCOW2_DATA_UNLOCK_H */
