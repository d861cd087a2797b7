/* SPDX-License-Identifier: BSD-3-Clause */
/* assume.h - assumptions that must hold whatever an image or a client does.
 *
 * A broken assumption is a bug of ours.  In a server it costs the request in
 * which it shows (EIO) and all further changes of the image, but not every
 * client of every image.  With --enable-debug-assertions, or with
 * QCOW2_ABORT_ON_BUGS in the environment, it aborts the program on the spot.
 * All of our tests run so.
 *
 * q2_assume is for functions that can fail:
 *
 *      if (!q2_assume (nr > 0, err))
 *        return -1;
 *
 * q2_check is for functions that cannot fail.  They go on in a way that does
 * no harm, such as doing nothing, and the thread remembers.  q2_check_end
 * makes an error of it: a commit calls it before it writes, and every function
 * of qcow2.h calls it at its end.
 *
 * Code outside of the engine has qcow2_holds of qcow2.h, which is as q2_check,
 * and macros that only log, or abort, since many clients may depend on what
 * they look at: host_holds (host/env.h) and holds (filter/report.h).
 *
 * assert stays where neither is possible, and where code next to it has just
 * made sure of the condition.  It always aborts.
 */
#ifndef QCOW2_BASE_ASSUME_H
#define QCOW2_BASE_ASSUME_H

#include "qcow2.h"

/* Both are true if 'cond' is; else q2_assume fills in *err. */
#define q2_assume(cond, err)                                                  \
  (__builtin_expect (!!(cond), 1) ? true :                                    \
   q2_assume_failed ((err), #cond, __FILE__, __LINE__))
#define q2_check(cond)                                                        \
  (__builtin_expect (!!(cond), 1) ? true :                                    \
   q2_check_failed (#cond, __FILE__, __LINE__))

/* If a q2_check of this thread has failed since the last call, fill in *err
 * with the first failure and return -1; else return 0.
 */
extern int q2_check_end (struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make this thread remember a failure of a q2_check on another thread, which
 * worked for this thread's request.  'err' is from q2_check_end.
 */
extern void q2_check_pass_on (const struct qcow2_error *err)
  __attribute__ ((__nonnull__, __cold__));

extern bool q2_assume_failed (struct qcow2_error *err, const char *what,
                              const char *file, int line)
  __attribute__ ((__nonnull__, __cold__));
extern bool q2_check_failed (const char *what, const char *file, int line)
  __attribute__ ((__nonnull__, __cold__));

#endif /* QCOW2_BASE_ASSUME_H */
