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

int
report (const char *name, const struct qcow2_error *error)
{
  warning (name, "%s", error->text);
  return errnum_of (error);
}

/* A sleep of no time: nbdkit ends it early, with an error, when nobody would
 * be there afterwards.  It logs a line then.
 */
bool
nobody_waits (void *ignored)
{
  (void) ignored;
  return nbdkit_nanosleep (0, 0) == -1;
}
