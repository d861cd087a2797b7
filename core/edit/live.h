/* SPDX-License-Identifier: BSD-3-Clause */
/* live.h - a check of an image that is being written to: live_check.c has its
 * passes and windows, live_rounds.c its rounds, live_memory.c what the image
 * has in memory; live_judge.c says what is wrong with suspects, and repairs
 * them.
 */
#ifndef QCOW2_EDIT_LIVE_H
#define QCOW2_EDIT_LIVE_H

#include "base/pace.h"
#include "check/live.h"
#include "image/image.h"

/* What came of a suspect. */
struct q2_verdict {
  bool known;                   /* it was not touched */
  bool unread;                  /* ... and its refcount cannot be read */
  uint64_t refcount;
  uint64_t repaired;            /* ... after a repair; else the same */
};

struct q2_live_job {
  struct qcow2_image *image;
  struct q2_writer *w;
  struct q2_io io;
  const struct qcow2_check_options *options;
  bool repair;                  /* this pass */

  struct q2_live live;
  struct q2_live_check check;
  struct q2_header header;      /* as these are when a round begins */
  struct q2_geometry geo;
  uint64_t edits;
  bool edited;                  /* there was one since */

  struct q2_suspects suspects;
  struct q2_tally *tallies;
  struct q2_verdict *verdicts;
  size_t max;
  uint64_t charge;              /* for these, of the budget */

  struct q2_findings findings;  /* of the pass that reports */
  uint64_t flags_wrong;         /* of them, entries with wrong flags */
  uint64_t leaks_fixed, warnings_fixed, flags_fixed;
  uint64_t leaks_left, warnings_left, flags_left;       /* by a repair, as far
                                                           as it knows */
  bool undrained;               /* this round: refcounts of what was let go
                                   could not be read, so others still count */
  uint64_t unread_slice;        /* + 1, the last one with a refcount that could
                                   not be read, this round; 0: none */
  uint64_t undecided, windows;
  unsigned percent;
  struct q2_pace pace;
};

/* Fails with QCOW2_ERR_CANCELLED if the caller wants no more of it. */
extern int q2_live_go_on (struct q2_live_job *job, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The image was edited since q2_live_look; and the error that says so, which
 * sets 'edited': what was counted has to be counted again.
 */
extern bool q2_live_was_edited (const struct q2_live_job *job)
  __attribute__ ((__nonnull__));
extern int q2_live_fail_edited (struct q2_live_job *job,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Enter the gate, for the caller to leave, in a moment in which nobody edits
 * the image; that waits for an edit, and fails if the caller wants no more.
 */
extern int q2_live_enter (struct q2_live_job *job, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Note how the image is now.  The gate is closed, or entered so. */
extern void q2_live_look (struct q2_live_job *job)
  __attribute__ ((__nonnull__));

/* For check/live.h. */
extern struct q2_live q2_live_memory (struct q2_live_job *job)
  __attribute__ ((__nonnull__));

/* Count the suspects, judge those that nobody touches, and report them. */
extern int q2_live_round (struct q2_live_job *job, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Inside the gate: whether judging may leave entries to q2_live_own. */
extern bool q2_live_may_own (const struct q2_live_job *job)
  __attribute__ ((__nonnull__));

/* Inside the gate, and suspects were counted since they are watched: fill in
 * the verdicts; in a repair lower what is too high.
 */
extern int q2_live_judge (struct q2_live_job *job, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Say what the verdicts are. */
extern void q2_live_report (struct q2_live_job *job)
  __attribute__ ((__nonnull__));

/* Inside the gate, after a repair: what has one user now is its own. */
extern int q2_live_own (struct q2_live_job *job, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_EDIT_LIVE_H */
