/* SPDX-License-Identifier: BSD-3-Clause */
/* keys.h - the names of our parameters.
 *
 * Only the main thread calls key_check.
 */
#ifndef KEYS_H
#define KEYS_H

/* Returns -1 and logs if a parameter is misspelt, or given once too often. */
extern int key_check (const char *key);

/* For --help: one line or more for each, beginning with "NAME=". */
extern const char config_help[];

#endif /* KEYS_H */
