/* SPDX-License-Identifier: BSD-3-Clause */
/* address.h - a Unix domain socket in the file system.
 *
 * Only the main thread calls these.
 */
#ifndef CONTROL_ADDRESS_H
#define CONTROL_ADDRESS_H

/* Whether there can be a socket of that name.  Returns -1 and logs if not. */
extern int address_check (const char *path);
/* A socket that listens there, which only our user, and root, can connect to.
 * A dead one of ours is replaced, nothing else.  Returns -1 and logs on error.
 */
extern int address_listen (const char *path);
/* If it is still the one that was made. */
extern void address_remove (const char *path);

#endif /* CONTROL_ADDRESS_H */
