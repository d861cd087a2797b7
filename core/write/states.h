/* SPDX-License-Identifier: BSD-3-Clause */
/* states.h - what may be done to an image that is open for writing.
 *
 *                first change                  all is durable, at the end
 *      +--> OPEN ------------> ACTIVATING ---> ACTIVE ------------> ENDED
 *      |      ^                  |    |          |
 *      |      +------------------+    |          | an error says so
 *      |        cannot be prepared    |          v
 *      |                              |        CORRUPT
 *      |                              v          v
 *      |        a bug in a change   [any of these, but ENDED] --> BUGGY
 *      |        a flush has failed  [any of these, but ENDED] --> FAILED
 *      opened
 *
 *                 changes           flushes          the end
 *      OPEN       prepare it        do nothing       does nothing
 *      ACTIVATING wait              do nothing       (the image is in use)
 *      ACTIVE     go on             commit           commits, marks as closed
 *      CORRUPT    are refused       commit           fails
 *      BUGGY      are refused       fail             fails; if it was never
 *                                                    active it does nothing
 *      FAILED     are refused       fail             fails
 *      ENDED      a bug of ours     do nothing       does nothing
 *
 * A state is only ever left for one below it in the enum, but for ACTIVATING,
 * which may go back to OPEN.  So CORRUPT is forgotten when a flush fails,
 * which is worse; the header has it.  Opening the image anew is the way out of
 * the last four.  A bug that has shown in a read refuses changes, too, and
 * nothing else: that is in io->shared->bug, as it concerns whoever reads.
 *
 * Whether what an active image has exists is no state: it does from ACTIVE on,
 * also if that becomes BUGGY or FAILED, but need not if they come early.
 *
 * Whether an image that was not closed has been repaired is a state of its
 * own, of those who prepare the image (unclosed.c):
 *
 *      CLEAN      nothing is to be done                   <---------+
 *      SCAN_DUE   it is scanned by the first change  ---+           |
 *      REPAIR_DUE what the scan has found is written <--+           |
 *         |  |                                          | it fails  |
 *         |  +------------------------------------------|-----------+
 *         v                                             v     done
 *      UNREPAIRABLE, and why; if that may go away the next change scans again
 */
#ifndef QCOW2_WRITE_STATES_H
#define QCOW2_WRITE_STATES_H

#include "qcow2.h"

#include <stdatomic.h>

struct q2_writer;

enum q2_writer_state {
  Q2_WRITER_OPEN,
  Q2_WRITER_ACTIVATING,
  Q2_WRITER_ACTIVE,
  Q2_WRITER_CORRUPT,
  Q2_WRITER_BUGGY,
  Q2_WRITER_FAILED,
  Q2_WRITER_ENDED,
};

enum q2_unclosed_state {
  Q2_UNCLOSED_CLEAN,
  Q2_UNCLOSED_SCAN_DUE,
  Q2_UNCLOSED_REPAIR_DUE,
  Q2_UNCLOSED_UNREPAIRABLE,
};

/* ---- Edges: any thread, no lock is needed ----------------------------- */

/* OPEN -> ACTIVATING. */
extern void q2_writer_begin_activating (struct q2_writer *w)
  __attribute__ ((__nonnull__));
/* ACTIVATING -> ACTIVE or, if it could not be prepared, OPEN.  What has become
 * worse meanwhile stays.
 */
extern void q2_writer_end_activating (struct q2_writer *w, bool prepared)
  __attribute__ ((__nonnull__));
/* ACTIVE -> CORRUPT; false: it was not active. */
extern bool q2_writer_become_corrupt (struct q2_writer *w)
  __attribute__ ((__nonnull__));
/* Anything better -> BUGGY; false: it was that, or worse. */
extern bool q2_writer_become_buggy (struct q2_writer *w)
  __attribute__ ((__nonnull__));
/* Anything better -> FAILED. */
extern void q2_writer_become_failed (struct q2_writer *w)
  __attribute__ ((__nonnull__));
/* ACTIVE -> ENDED. */
extern void q2_writer_become_ended (struct q2_writer *w)
  __attribute__ ((__nonnull__));

/* ---- Questions -------------------------------------------------------- */

/* No change may begin; the error says why. */
extern int q2_writer_check_usable (struct q2_writer *w,
                                   struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* No commit may begin. */
extern int q2_writer_check_committable (struct q2_writer *w,
                                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The error of changes after a bug. */
extern int q2_writer_fail_bug (struct qcow2_error *err)
  __attribute__ ((__nonnull__, __cold__));

/* What must be true of the state and of what belongs to it, whoever looks and
 * whatever he holds; a failed q2_check if it is not.  Only in builds with
 * --enable-debug-assertions.
 */
#ifdef DEBUG_ASSERTIONS
extern void q2_writer_assert (struct q2_writer *w)
  __attribute__ ((__nonnull__));
#else
#define q2_writer_assert(w) ((void) (w))
#endif

#endif /* QCOW2_WRITE_STATES_H */
