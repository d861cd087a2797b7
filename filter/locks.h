/* SPDX-License-Identifier: BSD-3-Clause */
/* locks.h - locks on local files that QEMU understands.
 *
 * The descriptor stays the caller's, and the lock goes with it.
 */
#ifndef LOCKS_H
#define LOCKS_H

#include <stdbool.h>

/* QEMU's locks on the file: for reading, or for writing on top of that.
 * Return -1 and log if another process is in the way, with errno EBUSY, or
 * if they cannot be had.  They are gone when the descriptor is closed.
 */
extern int lock_for_reading (int fd, const char *name);
extern int lock_for_writing (int fd, const char *name);
/* Whether another process keeps readers out now.  Takes no lock. */
extern bool lock_is_taken (int fd);

#endif /* LOCKS_H */
