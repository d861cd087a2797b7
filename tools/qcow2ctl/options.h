/* SPDX-License-Identifier: BSD-3-Clause */
/* options.h - from the command line to struct ctl and struct args.
 *
 * All return an exit code, having said what is wrong, or one of these:
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "ctl.h"

#define OPTIONS_HELP     -1
#define OPTIONS_VERSION  -2
#define OPTIONS_COMPLETE -3     /* what bash is to complete */

/* The options before the command; *ret_done words are used up. */
extern int options_parse_first (struct ctl *ctl, char **argv, size_t argc,
                                size_t *ret_done);
/* Those behind it, which need args->command. */
extern int options_parse (struct ctl *ctl, char **argv, size_t argc,
                          struct args *args);
extern void options_free (struct args *args);

/* The groups of options that a command takes (TAKES_...), one after the other:
 * the list for 'group', which is a bit, or NULL; 0 is what all commands have.
 */
extern const struct option_spec *options_of_group (unsigned group);

#endif /* OPTIONS_H */
