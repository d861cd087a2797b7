/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - errors of the engine to nbdkit's log.
 *
 * Owns      the form of our messages: "qcow2: FILE: what happened".
 * Locks     none.
 */
#include "config.h"

#include "filter.h"

int
report (const char *name, const struct qcow2_error *error)
{
  if (name[0] != '\0')
    nbdkit_error ("qcow2: %s: %s", name, error->text);
  else
    nbdkit_error ("qcow2: %s", error->text);
  return error->errnum;
}
