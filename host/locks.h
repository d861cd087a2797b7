/* SPDX-License-Identifier: BSD-3-Clause */
/* locks.h - locks on local files that QEMU understands.
 *
 * The descriptor stays the caller's, and the lock goes with it.
 */
#ifndef HOST_LOCKS_H
#define HOST_LOCKS_H

#include "qcow2.h"

struct host_env;

/* QEMU's locks on the file: for reading, for writing, or for writing where
 * the descriptor has the lock for reading, which it keeps.  Return -1 and log
 * if another process is in the way, with errno EBUSY, or if they cannot be
 * had.  They are gone when the descriptor is closed.
 */
extern int lock_for_reading (const struct host_env *env, int fd,
                             const char *name);
extern int lock_for_writing (const struct host_env *env, int fd,
                             const char *name);
extern int lock_for_writing_too (const struct host_env *env, int fd,
                                 const char *name);
/* One of the two, if files are locked at all; -1 with *err filled in. */
extern int lock_file (const struct host_env *env, int fd, const char *name,
                      bool writing, struct qcow2_error *err);
/* Whether another process keeps readers out now.  Takes no lock. */
extern bool lock_is_taken (int fd);

#endif /* HOST_LOCKS_H */
