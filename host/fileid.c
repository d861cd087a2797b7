/* SPDX-License-Identifier: BSD-3-Clause */
/* fileid.c - which local file something is.
 *
 * Owns      struct file_id.
 * Method    stat.  Who is not told which file somebody else has opened by a
 *           path looks before that is opened and once more afterwards: if
 *           nothing changed in between, it is that file.
 * Locks     none.
 */
#include "config.h"

#include "host/fileid.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void
from_stat (struct file_id *id, const struct stat *st)
{
  if (S_ISREG (st->st_mode))
    *id = (struct file_id) {
      .known = true, .dev = st->st_dev, .ino = st->st_ino,
      .size = st->st_size, .mtime = st->st_mtim, .ctime = st->st_ctim,
    };
  else
    *id = (struct file_id) {
      .perishable = true, .device = S_ISBLK (st->st_mode),
      .dev = st->st_rdev,
    };
}

void
file_id_get (struct file_id *id, const char *path)
{
  struct stat st;

  *id = (struct file_id) { .known = false };
  if (stat (path, &st) == 0)
    from_stat (id, &st);
  else if (errno != ENOENT && errno != ENOTDIR)
    id->errnum = errno;
}

static bool
time_equal (const struct timespec *a, const struct timespec *b)
{
  return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool
file_id_equal (const struct file_id *a, const struct file_id *b)
{
  if (!a->known || !b->known)
    return a->known == b->known;
  return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
    time_equal (&a->mtime, &b->mtime) && time_equal (&a->ctime, &b->ctime);
}

bool
file_id_same_file (const struct file_id *a, const struct file_id *b)
{
  if (a->known && b->known)
    return a->dev == b->dev && a->ino == b->ino;
  return a->device && b->device && a->dev == b->dev;
}

int
file_id_open (const struct file_id *id, const char *path, int flags)
{
  struct file_id now;
  struct stat st;
  int fd;

  if (!id->known && !id->device) {
    errno = ENOENT;
    return -1;
  }
  /* Non-blocking: it may have become a FIFO. */
  fd = open (path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (fd == -1)
    return -1;
  if (fstat (fd, &st) == -1) {
    const int saved_errno = errno;

    close (fd);
    errno = saved_errno;
    return -1;
  }
  from_stat (&now, &st);
  if (file_id_same_file (id, &now))
    return fd;
  close (fd);
  errno = ESTALE;
  return -1;
}

int
file_is_image (int fd)
{
  static const char magic[] = "QFI\xfb";
  char bytes[4];
  ssize_t n;

  do
    n = pread (fd, bytes, 4, 0);
  while (n == -1 && errno == EINTR);
  if (n == -1)
    return -1;
  return n == 4 && memcmp (bytes, magic, 4) == 0;
}
