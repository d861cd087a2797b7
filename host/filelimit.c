/* SPDX-License-Identifier: BSD-3-Clause */
/* filelimit.c - a limit on the size of files (ulimit -f) is an error.
 *
 * Owns      nothing.
 * Method    the signal is blocked meanwhile, and taken away if it has come:
 *           it is sent to the thread whose call has failed.
 * Locks     none.
 */
#include "config.h"

#include "host/filelimit.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

static void
only_xfsz (sigset_t *set)
{
  sigemptyset (set);
  sigaddset (set, SIGXFSZ);
}

void
filelimit_begin (sigset_t *ret_old)
{
  sigset_t xfsz;

  only_xfsz (&xfsz);
  pthread_sigmask (SIG_BLOCK, &xfsz, ret_old);
}

void
filelimit_end (const sigset_t *old, bool failed)
{
  const struct timespec no_time = { 0, 0 };
  const int errnum = errno;
  sigset_t xfsz, pending;

  only_xfsz (&xfsz);
  if (failed && sigpending (&pending) == 0 && sigismember (&pending, SIGXFSZ))
    sigtimedwait (&xfsz, NULL, &no_time);
  pthread_sigmask (SIG_SETMASK, old, NULL);
  errno = errnum;
}

int
set_file_size (int fd, uint64_t size)
{
  sigset_t old;
  int err = 0;

  filelimit_begin (&old);
  if (ftruncate (fd, size) == -1)
    err = errno;
  filelimit_end (&old, err != 0);
  return err;
}
