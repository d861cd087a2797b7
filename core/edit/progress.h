/* SPDX-License-Identifier: BSD-3-Clause */
/* progress.h - how far a long change of an image has come. */
#ifndef QCOW2_EDIT_PROGRESS_H
#define QCOW2_EDIT_PROGRESS_H

#include "qcow2.h"

struct q2_progress {
  bool (*fn) (void *opaque, unsigned percent);  /* NULL: not wanted; false:
                                                   the caller cancels */
  void *opaque;
  uint64_t done, total;         /* in any unit */
};

/* So much more is done.  Fails with QCOW2_ERR_CANCELLED and 'state', a
 * sentence that says what is left, if the caller cancels.
 */
extern int q2_progress_add (struct q2_progress *progress, uint64_t more,
                            const char *state, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_EDIT_PROGRESS_H */
