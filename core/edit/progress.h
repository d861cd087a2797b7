/* SPDX-License-Identifier: BSD-3-Clause */
/* progress.h - how far a long change of an image has come. */
#ifndef QCOW2_EDIT_PROGRESS_H
#define QCOW2_EDIT_PROGRESS_H

#include "qcow2.h"

struct q2_progress {
  bool (*fn) (void *opaque, unsigned percent);  /* NULL: not wanted; false:
                                                   the caller cancels */
  void *opaque;
  bool (*last) (void *opaque);  /* NULL: not wanted */
  uint64_t done, total;         /* in any unit */
};

/* What the caller wants to be told; 'wanted' NULL: nothing.  Leaves 'total'
 * alone.
 */
extern void q2_progress_init (struct q2_progress *progress,
                              const struct qcow2_progress *wanted)
  __attribute__ ((__nonnull__ (1)));

/* So much more is done.  Fails with QCOW2_ERR_CANCELLED and 'state', a
 * sentence that says what is left, if the caller cancels.
 */
extern int q2_progress_add (struct q2_progress *progress, uint64_t more,
                            const char *state, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The next step is the one after which there is no way back.  Fails as
 * q2_progress_add does.
 */
extern int q2_progress_last (struct q2_progress *progress, const char *state,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_EDIT_PROGRESS_H */
