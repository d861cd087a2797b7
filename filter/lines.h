/* SPDX-License-Identifier: BSD-3-Clause */
/* lines.h - every line that is logged.
 *
 * Any thread may call these, and hold any lock meanwhile: they take one of
 * their own for a few instructions.  Names and texts stay the caller's.
 */
#ifndef LINES_H
#define LINES_H

#include <stdarg.h>
#include <stdbool.h>

/* As nbdkit's own, which nobody else calls, but that whatever is in the text
 * it stays one line, and that errors of one format are limited.  They do not
 * change errno.
 */
extern void log_error (const char *format, ...)
  __attribute__ ((__format__ (__printf__, 1, 2)));
extern void log_debug (const char *format, ...)
  __attribute__ ((__format__ (__printf__, 1, 2)));

/* With the name of an image, unless that is empty.  Lines of one name, format
 * and number are limited.  There is no nbdkit function for warnings; an error
 * only logs.
 */
extern void log_warning (unsigned number, const char *name,
                         const char *format, ...)
  __attribute__ ((__format__ (__printf__, 3, 4)));
extern void log_warning_args (unsigned number, const char *name,
                              const char *format, va_list args)
  __attribute__ ((__format__ (__printf__, 3, 0)));
#define warning(name, ...) log_warning (0, (name), __VA_ARGS__)

/* What this thread warns of from now on is of no interest to most people. */
extern void report_quietly (bool quietly);
extern bool report_is_quiet (void);

/* Say how many lines have been left out; 'all': also of the last minute. */
extern void log_summaries (bool all);

#endif /* LINES_H */
