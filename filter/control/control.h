/* SPDX-License-Identifier: BSD-3-Clause */
/* control.h - the control socket, qcow2-control=PATH.
 *
 * Only the main thread calls these, in this order.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include <stdbool.h>

/* Whether this was built with what it needs. */
extern bool control_supported (void);
/* The value of the parameter.  Returns -1 and logs on error. */
extern int control_parse (const char *path);
/* In .get_ready: make the socket, if it can be made already.  This and the
 * next do nothing if there was no parameter, and return -1 and log on error.
 */
extern int control_get_ready (void);
/* When privileges have been dropped and there can be threads. */
extern int control_start (void);
/* Before the first image is closed for good: when it returns no command runs
 * any more, and there is no socket.
 */
extern void control_stop (void);
extern void control_unload (void);

#endif /* CONTROL_CONTROL_H */
