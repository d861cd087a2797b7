/* SPDX-License-Identifier: BSD-3-Clause */
/* keyring.h - keys of LUKS images that were unlocked before.
 *
 * struct qcow2_keyring is public; qcow2.h says what it is for.
 */
#ifndef QCOW2_DATA_KEYRING_H
#define QCOW2_DATA_KEYRING_H

#include "qcow2.h"

#include "base/budget.h"
#include "format/luks.h"

/* Identifies a key.  The header contains the salts, the iteration counts and
 * the digest of the key, so it differs after a change of a key slot, and
 * between images.
 */
struct q2_keyring_query {
  const unsigned char *header;  /* Q2_LUKS_HEADER bytes */
  const char *passphrase;       /* any bytes */
  size_t len;
};

/* A thread that is looking for a key; on its stack. */
struct q2_keyring_try {
  const struct q2_keyring_query *query;
  struct q2_keyring_try *next;  /* the keyring's */
};

/* Returns 1 and fills in ret_key, Q2_MAX_KEY_BYTES bytes, if the keyring has
 * the key; -1 with the earlier error if the same search failed lately, after
 * much work; 0 if the caller must look for the key and then call
 * q2_keyring_end. Waits for another thread that is looking for the same key;
 * fails with QCOW2_ERR_ABANDONED if the budget (or NULL) says that the client
 * is gone.
 */
extern int q2_keyring_begin (struct qcow2_keyring *keyring,
                             struct q2_keyring_try *try,
                             const struct qcow2_budget *budget,
                             unsigned char *ret_key, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 4, 5), __warn_unused_result__));

/* The result: 'key' has Q2_MAX_KEY_BYTES bytes, or is NULL, and *err says why.
 * Copies all, or remembers nothing if there is no memory.
 *
 * A passphrase that opens no slot is remembered if 'rounds' is at least
 * Q2_KEYRING_COSTLY: for one second per 2^18 rounds, some ten times as long as
 * they took, but at most ten minutes, since key material may be restored
 * without a trace in the header.
 */
#define Q2_KEYRING_COSTLY (UINT64_C (1) << 20)
extern void q2_keyring_end (struct qcow2_keyring *keyring,
                            struct q2_keyring_try *try,
                            const unsigned char *key, uint64_t rounds,
                            const struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5)));

#endif /* QCOW2_DATA_KEYRING_H */
