/* SPDX-License-Identifier: BSD-3-Clause */
/* address.c - a Unix domain socket in the file system.
 *
 * Owns      the name of the control socket.
 * Method    a server that was killed leaves its socket behind: one that is
 *           ours, and that nobody listens on, is removed.  Two servers that
 *           start at once could each find the other's new socket dead, so the
 *           folder is locked until ours listens.
 * Locks     that one, across processes; none between threads.
 */
#include "config.h"

#include "control/address.h"

#include "nbdkit_api.h"
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Many may come at once; those that do not wait get an error beyond that. */
#define BACKLOG 128

/* How long the folder may be locked by somebody else. */
#define LOCK_TRIES 50
#define LOCK_PAUSE_MS 100

/* What address_listen has made. */
static struct {
  bool made;
  dev_t dev;
  ino_t ino;
} own;

int
address_check (const char *path)
{
  const size_t room = sizeof ((struct sockaddr_un *) NULL)->sun_path;

  if (strlen (path) < room)
    return 0;
  nbdkit_error ("qcow2-control: the path of a socket can have %zu bytes, and "
                "'%s' is longer", room - 1, path);
  return -1;
}

static struct sockaddr_un
address_of (const char *path)
{
  struct sockaddr_un a = { .sun_family = AF_UNIX };

  (void) holds (strlen (path) < sizeof a.sun_path);     /* address_check */
  strncpy (a.sun_path, path, sizeof a.sun_path - 1);
  return a;
}

/* The folder, locked; -1 and logs. */
static int
lock_folder (const char *path)
{
  char *const copy = strdup (path);
  const struct timespec pause = { 0, LOCK_PAUSE_MS * 1000000L };
  const int fd = copy == NULL ? -1
    : open (dirname (copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int tries = 0;

  free (copy);
  if (fd == -1) {
    nbdkit_error ("qcow2-control: the folder of '%s' cannot be opened: %m",
                  path);
    return -1;
  }
  while (flock (fd, LOCK_EX | LOCK_NB) == -1) {
    if (errno != EWOULDBLOCK || ++tries == LOCK_TRIES) {
      nbdkit_error ("qcow2-control: the folder of '%s' cannot be locked: %m",
                    path);
      close (fd);
      return -1;
    }
    nanosleep (&pause, NULL);
  }
  return fd;
}

/* Nobody listens there. */
static bool
is_dead (const char *path)
{
  const struct sockaddr_un a = address_of (path);
  const int fd = socket (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
                         0);
  bool dead;

  if (fd == -1)
    return false;
  dead = connect (fd, (const struct sockaddr *) &a, sizeof a) == -1 &&
    errno == ECONNREFUSED;
  close (fd);
  return dead;
}

/* Make room for ours, if something is there. */
static int
clear_path (const char *path)
{
  struct stat st;

  if (lstat (path, &st) == -1) {
    if (errno == ENOENT)
      return 0;
    nbdkit_error ("qcow2-control: %s: %m", path);
    return -1;
  }
  if (!S_ISSOCK (st.st_mode) || st.st_uid != geteuid ()) {
    nbdkit_error ("qcow2-control: %s exists, and is %s; it is left alone",
                  path, S_ISSOCK (st.st_mode) ? "a socket of another user"
                  : "no socket");
    return -1;
  }
  if (!is_dead (path)) {
    nbdkit_error ("qcow2-control: another process listens on %s", path);
    return -1;
  }
  if (unlink (path) == 0)
    return 0;
  nbdkit_error ("qcow2-control: the old socket %s cannot be removed: %m",
                path);
  return -1;
}

static int
bind_and_listen (int fd, const char *path)
{
  const struct sockaddr_un a = address_of (path);
  const mode_t mask = umask (0177);
  const int r = bind (fd, (const struct sockaddr *) &a, sizeof a);
  struct stat st;

  umask (mask);
  if (r == -1)
    return -1;
  (void) holds (!own.made);
  if (lstat (path, &st) == 0) {
    own.made = true;
    own.dev = st.st_dev;
    own.ino = st.st_ino;
  }
  return listen (fd, BACKLOG);
}

int
address_listen (const char *path)
{
  const int folder = lock_folder (path);
  int fd = -1;

  if (folder == -1)
    return -1;
  if (clear_path (path) == 0) {
    fd = socket (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd == -1 || bind_and_listen (fd, path) == -1) {
      nbdkit_error ("qcow2-control: the socket %s cannot be made: %m", path);
      if (fd != -1)
        close (fd);
      fd = -1;
      address_remove (path);
    }
  }
  close (folder);
  return fd;
}

void
address_remove (const char *path)
{
  struct stat st;

  if (own.made && lstat (path, &st) == 0 && st.st_dev == own.dev &&
      st.st_ino == own.ino)
    unlink (path);
  own.made = false;
}
