/* SPDX-License-Identifier: BSD-3-Clause */
/* assume.c - see assume.h.
 *
 * Owns      the broken assumption that each thread remembers until its request
 *           ends.
 * Locks     none: each thread has its own.
 */
#include "config.h"

#include "base/assume.h"

#include "base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* text[0] is '\0' if there is nothing to remember. */
static _Thread_local char remembered[sizeof ((struct qcow2_error *) 0)->text];

bool
qcow2_aborts_on_bugs (void)
{
#ifdef DEBUG_ASSERTIONS
  return true;
#else
  return getenv ("QCOW2_ABORT_ON_BUGS") != NULL;
#endif
}

static void
describe (char *text, size_t size, const char *what, const char *file,
          int line)
{
  snprintf (text, size, "this is a bug, please report it: '%s' is not true at "
            "%s:%d", what, file, line);
  if (qcow2_aborts_on_bugs ()) {
    fprintf (stderr, "qcow2: %s\n", text);
    abort ();
  }
}

bool
q2_assume_failed (struct qcow2_error *err, const char *what,
                  const char *file, int line)
{
  char text[sizeof remembered];

  describe (text, sizeof text, what, file, line);
  q2_fail (err, QCOW2_ERR_BUG, QCOW2_NO_OFFSET, "%s", text);
  return false;
}

bool
q2_check_failed (const char *what, const char *file, int line)
{
  char text[sizeof remembered];

  describe (text, sizeof text, what, file, line);
  if (remembered[0] == '\0')
    memcpy (remembered, text, sizeof text);
  return false;
}

bool
qcow2_bug (const char *what, const char *file, int line)
{
  return q2_check_failed (what, file, line);
}

int
q2_check_end (struct qcow2_error *err)
{
  if (__builtin_expect (remembered[0] == '\0', 1))
    return 0;
  q2_fail (err, QCOW2_ERR_BUG, QCOW2_NO_OFFSET, "%s", remembered);
  remembered[0] = '\0';
  return -1;
}

void
q2_check_pass_on (const struct qcow2_error *err)
{
  if (remembered[0] == '\0')
    memcpy (remembered, err->text, sizeof remembered);
}
