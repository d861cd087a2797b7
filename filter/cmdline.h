/* SPDX-License-Identifier: BSD-3-Clause */
/* cmdline.h - which options nbdkit was started with.
 *
 * Any thread may ask.
 */
#ifndef CMDLINE_H
#define CMDLINE_H

#include <stdbool.h>

/* Whether there is an option of nbdkit with that letter, or one whose long
 * name begins as 'prefix' does, "--re".  If the command line cannot be read:
 * true.
 */
extern bool cmdline_has_option (char letter, const char *prefix);

#endif /* CMDLINE_H */
