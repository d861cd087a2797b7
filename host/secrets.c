/* SPDX-License-Identifier: BSD-3-Clause */
/* secrets.c - reading passphrases, and where they stay in memory.
 *
 * Owns      the bytes of passphrases.
 * Method    each has pages of its own, which are left out of core dumps,
 *           kept out of the swap as far as the limit of locked memory
 *           allows, and wiped before they are given back.  A file or a
 *           descriptor is read straight into such pages, not through a buffer
 *           of the C library, where a copy would stay.  The terminal is left
 *           to the program, since what is typed in passes through several
 *           hands anyway.
 * Locks     none: only the main thread changes anything, before there are
 *           others.
 */
#include "config.h"

#include "host/secrets.h"

#include "qcow2.h"
#include "host/error.h"
#include "host/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_PASSPHRASE 65535

/* What a value is for, in messages, and where an error goes. */
struct reading {
  const char *key;
  struct qcow2_error *err;
};

static int
fail_reading (const struct reading *r, const char *what, const char *why)
{
  return fail_with (r->err, QCOW2_ERR_IO, errno, "%s: %s%s", r->key, what,
                    why);
}

/* 'size' > 0 bytes, all zero; NULL with the error filled in. */
static char *
pages_alloc (const struct reading *r, size_t size)
{
  char *const p = mmap (NULL, size, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

  if (p == MAP_FAILED) {
    fail_reading (r, "mmap: ", strerror (errno));
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
keep (const struct reading *r, struct passphrase *ret, const char *bytes,
      size_t len)
{
  ret->bytes = pages_alloc (r, len + 1);
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
  (void) qcow2_holds (have <= size);
  return have;
}

/* 'what' is for messages. */
static int
keep_line (const struct reading *r, struct passphrase *ret, int fd,
           const char *what)
{
  char *const buf = pages_alloc (r, MAX_PASSPHRASE + 2);
  ssize_t n;
  int ok = -1;

  if (buf == NULL)
    return -1;
  n = read_line (fd, buf, MAX_PASSPHRASE + 1);
  if (n == -1)
    fail_with (r->err, QCOW2_ERR_IO, errno, "%s: %s cannot be read: %s",
               r->key, what, strerror (errno));
  else if (memchr (buf, '\n', n) == NULL && n > MAX_PASSPHRASE)
    fail_with (r->err, QCOW2_ERR_INVALID, EINVAL, "%s: the first line of %s "
               "is longer than %d bytes", r->key, what, MAX_PASSPHRASE);
  else
    /* Or up to a NUL byte. */
    ok = keep (r, ret, buf, strcspn (buf, "\n"));
  pages_free (buf, MAX_PASSPHRASE + 2);
  return ok;
}

static int
read_file (const struct reading *r, struct passphrase *ret, const char *path)
{
  int fd, ok;

  if (path[0] == '\0')
    return fail_with (r->err, QCOW2_ERR_INVALID, EINVAL,
                      "%s: there is no name of a file after '+'", r->key);
  fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd == -1)
    return fail_with (r->err, QCOW2_ERR_IO, errno,
                      "%s: the file with the passphrase, %s, cannot be "
                      "opened: %s", r->key, path, strerror (errno));
  ok = keep_line (r, ret, fd, path);
  close (fd);
  return ok;
}

static int
read_descriptor (const struct reading *r, struct passphrase *ret,
                 const char *number)
{
  const size_t digits = strspn (number, "0123456789");
  int fd, ok;

  /* It may be a passphrase by mistake, which must not be logged. */
  if (digits == 0 || digits > 9 || number[digits] != '\0')
    return fail_with (r->err, QCOW2_ERR_INVALID, EINVAL,
                      "%s: after '-' there must be the number of a "
                      "descriptor; give a passphrase that begins with '-' in "
                      "a file, +FILE", r->key);
  fd = (int) strtol (number, NULL, 10);
  if (fd <= STDERR_FILENO)
    return fail_with (r->err, QCOW2_ERR_INVALID, EINVAL,
                      "%s: descriptors 0, 1 and 2 are the program's own; give "
                      "another one, as in '-3' with '3<FILE'", r->key);
  ok = keep_line (r, ret, fd, "the descriptor");
  close (fd);
  return ok;
}

static int
ask (const struct reading *r, struct passphrase *ret, ask_fn asking)
{
  char *typed;
  int ok;

  if (asking (r->key, &typed, r->err) == -1)
    return -1;
  ok = keep (r, ret, typed, strlen (typed));
  explicit_bzero (typed, strlen (typed));
  free (typed);
  return ok;
}

int
passphrase_read (struct passphrase *ret, const char *key, const char *value,
                 ask_fn asking, struct qcow2_error *err)
{
  const struct reading r = { key, err };

  if (value[0] == '+')
    return read_file (&r, ret, value + 1);
  if (strcmp (value, "-") == 0)
    return ask (&r, ret, asking);
  if (value[0] == '-')
    return read_descriptor (&r, ret, value + 1);
  return keep (&r, ret, value, strlen (value));
}

void
passphrase_lock (struct passphrase *p)
{
  (void) qcow2_holds (p->bytes != NULL && p->bytes[p->len] == '\0');
  (void) mlock (p->bytes, p->len + 1);
}

void
passphrase_wipe (struct passphrase *p)
{
  if (p->bytes)
    pages_free (p->bytes, p->len + 1);
  p->bytes = NULL;
}
