/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdkit_api.h - nbdkit's header.
 *
 * No other file includes that: nbdkit's own functions that log are redirected
 * to lines.h here, so that no line goes by it.
 */
#ifndef NBDKIT_API_H
#define NBDKIT_API_H

#include "lines.h"

/* Before the header, so that the compiler checks nbdkit_error's formats
 * although they may use %m.
 */
#define HAVE_VFPRINTF_PERCENT_M 1
#include <nbdkit-filter.h>

#define NBDKIT_AT_LEAST(major, minor)                                         \
  (NBDKIT_VERSION_MAJOR > (major) ||                                          \
   (NBDKIT_VERSION_MAJOR == (major) && NBDKIT_VERSION_MINOR >= (minor)))

#define nbdkit_error log_error
#define nbdkit_debug log_debug

#endif /* NBDKIT_API_H */
