/* SPDX-License-Identifier: BSD-3-Clause */
/* scope.h - a part of the host file that a check looks at, when its memory is
 * not enough for all of it.
 *
 * All tables are walked for each window; what lies outside is not counted,
 * other tables excepted.  A window begins as the whole rest of the file, and
 * becomes shorter when memory is used up; the next one begins where it ends.
 *
 * A fault of a cluster is told once: by a window that has it at the moment
 * when it is found, if none before had it at that moment.  That can be known
 * since all walks are alike: they meet the same clusters in the same order.
 */
#ifndef QCOW2_CHECK_SCOPE_H
#define QCOW2_CHECK_SCOPE_H

#include "check/counts.h"

/* From that event on, windows ended there. */
struct q2_scope_step {
  uint64_t event, stop;
};

struct q2_scope_steps {
  struct q2_scope_step *step;
  size_t nr, max;
};

struct q2_scope {
  uint64_t begin, stop;         /* clusters; UINT64_MAX: all the rest */
  bool silent;                  /* nothing is to be told at all */
  uint64_t event;               /* uses of clusters that were met */
  struct q2_scope_steps now;   /* how this window has become shorter */
  struct q2_scope_steps before;        /* the longest of those before */
  size_t at;                    /* of these are behind us */
  uint64_t told;                /* clusters below that were told of */
  struct q2_watch watch;        /* for the first one, or empty */
};

/* The first window.  The arrays of 'watch' stay the caller's. */
extern void q2_scope_init (struct q2_scope *window,
                            const struct q2_watch *watch)
  __attribute__ ((__nonnull__ (1)));
extern void q2_scope_free (struct q2_scope *window)
  __attribute__ ((__nonnull__));

/* The one after it; there is one if window->stop is not UINT64_MAX. */
extern int q2_scope_next (struct q2_scope *window, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The next event is about a cluster: whether its faults are to be told. */
extern bool q2_scope_tells (struct q2_scope *window, uint64_t cluster)
  __attribute__ ((__nonnull__));

/* How many of the next 'max' events can pass without being asked about, if
 * none of them finds a fault; and so many have passed.
 */
extern uint64_t q2_scope_quiet (const struct q2_scope *window, uint64_t max)
  __attribute__ ((__nonnull__));
extern void q2_scope_pass (struct q2_scope *window, uint64_t n)
  __attribute__ ((__nonnull__));

/* As q2_counts_add, but if memory is used up the window becomes shorter. */
extern enum q2_counts_result
q2_scope_add (struct q2_scope *window, struct q2_counts *counts,
               uint64_t cluster, uint32_t n, enum q2_use use, unsigned flags,
               enum q2_use *ret_old)
  __attribute__ ((__nonnull__ (1, 2), __warn_unused_result__));

#endif /* QCOW2_CHECK_SCOPE_H */
