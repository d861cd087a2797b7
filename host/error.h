/* SPDX-License-Identifier: BSD-3-Clause */
/* error.h - making errors, as the engine does.
 *
 * The error stays the caller's.
 */
#ifndef HOST_ERROR_H
#define HOST_ERROR_H

#include "qcow2.h"

/* Make an error; always returns -1. */
extern int fail_with (struct qcow2_error *err, enum qcow2_error_kind kind,
                      int errnum, const char *fmt, ...)
  __attribute__ ((__format__ (__printf__, 4, 5)));
/* Put words in front of its text; always returns -1. */
extern int fail_in (struct qcow2_error *err, const char *fmt, ...)
  __attribute__ ((__format__ (__printf__, 2, 3)));

#endif /* HOST_ERROR_H */
