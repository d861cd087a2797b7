/* SPDX-License-Identifier: BSD-3-Clause */
/* counts.h - how often each host cluster is used, and what for.
 *
 * Takes memory for what is used, whatever the size of the file: eight bytes
 * for clusters that follow each other and are used alike, or one byte for
 * each where these are short, four where clusters are shared by many; and
 * some 120 for one that has no neighbour far and wide.
 */
#ifndef QCOW2_CHECK_COUNTS_H
#define QCOW2_CHECK_COUNTS_H

#include "base/budget.h"

/* Host offsets have 56 bits, clusters at least 9. */
#define Q2_COUNTS_BITS 47
/* The largest count that can be kept. */
#define Q2_COUNTS_MAX UINT32_C (0x0fffffff)

enum q2_use {
  Q2_USE_NONE,
  Q2_USE_DATA,                  /* may have any number of users */
  Q2_USE_L2,                    /* L2 tables: several with snapshots */
  Q2_USE_META,                  /* all else: exactly one */
};

/* What entries of the active tables say about a cluster. */
#define Q2_COUNT_COPIED 4u      /* one with the COPIED flag points to it */
#define Q2_COUNT_PLAIN  8u      /* one without it does */
/* Of Q2_USE_META: it is the refcount table, or a block of it. */
#define Q2_COUNT_REFCOUNTS 8u

struct q2_count {
  enum q2_use use;
  unsigned flags;               /* Q2_COUNT_* */
  uint32_t count;
};

struct q2_counts;

/* Never takes more than 'max_bytes' of memory, which come from the budget (or
 * NULL).
 */
extern struct q2_counts *q2_counts_new (uint64_t max_bytes,
                                        struct qcow2_budget *budget,
                                        struct qcow2_error *err)
  __attribute__ ((__nonnull__ (3), __warn_unused_result__));
extern void q2_counts_free (struct q2_counts *counts);

/* Clusters to be watched, in ascending order, and of each whether data that
 * was not counted is there.
 */
struct q2_watch {
  const uint64_t *clusters;
  bool *hit;
  size_t nr;
};

/* From now on count data only in [begin, stop); without that, everywhere.
 * 'watch' (or NULL) must stay there.
 */
extern void q2_counts_set_window (struct q2_counts *counts, uint64_t begin,
                                  uint64_t stop, const struct q2_watch *watch)
  __attribute__ ((__nonnull__ (1)));

/* Make room: forget the data of the upper half, which is outside of the window
 * from now on.  False: nothing can be forgotten.
 */
extern bool q2_counts_shrink (struct q2_counts *counts, uint64_t *ret_stop)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* 'n' more users of a cluster (n > 0, use not NONE), and flags to add.  On
 * Q2_COUNTS_CONFLICT, ret_old (if not NULL) is what the cluster is used for
 * already; nothing is changed unless the result is Q2_COUNTS_OK.
 */
enum q2_counts_result {
  Q2_COUNTS_OK,
  Q2_COUNTS_CONFLICT,           /* two uses that exclude each other */
  Q2_COUNTS_OVERFLOW,           /* more than Q2_COUNTS_MAX */
  Q2_COUNTS_FULL,               /* the limit of memory */
  Q2_COUNTS_NOMEM,
};
extern enum q2_counts_result q2_counts_add (struct q2_counts *counts,
                                            uint64_t cluster, uint32_t n,
                                            enum q2_use use, unsigned flags,
                                            enum q2_use *ret_old)
  __attribute__ ((__nonnull__ (1), __warn_unused_result__));

/* The same, n more users of data, for up to 'nr' clusters that follow each
 * other, as long as that takes no more memory and nothing is odd.  Returns for
 * how many of them it was done, perhaps none.
 */
extern uint64_t q2_counts_add_run (struct q2_counts *counts, uint64_t cluster,
                                   uint64_t nr, uint32_t n, unsigned flags)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* A cluster that is used becomes one of another use, with flags besides.  As
 * q2_counts_add it may want memory.
 */
extern enum q2_counts_result q2_counts_turn (struct q2_counts *counts,
                                             uint64_t cluster,
                                             enum q2_use use, unsigned flags)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Nobody uses the cluster, which was no data, any more. */
extern void q2_counts_clear (struct q2_counts *counts, uint64_t cluster)
  __attribute__ ((__nonnull__));

extern struct q2_count q2_counts_get (struct q2_counts *counts,
                                      uint64_t cluster)
  __attribute__ ((__nonnull__));
/* The same, and for how many clusters from that on, at most 'max', it is known
 * to be so: at least 1.
 */
extern uint64_t q2_counts_get_run (struct q2_counts *counts, uint64_t cluster,
                                   uint64_t max, struct q2_count *ret)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The first cluster >= 'cluster' that is used; that is not used; whose use
 * is 'use'.  UINT64_MAX if there is none, which for a free one is only true
 * past the last cluster that a file can have.
 */
extern uint64_t q2_counts_next_used (const struct q2_counts *counts,
                                     uint64_t cluster)
  __attribute__ ((__nonnull__));
extern uint64_t q2_counts_next_free (const struct q2_counts *counts,
                                     uint64_t cluster)
  __attribute__ ((__nonnull__));
extern uint64_t q2_counts_next (const struct q2_counts *counts,
                                uint64_t cluster, enum q2_use use)
  __attribute__ ((__nonnull__));

/* One more than the last cluster that was ever used, counted or not. */
extern uint64_t q2_counts_end (const struct q2_counts *counts)
  __attribute__ ((__nonnull__));

/* Clusters with such a use. */
extern uint64_t q2_counts_total (const struct q2_counts *counts,
                                 enum q2_use use)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_CHECK_COUNTS_H */
