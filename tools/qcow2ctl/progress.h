/* SPDX-License-Identifier: BSD-3-Clause */
/* progress.h - how far a command is, and its end if the user wants that.
 *
 * For the 'progress' functions of qcow2.h: opaque is a struct progress, which
 * the command owns.
 */
#ifndef PROGRESS_H
#define PROGRESS_H

#include "ctl.h"

struct progress {
  bool shown;                   /* -p */
  unsigned last;                /* percent, shown last */
};

/* From now on SIGUSR1 does not end the program. */
extern void progress_expect (void);

/* From now on ^C (SIGINT), SIGTERM and SIGHUP end the command at its next safe
 * point, the second one at once; and SIGUSR1 shows how far it is.
 */
extern void progress_begin (struct progress *p, const struct ctl *ctl);
/* False: end. */
extern bool progress_report (void *opaque, unsigned percent);
/* Ends the line that was shown. */
extern void progress_end (struct progress *p);

#endif /* PROGRESS_H */
