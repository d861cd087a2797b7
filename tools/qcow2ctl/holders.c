/* SPDX-License-Identifier: BSD-3-Clause */
/* holders.c - who has a file locked.
 *
 * Owns      nothing.
 * Method    the kernel does not tell whose an OFD lock is, since it belongs to
 *           no process; but /proc/PID/fdinfo has a line for each lock of a
 *           descriptor.  So look at all descriptors of all processes that this
 *           user may look at, take those of the same file, and of these the
 *           locked ones.
 * Locks     none.
 */
#include "config.h"

#include "holders.h"

#include "ctl.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Lines to print; a file may be open in any number of processes. */
#define MAX_LINES 8

/* A device is the same under all its names. */
static bool
same_file (const struct stat *a, const struct stat *b)
{
  if (S_ISBLK (a->st_mode))
    return S_ISBLK (b->st_mode) && a->st_rdev == b->st_rdev;
  return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Whether a descriptor, "/proc/PID/fdinfo/N", has locks. */
static bool
has_locks (const char *path)
{
  FILE *const f = fopen (path, "re");
  char line[300];
  bool found = false;

  while (f && !found && fgets (line, sizeof line, f))
    found = strncmp (line, "lock:", 5) == 0;
  if (f)
    fclose (f);
  return found;
}

static bool
process_has (const char *pid, const struct stat *file)
{
  char path[600];
  const struct dirent *e;
  bool found = false;
  DIR *dir;
  int fd;

  snprintf (path, sizeof path, "/proc/%s/fd", pid);
  dir = opendir (path);
  fd = dir ? dirfd (dir) : -1;
  while (fd != -1 && !found && (e = readdir (dir)) != NULL) {
    struct stat st;

    if (fstatat (fd, e->d_name, &st, 0) == -1 ||
        !same_file (file, &st))
      continue;
    snprintf (path, sizeof path, "/proc/%s/fdinfo/%s", pid, e->d_name);
    found = has_locks (path);
  }
  if (dir)
    closedir (dir);
  return found;
}

static void
print_process (const char *name, const char *pid)
{
  char path[300], comm[64] = "?";
  FILE *f;

  snprintf (path, sizeof path, "/proc/%s/comm", pid);
  f = fopen (path, "re");
  if (f && fgets (comm, sizeof comm, f))
    comm[strcspn (comm, "\n")] = '\0';
  if (f)
    fclose (f);
  for (char *p = comm; *p; ++p)
    if (!isprint ((unsigned char) *p))
      *p = '?';
  warn_line ("%s: in use by process %s (%s)", name, pid, comm);
}

void
holders_print (int fd, const char *name)
{
  const struct dirent *e;
  unsigned lines = 0;
  struct stat st;
  DIR *proc;

  if (fstat (fd, &st) == -1)
    return;
  proc = opendir ("/proc");
  while (proc && lines < MAX_LINES && (e = readdir (proc)) != NULL)
    if (isdigit ((unsigned char) e->d_name[0]) &&
        strtol (e->d_name, NULL, 10) != getpid () &&
        process_has (e->d_name, &st)) {
      print_process (name, e->d_name);
      ++lines;
    }
  if (proc)
    closedir (proc);
}
