/* SPDX-License-Identifier: BSD-3-Clause */
/* qmp.h - what is said on the control socket.
 *
 * Lines of text are the caller's, to be freed; NULL if memory is short.
 */
#ifndef CONTROL_QMP_H
#define CONTROL_QMP_H

#include <stdbool.h>
#include <stddef.h>

extern char *qmp_greeting (void);
/* Run the command of a message, and say what came of it. */
extern char *qmp_run (const char *message, size_t len, bool *negotiated);
/* An error that belongs to no command. */
extern char *qmp_error (const char *desc);

#endif /* CONTROL_QMP_H */
