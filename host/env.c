/* SPDX-License-Identifier: BSD-3-Clause */
/* env.c - calls to the program that host/ is a part of.
 *
 * Owns      nothing.
 * Method    see env.h.
 * Locks     none.
 */
#include "config.h"

#include "host/env.h"

#include "qcow2.h"

#include <errno.h>
#include <stdlib.h>

void
host_log (const struct host_env *env, enum host_log_level level,
          const char *name, const char *format, ...)
{
  const int saved_errno = errno;
  va_list args;

  va_start (args, format);
  env->log (env, level, name, format, args);
  va_end (args);
  errno = saved_errno;
}

bool
host_bug_found (const struct host_env *env, const char *what,
                const char *file, int line)
{
  host_log (env, HOST_LOG_BUG, "", "this is a bug, please report it: '%s' is "
            "not true at %s:%d", what, file, line);
  if (qcow2_aborts_on_bugs ())
    abort ();
  return false;
}
