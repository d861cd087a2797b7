/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - errors of the engine to nbdkit's log.
 *
 * Owns      which errno value a client gets.
 * Method    lines.c says the text.
 * Locks     none.
 */
#include "config.h"

#include "report.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "lines.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* For this thread: CLOCK_MONOTONIC, 0 is never; and whether it came to
 * that.
 */
static _Thread_local time_t give_up_at;
static _Thread_local bool gave_up;

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
  const bool quietly = report_is_quiet ();

  /* A bug is of interest whoever looks. */
  report_quietly (quietly && error->kind != QCOW2_ERR_BUG);
  log_warning (error->kind, name, "%s", error->text);
  report_quietly (quietly);
  return errnum_of (error);
}

static time_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec;
}

void
wait_at_most (unsigned seconds)
{
  give_up_at = seconds > 0 ? now () + seconds : 0;
  gave_up = false;
}

bool
waited_in_vain (void)
{
  return gave_up;
}

/* A sleep of no time: nbdkit ends it early, with an error, when nobody would
 * be there afterwards.  It logs a line then.
 */
bool
nobody_waits (void *ignored)
{
  (void) ignored;
  if (give_up_at != 0 && now () >= give_up_at) {
    gave_up = true;
    return true;
  }
  return nbdkit_nanosleep (0, 0) == -1;
}
