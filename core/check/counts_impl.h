/* SPDX-License-Identifier: BSD-3-Clause */
/* counts_impl.h - what the parts of counts.h share.  Nobody else includes
 * this.
 *
 * counts_tree.c finds and makes leaves, counts_leaf.c keeps the elements of
 * one, counts_window.c forgets some, and counts.c does what counts.h promises
 * with all of that.
 */
#ifndef QCOW2_CHECK_COUNTS_IMPL_H
#define QCOW2_CHECK_COUNTS_IMPL_H

#include "check/counts.h"

#define Q2_LEAF_BITS 12
#define Q2_LEAF_SIZE (UINT64_C (1) << Q2_LEAF_BITS)

/* Of an element: use, flags and count. */
#define Q2_ELEMENT_USE 3u
#define Q2_ELEMENT_FLAGS (Q2_COUNT_COPIED | Q2_COUNT_PLAIN)
#define Q2_ELEMENT_SHIFT 4

/* Clusters of a leaf that follow each other, and the element that all of them
 * have, which is not 0.
 */
struct q2_counts_run {
  uint16_t i, nr;
  uint32_t element;
};

struct q2_counts_leaf {
  uint64_t nr;                  /* of its first cluster / Q2_LEAF_SIZE */
  uint32_t nr_runs, max_runs;   /* max_runs is 0 if it has one of the others */
  struct q2_counts_run *runs;   /* ascending; what is between them is 0 */
  uint8_t *narrow;              /* Q2_LEAF_SIZE of them, or NULL */
  uint32_t *wide;               /* instead, if not NULL */
};

/* children[i] has what is at least keys[i], and less than keys[i + 1];
 * keys[0] stands for 0 in all but the lowest nodes, whose children are leaves.
 */
#define Q2_COUNTS_FANOUT 32
struct q2_counts_node {
  unsigned nr;
  struct q2_counts_node *next;  /* of the lowest ones: the one to the
                                   right */
  uint64_t keys[Q2_COUNTS_FANOUT];
  void *children[Q2_COUNTS_FANOUT];
};

struct q2_counts {
  struct q2_counts_node *root;  /* NULL: there is nothing */
  unsigned height;              /* levels above the lowest nodes */
  struct qcow2_budget *budget;
  uint64_t bytes, max_bytes;
  uint64_t end;
  uint64_t total[Q2_USE_META + 1];
  struct q2_counts_leaf *last;  /* that was used last; may be NULL */
  uint64_t begin, stop;         /* where data is counted */
  const struct q2_watch *watch; /* or NULL */
};

/* Runs that a new leaf has room for. */
#define Q2_COUNTS_FIRST_RUNS 4u

/* Zeroed memory, which is charged. */
extern enum q2_counts_result
q2_counts_take_memory (struct q2_counts *counts, size_t size, void **ret)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_counts_give_memory (struct q2_counts *counts, void *p,
                                   size_t size)
  __attribute__ ((__nonnull__ (1)));

/* The first leaf at 'nr' or behind it, or NULL. */
extern struct q2_counts_leaf *
q2_counts_next_leaf (const struct q2_counts *counts, uint64_t nr)
  __attribute__ ((__nonnull__));

/* The leaf of a cluster; NULL if there is none. */
extern struct q2_counts_leaf *
q2_counts_find_leaf (struct q2_counts *counts, uint64_t cluster)
  __attribute__ ((__nonnull__));

/* Make the leaf of a cluster, which has none. */
extern enum q2_counts_result
q2_counts_make_leaf (struct q2_counts *counts, uint64_t cluster,
                     struct q2_counts_leaf **ret_leaf)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Free all leaves that have no element. */
extern void q2_counts_prune (struct q2_counts *counts)
  __attribute__ ((__nonnull__));

/* Data outside of the window. */
extern void q2_counts_note_outside (struct q2_counts *counts,
                                    uint64_t cluster)
  __attribute__ ((__nonnull__));

/* Frees the whole tree. */
extern void q2_counts_free_tree (struct q2_counts *counts)
  __attribute__ ((__nonnull__));

/* The run that 'i' is in, or else the first one behind it; nr_runs: there is
 * none.
 */
extern uint32_t q2_counts_find_run (const struct q2_counts_leaf *leaf,
                                    uint32_t i)
  __attribute__ ((__nonnull__));

extern uint32_t q2_counts_element (const struct q2_counts_leaf *leaf,
                                   uint64_t cluster)
  __attribute__ ((__nonnull__));
/* How many elements from 'i' on, at most 'max', are the same as that. */
extern uint32_t q2_counts_same_elements (const struct q2_counts_leaf *leaf,
                                         uint32_t i, uint32_t max)
  __attribute__ ((__nonnull__));
extern enum q2_counts_result
q2_counts_set_element (struct q2_counts *counts, struct q2_counts_leaf *leaf,
                       uint64_t cluster, uint32_t element)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* One that is not 0 becomes another one, no larger. */
extern enum q2_counts_result
q2_counts_turn_element (struct q2_counts *counts,
                        struct q2_counts_leaf *leaf, uint64_t cluster,
                        uint32_t element)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* As q2_counts_set_element for 'nr' that follow each other, and are the same
 * until now.  False, and nothing has changed, if that takes more memory.
 */
extern bool q2_counts_set_elements (struct q2_counts_leaf *leaf, uint32_t i,
                                    uint32_t nr, uint32_t element)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CHECK_COUNTS_IMPL_H */
