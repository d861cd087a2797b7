/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - errors of the engine to nbdkit's log.
 *
 * Owns      the form of our messages: "qcow2: FILE: what happened".
 * Locks     none.
 */
#include "config.h"

#include "filter.h"

#include <errno.h>

static int
errnum_of (const struct qcow2_error *error)
{
  switch (error->kind) {
  case QCOW2_ERR_NO_SPACE:
    return ENOSPC;
  case QCOW2_ERR_READ_ONLY:
    return EROFS;
  case QCOW2_ERR_NOT_FAST:
    return EOPNOTSUPP;
  default:
    return error->errnum > 0 ? error->errnum : EIO;
  }
}

int
report (const char *name, const struct qcow2_error *error)
{
  if (name[0] != '\0')
    nbdkit_error ("qcow2: %s: %s", name, error->text);
  else
    nbdkit_error ("qcow2: %s", error->text);
  return errnum_of (error);
}
