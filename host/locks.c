/* SPDX-License-Identifier: BSD-3-Clause */
/* locks.c - locks on local files that QEMU understands.
 *
 * Owns      the bytes that are locked, and what is in conflict.
 * Method    QEMU's protocol.  For each kind of access there are two bytes of
 *           the file (whose contents do not matter, and which need not
 *           exist).  Who uses an access has a read lock on the first, who
 *           cannot have others use it on the second; both tell others, and
 *           keep nobody from locking the same.  After taking his own locks
 *           everybody looks whether others have the opposite ones.  Two that
 *           come at the same moment may so refuse each other, but never both
 *           go on.  So that one of them does, each looks again a few times,
 *           after a while that is never the same.  A writer takes its locks
 *           back before it waits, or the others would always find them; a
 *           reader keeps them, since they hinder writers alone.
 *
 *           A lock that cannot be taken has not been taken, whatever the
 *           reason: then the file is refused.  Only where there are no such
 *           locks at all, in this kernel or on this file system, nobody on
 *           this machine can have one; a reader, who destroys nothing, then
 *           goes on and says so.  (QEMU goes on there to write, too.)
 *
 *           The locks belong to the open file description: they are
 *           independent of what else this process has open, and go away with
 *           the last descriptor, whatever way the process ends.
 * Locks     none of ours; callers do not share descriptors.
 */
#include "config.h"

#include "host/locks.h"

#include "qcow2.h"
#include "host/env.h"
#include "host/error.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>

enum lock_access {
  ACCESS_CONSISTENT_READ,
  ACCESS_WRITE,
  ACCESS_WRITE_UNCHANGED,
  ACCESS_RESIZE,
};
#define BIT(access) (1u << (access))
#define NR_ACCESS 4

#define USED_BYTE 100
#define DENIED_BYTE 200

/* What others must not do while we read, or write. */
#define DENIED (BIT (ACCESS_WRITE) | BIT (ACCESS_RESIZE))

/* Somebody else has the opposite lock. */
#define IN_THE_WAY 1

/* The longest waits are 1, 2, 4... ms: a file that is really in use is refused
 * after less than 64 ms.
 */
#define TRIES 7

static int
lock_bytes (int fd, unsigned accesses, off_t base, short type)
{
  for (unsigned n = 0; n < NR_ACCESS; ++n) {
    struct flock fl = {
      .l_type = type, .l_whence = SEEK_SET, .l_start = base + n, .l_len = 1,
    };

    if (!(accesses & BIT (n)))
      continue;
    while (fcntl (fd, F_OFD_SETLK, &fl) == -1)
      if (errno == EAGAIN || errno == EACCES)
        return IN_THE_WAY;
      else if (errno != EINTR)
        return -1;
  }
  return 0;
}

static int
others_have (int fd, unsigned accesses, off_t base)
{
  for (unsigned n = 0; n < NR_ACCESS; ++n) {
    struct flock fl = {
      .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = base + n,
      .l_len = 1,
    };

    if (!(accesses & BIT (n)))
      continue;
    if (fcntl (fd, F_OFD_GETLK, &fl) == -1)
      return -1;
    if (fl.l_type != F_UNLCK)
      return IN_THE_WAY;
  }
  return 0;
}

/* What a writer has that a reader has not. */
static int
forget_writing (int fd)
{
  return lock_bytes (fd, DENIED, USED_BYTE, F_UNLCK);
}

static int
forget_all (int fd)
{
  const int r = forget_writing (fd);

  return r != 0 ? r : lock_bytes (fd, DENIED, DENIED_BYTE, F_UNLCK);
}

static int
take_once (int fd, unsigned used)
{
  int r = lock_bytes (fd, used, USED_BYTE, F_RDLCK);

  if (r == 0)
    r = lock_bytes (fd, DENIED, DENIED_BYTE, F_RDLCK);
  if (r == 0)
    r = others_have (fd, used, DENIED_BYTE);
  if (r == 0)
    r = others_have (fd, DENIED, USED_BYTE);
  return r;
}

