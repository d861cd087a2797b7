/* SPDX-License-Identifier: BSD-3-Clause */
/* help.h - what --help and --version print; all return an exit code. */
#ifndef HELP_H
#define HELP_H

#include "ctl.h"

/* The array ends with NULL. */
extern int help_all (const struct command *const *commands);
extern int help_command (const struct command *command);
extern int help_version (void);
/* For bash: a line for each command, its name, a tab, and its options. */
extern int help_complete (const struct command *const *commands);

#endif /* HELP_H */
