/* SPDX-License-Identifier: BSD-3-Clause */
/* keyring.h - keys of LUKS images that were unlocked before.
 *
 * struct qcow2_keyring is public; see qcow2.h for what it is good for.
 */
#ifndef QCOW2_META_KEYRING_H
#define QCOW2_META_KEYRING_H

#include "qcow2.h"

#include "format/luks.h"

/* What a key was found with.  The header contains the salts, the iteration
 * counts and the digest of the key, so whoever changes a key slot, or makes
 * another image, has another header.
 */
struct q2_keyring_query {
  const unsigned char *header;  /* Q2_LUKS_HEADER bytes */
  const char *passphrase;       /* any bytes */
  size_t len;
};

/* Fill in ret_key, Q2_MAX_KEY_BYTES bytes, if a key was found with exactly
 * that before.
 */
extern bool q2_keyring_find (struct qcow2_keyring *keyring,
                             const struct q2_keyring_query *query,
                             unsigned char *ret_key)
  __attribute__ ((__nonnull__));

/* Remember the Q2_MAX_KEY_BYTES bytes of 'key'; all is copied.  If there is
 * no memory for that, nothing is remembered.
 */
extern void q2_keyring_add (struct qcow2_keyring *keyring,
                            const struct q2_keyring_query *query,
                            const unsigned char *key)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_META_KEYRING_H */
