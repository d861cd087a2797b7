/* SPDX-License-Identifier: BSD-3-Clause */
/* secrets.c - reading passphrases, and where they stay in memory.
 *
 * Owns      the bytes of passphrases.
 * Method    each has pages of its own, which are left out of core dumps,
 *           kept out of the swap as far as the limit of locked memory
 *           allows, and wiped before they are given back.  A file or a
 *           descriptor is read straight into such pages: nbdkit's function
 *           for that reads through a buffer of the C library, where a copy
 *           stays.  The terminal is left to that function, since what is
 *           typed in passes through several hands anyway.
 * Locks     none: only the main thread changes anything, before there are
 *           others.
 */
#include "config.h"

#include "secrets.h"

#include "nbdkit_api.h"
#include "host/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_PASSPHRASE 65535

/* 'size' > 0 bytes, all zero; NULL and logs on error. */
static char *
pages_alloc (size_t size)
{
  char *const p = mmap (NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  if (p == MAP_FAILED) {
    nbdkit_error ("qcow2-passphrase: mmap: %m");
    return NULL;
  }
  /* Not worth failing for. */
  (void) madvise (p, size, MADV_DONTDUMP);
  return p;
}

static void
pages_free (char *p, size_t size)
{
  explicit_bzero (p, size);
  munmap (p, size);
}

static int
keep (struct passphrase *ret, const char *bytes, size_t len)
{
  ret->bytes = pages_alloc (len + 1);
  if (ret->bytes == NULL)
    return -1;
  ret->len = len;
  memcpy (ret->bytes, bytes, len);
  return 0;
}

/* As far as the first line needs.  Returns how much was read, -1 with errno
 * set on error.
 */
static ssize_t
read_line (int fd, char *buf, size_t size)
{
  size_t have = 0;

  while (have < size && memchr (buf, '\n', have) == NULL) {
    const ssize_t n = read (fd, buf + have, size - have);

    if (n == -1 && errno == EINTR)
      continue;
    if (n == -1)
      return -1;
    if (n == 0)
      break;
    have += n;
  }
  return have;
}

/* 'what' is for messages. */
static int
keep_line (struct passphrase *ret, int fd, const char *what)
{
  char *const buf = pages_alloc (MAX_PASSPHRASE + 2);
  ssize_t n;
  int r = -1;

  if (buf == NULL)
    return -1;
  n = read_line (fd, buf, MAX_PASSPHRASE + 1);
  if (n == -1)
    nbdkit_error ("qcow2-passphrase: %s cannot be read: %m", what);
  else if (memchr (buf, '\n', n) == NULL && n > MAX_PASSPHRASE)
    nbdkit_error ("qcow2-passphrase: the first line of %s is longer than %d "
                  "bytes", what, MAX_PASSPHRASE);
  else
    r = keep (ret, buf, strcspn (buf, "\n")); /* or up to a NUL byte */
  pages_free (buf, MAX_PASSPHRASE + 2);
  return r;
}

static int
read_file (struct passphrase *ret, const char *path)
{
  int fd, r;

  if (path[0] == '\0') {
    nbdkit_error ("qcow2-passphrase: there is no name of a file after '+'");
    return -1;
  }
  fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd == -1) {
    nbdkit_error ("qcow2-passphrase: the file with the passphrase, %s, "
                  "cannot be opened: %m", path);
    return -1;
  }
  r = keep_line (ret, fd, path);
  close (fd);
  return r;
}

static int
read_descriptor (struct passphrase *ret, const char *number)
{
  const size_t digits = strspn (number, "0123456789");
  int fd, r;

  /* It may be a passphrase by mistake, which must not be logged. */
  if (digits == 0 || digits > 9 || number[digits] != '\0') {
    nbdkit_error ("qcow2-passphrase: after '-' there must be the number of a "
                  "descriptor; give a passphrase that begins with '-' in a "
                  "file, qcow2-passphrase=+FILE");
    return -1;
  }
  fd = (int) strtol (number, NULL, 10);
  if (fd <= STDERR_FILENO) {
    nbdkit_error ("qcow2-passphrase: descriptors 0, 1 and 2 are the "
                  "server's own; give another one, as in "
                  "'qcow2-passphrase=-3 3<FILE'");
    return -1;
  }
  r = keep_line (ret, fd, "the descriptor");
  close (fd);
  return r;
}

static int
ask (struct passphrase *ret)
{
  char *typed;
  int r;

  if (nbdkit_read_password ("-", &typed) == -1)
    return -1;
  r = keep (ret, typed, strlen (typed));
  explicit_bzero (typed, strlen (typed));
  free (typed);
  return r;
}

int
passphrase_read (struct passphrase *ret, const char *value)
{
  if (value[0] == '+')
    return read_file (ret, value + 1);
  if (strcmp (value, "-") == 0)
    return ask (ret);
  if (value[0] == '-')
    return read_descriptor (ret, value + 1);
  return keep (ret, value, strlen (value));
}

void
passphrase_lock (struct passphrase *p)
{
  (void) mlock (p->bytes, p->len + 1);
}

void
passphrase_wipe (struct passphrase *p)
{
  if (p->bytes)
    pages_free (p->bytes, p->len + 1);
  p->bytes = NULL;
}
