/* SPDX-License-Identifier: BSD-3-Clause */
/* assume.h - what must be true whatever an image or a client does.
 *
 * If it is not, that is a bug of ours.  In a server it costs the request in
 * which it shows, which fails with EIO, and the image is not changed any more;
 * but not every client of every image.  Built with --enable-debug-assertions,
 * or with QCOW2_ABORT_ON_BUGS in the environment, as all of our tests are run,
 * the program is aborted on the spot.
 *
 * q2_assume is for functions that can fail:
 *
 *      if (!q2_assume (nr > 0, err))
 *        return -1;
 *
 * q2_check is for those that cannot.  They go on in whatever way does no
 * harm, such as doing nothing; the thread remembers, and what called them
 * fails as soon as it asks q2_check_end: a commit before it writes anything,
 * every function of qcow2.h at its end.
 *
 * assert stays where neither is possible, and for what a caller that is next
 * to it has just made sure of.  It always aborts.
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

/* The first q2_check of this thread that has failed since this was called
 * last: -1 and *err filled in; 0 if there is none.
 */
extern int q2_check_end (struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Have it remembered by this thread, to whose request it belongs, that one has
 * failed on another.  'err' is from q2_check_end.
 */
extern void q2_check_pass_on (const struct qcow2_error *err)
  __attribute__ ((__nonnull__, __cold__));

extern bool q2_assume_failed (struct qcow2_error *err, const char *what,
                              const char *file, int line)
  __attribute__ ((__nonnull__, __cold__));
extern bool q2_check_failed (const char *what, const char *file, int line)
  __attribute__ ((__nonnull__, __cold__));

#endif /* QCOW2_BASE_ASSUME_H */
