/* SPDX-License-Identifier: BSD-3-Clause */
/* report.h - errors of the engine to nbdkit's log, bugs, and who waits.
 *
 * Any thread may call these.  How long to wait is of each thread.
 */
#ifndef REPORT_H
#define REPORT_H

#include "qcow2.h"

/* Log the error, with the name of the image if there is one, and return the
 * errno value to give to nbdkit, never 0.
 */
extern int report (const char *name, const struct qcow2_error *error);

/* What to do about an error of the engine: the end of a sentence, after a
 * semicolon, or "".
 */
extern const char *advice_words (enum qcow2_advice advice);

/* True if 'cond' is.  Else that is a bug of ours, which is logged; the caller
 * goes on in whatever way does no harm, for the sake of all other clients.
 * Where the engine aborts on bugs, so does this; see core/base/assume.h.
 */
#define holds(cond)                                                           \
  (__builtin_expect (!!(cond), 1) ? true :                                    \
   bug_found (#cond, __FILE__, __LINE__))
extern bool bug_found (const char *what, const char *file, int line)
  __attribute__ ((__cold__));

/* Whether nbdkit is ending, or the client of the calling thread's connection,
 * if it has one, has gone; for qcow2_budget_new.
 */
extern bool nobody_waits (void *ignored);
/* Then this thread does not wait for long work any longer; 0: it does. */
extern void wait_at_most (unsigned seconds);
/* Whether it came to that. */
extern bool waited_in_vain (void);

#endif /* REPORT_H */
