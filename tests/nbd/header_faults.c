/* SPDX-License-Identifier: BSD-3-Clause */
/* header_faults.c - writes that fail at, or behind, that of an image's header,
 * or the n-th one.
 *
 * Preloaded into a program that changes images with pwrite and fdatasync.
 *
 * Environment
 *   HEADER_FAULTS=PATH        a file with two words, or three; no faults while
 *                             it is not there:
 *     NAME                    the image: the end of its path
 *     all | header | after    all writes fail with EIO; or those of the first
 *                             sector; or all that follow such a one and a
 *                             flush
 *     only | from N           the N-th write or flush since the program began,
 *                             from 0; or all from it on
 */
#define _GNU_SOURCE 1

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SECTOR 512              /* less is a probe of the filter */

enum { NOTHING, HEADER_WRITTEN, HEADER_FLUSHED };
static atomic_int state;
static atomic_uint nr_requests;

/* The words behind the first one, if the descriptor is one of that image. */
static bool
is_wanted (int fd, char *mode, unsigned *nr)
{
  const char *const path = getenv ("HEADER_FAULTS");
  char link[64], target[4096], text[256], name[200];
  FILE *const file = path ? fopen (path, "re") : NULL;
  ssize_t n;
  bool ok;

  if (file == NULL) {
    state = NOTHING;
    return false;
  }
  ok = fgets (text, sizeof text, file) != NULL &&
    sscanf (text, "%199s %19s %u", name, mode, nr) >= 2;
  fclose (file);
  snprintf (link, sizeof link, "/proc/self/fd/%d", fd);
  n = ok ? readlink (link, target, sizeof target - 1) : -1;
  if (n == -1 || (size_t) n < strlen (name))
    return false;
  target[n] = '\0';
  return strcmp (target + n - strlen (name), name) == 0;
}

static bool
is_counted (const char *mode)
{
  return strcmp (mode, "only") == 0 || strcmp (mode, "from") == 0;
}

/* Of one more. */
static bool
is_due (const char *mode, unsigned nr)
{
  const unsigned n = nr_requests++;

  return mode[0] == 'o' ? n == nr : n >= nr;
}

static bool
fails (int fd, size_t count, off64_t offset)
{
  const bool is_header = offset == 0 && count >= SECTOR;
  unsigned nr = 0;
  char mode[20];

  if (!is_wanted (fd, mode, &nr))
    return false;
  if (is_counted (mode))
    return is_due (mode, nr);
  if (strcmp (mode, "all") == 0)
    return true;
  if (strcmp (mode, "header") == 0)
    return is_header;
  if (state == HEADER_FLUSHED)
    return true;
  if (is_header)
    state = HEADER_WRITTEN;
  return false;
}

ssize_t
pwrite64 (int fd, const void *buf, size_t count, off64_t offset)
{
  if (fails (fd, count, offset)) {
    errno = EIO;
    return -1;
  }
  return syscall (SYS_pwrite64, fd, buf, count, offset);
}

ssize_t
pwrite (int fd, const void *buf, size_t count, off_t offset)
{
  return pwrite64 (fd, buf, count, offset);
}

int
fdatasync (int fd)
{
  const int r = (int) syscall (SYS_fdatasync, fd);
  const bool flushed = state == HEADER_WRITTEN;
  unsigned nr = 0;
  char mode[20];

  if (!is_wanted (fd, mode, &nr))
    return r;
  if (is_counted (mode) && is_due (mode, nr)) {
    errno = EIO;
    return -1;
  }
  if (flushed)
    state = HEADER_FLUSHED;
  return r;
}
