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
 *           go on.
 *
 *           The locks belong to the open file description: they are
 *           independent of what else this process has open, and go away with
 *           the last descriptor, whatever way the process ends.
 * Locks     none of ours; callers do not share descriptors.
 */
#include "config.h"

#include "filter.h"

#include <errno.h>
#include <fcntl.h>

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

static int
lock_bytes (int fd, unsigned accesses, off_t base, short type)
{
  for (unsigned n = 0; n < NR_ACCESS; ++n) {
    struct flock fl = {
      .l_type = type, .l_whence = SEEK_SET, .l_start = base + n, .l_len = 1,
    };

    if ((accesses & BIT (n)) && fcntl (fd, F_OFD_SETLK, &fl) == -1)
      return -1;
  }
  return 0;
}

/* 1: somebody else has one of them, -1: error. */
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
      return 1;
  }
  return 0;
}

/* 0: they are ours, 1: somebody is in the way, -1: errno says why there are
 * no locks here.
 */
static int
take (int fd, unsigned used)
{
  int r;

  if (lock_bytes (fd, used, USED_BYTE, F_RDLCK) == -1 ||
      lock_bytes (fd, DENIED, DENIED_BYTE, F_RDLCK) == -1)
    return errno == EAGAIN || errno == EACCES ? 1 : -1;
  r = others_have (fd, used, DENIED_BYTE);
  return r != 0 ? r : others_have (fd, DENIED, USED_BYTE);
}

static void
no_locks (const char *name)
{
  nbdkit_debug ("qcow2: %s: the file cannot be locked: %m", name);
}

int
lock_for_reading (int fd, const char *name)
{
  const int r = take (fd, BIT (ACCESS_CONSISTENT_READ));

  if (r == -1)
    no_locks (name);
  if (r != 1)
    return 0;
  warning (name, "another process has the image open for writing (-r with "
           "qcow2-lock=off serves it all the same, but what clients read "
           "then may be inconsistent)");
  errno = EBUSY;
  return -1;
}

int
lock_for_writing (int fd, const char *name)
{
  const int r = take (fd, BIT (ACCESS_CONSISTENT_READ) | DENIED);

  if (r == -1)
    no_locks (name);
  if (r != 1)
    return 0;
  warning (name, "cannot be opened for writing, because another process has "
           "the image open (use -r to serve it read-only)");
  errno = EBUSY;
  return -1;
}
