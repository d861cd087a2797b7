/* SPDX-License-Identifier: BSD-3-Clause */
/* keyring.h - keys of LUKS images that were unlocked before.
 *
 * struct qcow2_keyring is public; see qcow2.h for what it is good for.
 */
#ifndef QCOW2_DATA_KEYRING_H
#define QCOW2_DATA_KEYRING_H

#include "qcow2.h"

#include "base/budget.h"
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

/* Somebody is looking for a key; lives on his stack. */
struct q2_keyring_try {
  const struct q2_keyring_query *query;
  struct q2_keyring_try *next;  /* the keyring's */
};

/* Returns 1 if a key was found with exactly that before, and fills in ret_key,
 * Q2_MAX_KEY_BYTES bytes; -1, with the error of then, if it was looked for in
 * vain not long ago, and that was much work; 0 if the caller is to look for
 * it, and then to call q2_keyring_end.  Waits for another thread that is
 * looking for the same, as long as the budget (or NULL) says that somebody
 * waits for us; then fails with QCOW2_ERR_ABANDONED.
 */
extern int q2_keyring_begin (struct qcow2_keyring *keyring,
                             struct q2_keyring_try *try,
                             const struct qcow2_budget *budget,
                             unsigned char *ret_key, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 4, 5), __warn_unused_result__));

/* 'key', Q2_MAX_KEY_BYTES bytes, was found; or it is NULL, and *err says why.
 * All is copied; if there is no memory for that, nothing is remembered.
 *
 * A passphrase that opens no slot is remembered if that took 'rounds' of at
 * least Q2_KEYRING_COSTLY: for a second for each 2^18 of them, which is some
 * ten times as long as it took, but no more than ten minutes.  Key material
 * may be restored without a trace in the header.
 */
#define Q2_KEYRING_COSTLY (UINT64_C (1) << 20)
extern void q2_keyring_end (struct qcow2_keyring *keyring,
                            struct q2_keyring_try *try,
                            const unsigned char *key, uint64_t rounds,
                            const struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5)));

#endif /* QCOW2_DATA_KEYRING_H */
