/* SPDX-License-Identifier: BSD-3-Clause */
/* error.c - making errors, as the engine does.
 *
 * Owns      nothing.
 * Locks     none.
 */
#include "config.h"

#include "host/error.h"

#include "qcow2.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int
fail_with (struct qcow2_error *err, enum qcow2_error_kind kind, int errnum,
           const char *fmt, ...)
{
  va_list args;

  err->kind = kind;
  err->errnum = errnum > 0 ? errnum : EIO;
  err->offset = QCOW2_NO_OFFSET;
  err->advice = QCOW2_ADVICE_NONE;
  err->outcome = QCOW2_OUTCOME_NOT_DONE;
  va_start (args, fmt);
  vsnprintf (err->text, sizeof err->text, fmt, args);
  va_end (args);
  return -1;
}

int
fail_in (struct qcow2_error *err, const char *fmt, ...)
{
  char text[sizeof err->text];
  va_list args;
  int n;

  memcpy (text, err->text, sizeof text);
  va_start (args, fmt);
  n = vsnprintf (err->text, sizeof err->text, fmt, args);
  va_end (args);
  if (n >= 0 && (size_t) n < sizeof err->text)
    snprintf (err->text + n, sizeof err->text - n, "%s", text);
  return -1;
}