/* Up to 2^n ms; the clock's last digits are chance enough. */
static void
wait_a_while (unsigned n)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  t.tv_sec = 0;
  t.tv_nsec = (t.tv_nsec ^ (t.tv_nsec >> 10)) % (1000000L << n);
  nanosleep (&t, NULL);
}

/* 0: they are ours, IN_THE_WAY, or -1: errno says why there are no locks to
 * be had.  'forget' takes back what others must not find before the next try.
 */
static int
take (int fd, unsigned used, int (*forget) (int fd))
{
  int r = take_once (fd, used);

  /* Who writes also reads, and has something to take back. */
  (void) qcow2_holds ((used & BIT (ACCESS_CONSISTENT_READ)) != 0 &&
                      ((used & DENIED) == 0) == (forget == NULL));
  for (unsigned n = 0; r == IN_THE_WAY && n < TRIES - 1; ++n) {
    if (forget != NULL && forget (fd) != 0)
      return -1;
    wait_a_while (n);
    r = take_once (fd, used);
  }
  return r;
}

static int
fail_conflict (const struct host_env *env, const char *name, const char *text,
               const char *remedy)
{
  host_warn (env, name, "%s (%s)", text, remedy);
  errno = EBUSY;
  return -1;
}

static int
fail_no_locks (const struct host_env *env, const char *name, int errnum)
{
  errno = errnum;
  host_warn (env, name, "the file cannot be locked (%m), so nothing keeps "
             "another process from writing to it; %s", env->words->unlocked);
  errno = errnum;
  return -1;
}

static bool
means_no_such_thing (int errnum)
{
  return errnum == EINVAL || errnum == ENOSYS || errnum == EOPNOTSUPP;
}

/* Whether there are no such locks at all, after an error that says so. */
static bool
never_has_locks (int fd)
{
  return means_no_such_thing (errno) &&
    others_have (fd, BIT (ACCESS_WRITE), USED_BYTE) == -1 &&
    means_no_such_thing (errno);
}

int
lock_for_reading (const struct host_env *env, int fd, const char *name)
{
  const int r = take (fd, BIT (ACCESS_CONSISTENT_READ), NULL);
  const int errnum = errno;

  if (r == IN_THE_WAY)
    return fail_conflict (env, name, "another process has the image open for "
                          "writing", env->words->reading_busy);
  if (r == 0)
    return 0;
  if (!never_has_locks (fd))
    return fail_no_locks (env, name, errnum);
  host_log (env, HOST_LOG_ONCE, name, "this file system, or this kernel, has "
            "no locks: nothing keeps another process from writing to the "
            "file");
  return 0;
}

bool
lock_is_taken (int fd)
{
  return others_have (fd, BIT (ACCESS_CONSISTENT_READ), DENIED_BYTE) == 1 ||
    others_have (fd, DENIED, USED_BYTE) == 1;
}

static int
take_for_writing (const struct host_env *env, int fd, const char *name,
                  int (*forget) (int fd))
{
  const int r = take (fd, BIT (ACCESS_CONSISTENT_READ) | DENIED, forget);

  if (r == IN_THE_WAY)
    return fail_conflict (env, name, "cannot be opened for writing, because "
                          "another process has the image open",
                          env->words->writing_busy);
  return r == 0 ? 0 : fail_no_locks (env, name, errno);
}

int
lock_for_writing (const struct host_env *env, int fd, const char *name)
{
  return take_for_writing (env, fd, name, forget_all);
}

int
lock_for_writing_too (const struct host_env *env, int fd, const char *name)
{
  return take_for_writing (env, fd, name, forget_writing);
}

int
lock_file (const struct host_env *env, int fd, const char *name,
           bool writing, struct qcow2_error *err)
{
  if (!env->lock ||
      (writing ? lock_for_writing (env, fd, name)
       : lock_for_reading (env, fd, name)) == 0)
    return 0;
  return errno == EBUSY
    ? fail_with (err, QCOW2_ERR_IO, EBUSY, "%s is in use by another process",
                 name)
    : fail_with (err, QCOW2_ERR_IO, errno, "%s cannot be locked", name);
}
