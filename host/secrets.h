/* SPDX-License-Identifier: BSD-3-Clause */
/* secrets.h - passphrases, and where they stay in memory.
 *
 * Who has a struct passphrase owns its pages until passphrase_wipe.  Only one
 * thread changes it.
 */
#ifndef HOST_SECRETS_H
#define HOST_SECRETS_H

#include "qcow2.h"

struct passphrase;

/* Asks on the terminal for what 'key' stands for: one line, which the caller
 * wipes and frees.  Returns -1 with *err filled in.
 */
typedef int (*ask_fn) (const char *key, char **ret_typed,
                       struct qcow2_error *err);

/* What an option, 'key', says: '+FILE', '-', '-FD', or the passphrase itself.
 * Returns -1 with *err filled in.
 */
extern int passphrase_read (struct passphrase *ret, const char *key,
                            const char *value, ask_fn asking,
                            struct qcow2_error *err);
/* Keep it out of the swap. */
extern void passphrase_lock (struct passphrase *p);
extern void passphrase_wipe (struct passphrase *p);

#endif /* HOST_SECRETS_H */
