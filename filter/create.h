/* SPDX-License-Identifier: BSD-3-Clause */
/* create.h - an image is created where there is none (qcow2-create). */
#ifndef CREATE_H
#define CREATE_H

#include <stdbool.h>

struct qcow2_io;

/* The parameter.  -1 and a line in the log if it makes no sense. */
extern int create_parse (const char *value);
/* When all parameters are known. */
extern int create_complete (void);
extern bool create_wanted (void);
extern void create_unload (void);

/* Whether an image has to be created in the file: 1, 0, or -1, logged and with
 * errno, if it has something else.  Ask again when the file is locked.
 */
extern int create_needed (const struct qcow2_io *io, const char *name);

/* Create it; logs. */
extern int create_now (const struct qcow2_io *io, const char *name);

#endif /* CREATE_H */
