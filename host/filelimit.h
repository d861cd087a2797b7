/* SPDX-License-Identifier: BSD-3-Clause */
/* filelimit.h - a limit on the size of files (ulimit -f) is an error.
 *
 * By itself it is a signal, SIGXFSZ, which ends the server.
 */
#ifndef HOST_FILELIMIT_H
#define HOST_FILELIMIT_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

/* Around calls of this thread that may make a file larger.  'failed': one of
 * them has failed.  errno stays as it is.
 */
extern void filelimit_begin (sigset_t *ret_old) __attribute__ ((__nonnull__));
extern void filelimit_end (const sigset_t *old, bool failed)
  __attribute__ ((__nonnull__));

/* ftruncate, without signals.  Returns 0 or an errno value. */
extern int set_file_size (int fd, uint64_t size);

#endif /* HOST_FILELIMIT_H */
