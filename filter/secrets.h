/* SPDX-License-Identifier: BSD-3-Clause */
/* secrets.h - passphrases, and where they stay in memory.
 *
 * Who has a struct passphrase owns its pages until passphrase_wipe.  Only the
 * main thread changes one.
 */
#ifndef SECRETS_H
#define SECRETS_H

struct passphrase;

/* What a parameter says: '+FILE', '-', '-FD', or the passphrase itself.
 * Returns -1 and logs on error.
 */
extern int passphrase_read (struct passphrase *ret, const char *value);
/* Keep it out of the swap. */
extern void passphrase_lock (struct passphrase *p);
extern void passphrase_wipe (struct passphrase *p);

#endif /* SECRETS_H */
