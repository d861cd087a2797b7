/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - errors of the engine to nbdkit's log.
 *
 * Owns      which errno value a client gets.
 * Method    lines.c says the text.
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
  log_warning (error->kind, name, "%s", error->text);
  return errnum_of (error);
}
