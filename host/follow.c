/* SPDX-License-Identifier: BSD-3-Clause */
/* follow.c - files beneath the folder of qcow2-follow.
 *
 * Owns      the way from a path that a stranger wrote to a file that may be
 *           opened.
 * Method    the kernel resolves the path beneath the folder's descriptor and
 *           fails if any step, "..", or link, would leave it (openat2).
 *           What comes of it only stands for the file (O_PATH): nothing is
 *           opened, no device is touched, no FIFO waits for a writer, until it
 *           was looked at and is a regular file.  Then that very file is
 *           opened, by the name that the kernel gives to the descriptor, so
 *           that nobody can put another one in its place meanwhile.
 *
 *           Where there is no openat2 (before Linux 5.6, or forbidden in a
 *           container), the path is walked step by step and every link is
 *           refused; ".." is taken out before, which without links means the
 *           same.
 *
 *           A folder of devices is another thing: /dev/VG has links that lead
 *           out of it, to nodes.  If it is beneath /dev and only root can make
 *           names in it, these are followed, to block devices.
 * Locks     none.
 */
#include "config.h"

#include "host/follow.h"

#include "qcow2.h"
#include "host/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef HAVE_LINUX_OPENAT2_H
#include <linux/openat2.h>
#endif

/* How often a path is tried again that others move around meanwhile. */
#define MAX_TRIES 16

#if defined HAVE_LINUX_OPENAT2_H && defined SYS_openat2
static int
kernel_find (int dir_fd, const char *path)
{
  struct open_how how = {
    .flags = O_PATH | O_CLOEXEC,
    .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
  };
  int fd = -1;

  for (int i = 0; fd == -1 && i < MAX_TRIES; ++i) {
    fd = syscall (SYS_openat2, dir_fd, path, &how, sizeof how);
    if (fd == -1 && errno != EAGAIN && errno != EINTR)
      break;
  }
  return fd;
}
#else
static int
kernel_find (int dir_fd, const char *path)
{
  errno = ENOSYS;
  return -1;
}
#endif

/* It works at all if it finds the folder itself. */
static bool
kernel_can_find (const struct rules *rules)
{
  const int fd = kernel_find (rules->follow_fd, ".");

  if (fd != -1)
    close (fd);
  return fd != -1;
}

/* ---- Without the kernel's help ------------------------------------------ */

/* Take "." and ".." out of a path; -1 if it would leave the folder. */
static int
normalize (char out[PATH_MAX], const char *path)
{
  size_t n = 0;

  while (*path) {
    const size_t len = strcspn (path, "/");

    if (len == 2 && memcmp (path, "..", 2) == 0) {
      if (n == 0)
        return -1;
      do
        n--;
      while (n > 0 && out[n] != '/');
    }
    else if (len > 0 && !(len == 1 && path[0] == '.')) {
      if (n > 0)
        out[n++] = '/';
      if (!qcow2_holds (n + len < PATH_MAX))    /* no longer than 'path' */
        return -1;
      memcpy (out + n, path, len);
      n += len;
    }
    path += len;
    path += strspn (path, "/");
  }
  out[n] = '\0';
  return 0;
}

static int
walk (const struct rules *rules, char *path)
{
  int fd = fcntl (rules->follow_fd, F_DUPFD_CLOEXEC, 0);
  char *save = NULL;

  for (char *step = strtok_r (path, "/", &save); step && fd != -1;
       step = strtok_r (NULL, "/", &save)) {
    const int next = openat (fd, step, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    const int saved_errno = errno;
    struct stat st;

    close (fd);
    errno = saved_errno;
    fd = next;
    if (fd != -1 && (fstat (fd, &st) == -1 || S_ISLNK (st.st_mode))) {
      close (fd);
      errno = ELOOP;
      fd = -1;
    }
  }
  return fd;
}

static int
find_by_hand (const struct rules *rules, const char *path)
{
  char normal[PATH_MAX];

  if (path[0] == '/' || normalize (normal, path) == -1) {
    errno = EXDEV;
    return -1;
  }
  return walk (rules, normal);
}

/* ---- Devices ------------------------------------------------------------ */

/* In /dev/disk the content of devices, which may be anybody's, makes names. */
static bool
is_named_by_content (const char *folder)
{
  return strcmp (folder, "/dev/disk") == 0 ||
    strncmp (folder, "/dev/disk/", 10) == 0;
}

/* Nobody but root, who can read every device anyway, or a device mapper of his
 * has made the names.
 */
static bool
is_device_folder (const struct rules *rules)
{
  struct stat st;

  return strncmp (rules->follow, "/dev/", 5) == 0 &&
    !is_named_by_content (rules->follow) &&
    fstat (rules->follow_fd, &st) == 0 && st.st_uid == 0 &&
    (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* A name right in such a folder. */
static int
find_device (const struct rules *rules, const char *name)
{
  struct stat st;
  int fd;

  if (strchr (name, '/') != NULL || !is_device_folder (rules))
    return -1;
  fd = openat (rules->follow_fd, name, O_PATH | O_CLOEXEC);
  if (fd != -1 && (fstat (fd, &st) == -1 || !S_ISBLK (st.st_mode))) {
    close (fd);
    fd = -1;
  }
  return fd;
}

/* ---- Both -------------------------------------------------------------- */

int
follow_find (const struct rules *rules, const char *path)
{
  struct stat st;
  int fd;

  if (!qcow2_holds (rules->follow != NULL && rules->follow_fd != -1)) {
    errno = EBADF;
    return -1;
  }
  if (strlen (path) >= PATH_MAX) {
    errno = ENAMETOOLONG;
    return -1;
  }
  fd = find_device (rules, path);
  if (fd != -1)
    return fd;
  fd = kernel_can_find (rules) ? kernel_find (rules->follow_fd, path)
    : find_by_hand (rules, path);
  if (fd == -1)
    return -1;
  if (fstat (fd, &st) == 0 && S_ISREG (st.st_mode))
    return fd;
  close (fd);
  errno = EINVAL;
  return -1;
}

int
follow_open (int path_fd, int flags)
{
  char path[40];

  (void) qcow2_holds (path_fd >= 0);
  snprintf (path, sizeof path, "/proc/self/fd/%d", path_fd);
  return open (path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
}

/* The file is there, even if it has no name any more. */
const char *
follow_why_not_open (int errnum)
{
  return errnum == ENOENT ? "it is opened through /proc, which is not mounted"
    : strerror (errnum);
}

/* The part of 'path' behind 'folder', or NULL. */
static const char *
behind (const char *path, const char *folder)
{
  size_t len = strlen (folder);

  while (len > 0 && folder[len - 1] == '/')
    len--;
  if (strncmp (path, folder, len) != 0 ||
      (path[len] != '/' && path[len] != '\0'))
    return NULL;
  path += len;
  return path + strspn (path, "/");
}

const char *
follow_beneath (const struct rules *rules, const char *path)
{
  const char *const rest = behind (path, rules->follow);

  return rest ? rest : behind (path, rules->follow_given);
}
