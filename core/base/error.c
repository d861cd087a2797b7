/* SPDX-License-Identifier: BSD-3-Clause */
/* error.c - making struct qcow2_error.
 *
 * Owns      the mapping from error kinds to errno values.
 * Method    the struct lives on the caller's stack and has a fixed buffer, so
 *           making an error allocates nothing and works without memory.
 * Locks     none.
 */
#include "config.h"

#include "base/error.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int
kind_to_errno (enum qcow2_error_kind kind)
{
  switch (kind) {
  case QCOW2_ERR_IO:          return EIO;
  case QCOW2_ERR_NOMEM:       return ENOMEM;
  case QCOW2_ERR_FORMAT:      return EINVAL;
  case QCOW2_ERR_UNSUPPORTED: return ENOTSUP;
  case QCOW2_ERR_CORRUPT:     return EIO;
  case QCOW2_ERR_RANGE:       return EINVAL;
  case QCOW2_ERR_NO_SPACE:    return ENOSPC;
  case QCOW2_ERR_READ_ONLY:   return EROFS;
  case QCOW2_ERR_NOT_FAST:    return EOPNOTSUPP;
  case QCOW2_ERR_AUTH:        return EACCES;
  case QCOW2_ERR_REFUSED:     return EPERM;
  case QCOW2_ERR_NOT_FOUND:   return ENOENT;
  case QCOW2_ERR_EXISTS:      return EEXIST;
  case QCOW2_ERR_BUSY:        return EBUSY;
  case QCOW2_ERR_TRUNCATED:
  case QCOW2_ERR_BUG:         return EIO;
  case QCOW2_ERR_ABANDONED:   return ESHUTDOWN;
  case QCOW2_ERR_CANCELLED:   return ECANCELED;
  case QCOW2_ERR_INVALID:     return EINVAL;
  }
  return EIO;
}

/* errnum > 0. */
static void
fill (struct qcow2_error *err, enum qcow2_error_kind kind, int errnum,
      uint64_t host_off, const char *fmt, va_list args)
{
  err->kind = kind;
  err->errnum = errnum > 0 ? errnum : EIO;
  err->offset = host_off;
  err->advice = QCOW2_ADVICE_NONE;
  err->outcome = QCOW2_OUTCOME_NOT_DONE;
  vsnprintf (err->text, sizeof err->text, fmt, args);
}

int
q2_fail (struct qcow2_error *err, enum qcow2_error_kind kind,
         uint64_t host_off, const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  fill (err, kind, kind_to_errno (kind), host_off, fmt, args);
  va_end (args);
  return -1;
}

int
q2_fail_advise (struct qcow2_error *err, enum qcow2_error_kind kind,
                enum qcow2_advice advice, uint64_t host_off,
                const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  fill (err, kind, kind_to_errno (kind), host_off, fmt, args);
  va_end (args);
  err->advice = advice;
  return -1;
}

int
q2_fail_io (struct qcow2_error *err, int errnum, uint64_t host_off,
            const char *fmt, ...)
{
  va_list args;

  va_start (args, fmt);
  fill (err, QCOW2_ERR_IO, errnum, host_off, fmt, args);
  va_end (args);
  return -1;
}

int
q2_fail_nomem (struct qcow2_error *err, const char *what)
{
  return q2_fail (err, QCOW2_ERR_NOMEM, QCOW2_NO_OFFSET,
                  "out of memory for %s", what);
}

int
q2_fail_outcome (struct qcow2_error *err, enum qcow2_outcome outcome,
                 const char *words)
{
  char why[sizeof err->text];

  memcpy (why, err->text, sizeof why);
  snprintf (err->text, sizeof err->text, "%s: %.*s", words,
            (int) (sizeof why - 1 - strlen (words) - 2), why);
  err->outcome = outcome;
  return -1;
}

const char *
q2_printable (char *out, size_t size, const void *bytes, size_t len)
{
  const unsigned char *p = bytes;
  const size_t room = size - sizeof "...";
  size_t n = 0;

  assert (size >= 8);
  for (size_t i = 0; i < len; ++i) {
    const bool plain =
      p[i] >= 0x20 && p[i] < 0x7f && p[i] != '\\' && p[i] != '\'';

    if (n + (plain ? 1 : 4) > room) {
      n += (size_t) snprintf (out + n, size - n, "...");
      break;
    }
    if (plain)
      out[n++] = (char) p[i];
    else
      n += (size_t) snprintf (out + n, size - n, "\\x%02x", p[i]);
  }
  out[n] = '\0';
  return out;
}
