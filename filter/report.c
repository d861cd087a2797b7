/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - errors of the engine to nbdkit's log.
 *
 * Owns      the form of our messages: "qcow2: FILE: what happened".
 * Method    who only looks whether something is there (list.c) has the
 *           reports of his thread go where only -v shows them.  Others who
 *           wait for what he opens try it themselves if he fails, and report
 *           as usual.
 * Locks     none.
 */
#include "config.h"

#include "filter.h"

#include <errno.h>
#include <stdlib.h>

static _Thread_local bool quiet;

void
report_quietly (bool quietly)
{
  quiet = quietly;
}

bool
report_is_quiet (void)
{
  return quiet;
}

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

bool
bug_found (const char *what, const char *file, int line)
{
  nbdkit_error ("qcow2: this is a bug, please report it: '%s' is not true at "
                "%s:%d", what, file, line);
  if (qcow2_aborts_on_bugs ())
    abort ();
  return false;
}

int
report (const char *name, const struct qcow2_error *error)
{
  const bool was_quiet = quiet;

  /* A bug is of interest whoever looks. */
  quiet = quiet && error->kind != QCOW2_ERR_BUG;
  warning (name, "%s", error->text);
  quiet = was_quiet;
  return errnum_of (error);
}
