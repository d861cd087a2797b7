/* SPDX-License-Identifier: BSD-3-Clause */
/* frees.h - runs of clusters that lost a reference.
 *
 * A growing list; neighbours that come one after the other are one run.
 */
#ifndef QCOW2_ALLOC_FREES_H
#define QCOW2_ALLOC_FREES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct q2_free_run {
  uint64_t cluster, nr;
};

struct q2_frees {
  struct q2_free_run *runs;
  size_t nr, max;
};

/* Make room for 'more' runs; false if there is no memory. */
extern bool q2_frees_reserve (struct q2_frees *frees, size_t more)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Add a run; there must be room. */
extern void q2_frees_add (struct q2_frees *frees, uint64_t cluster,
                          uint64_t nr) __attribute__ ((__nonnull__));

/* Take out clusters that are part of one run.  There must be room for one
 * more, since a run may become two.  False: they are not in the list.
 */
extern bool q2_frees_remove (struct q2_frees *frees, uint64_t cluster,
                             uint64_t nr)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Keep the first clusters, as many as *nr says, and take those from it. */
extern void q2_frees_cut (struct q2_frees *frees, uint64_t *nr)
  __attribute__ ((__nonnull__));

/* Move all runs to the end of 'to'.  Without memory for that they are lost,
 * which leaks their clusters.
 */
extern void q2_frees_move (struct q2_frees *to, struct q2_frees *from)
  __attribute__ ((__nonnull__));

/* Move the last 'nr' runs, as they are, to a new list.  False if there is no
 * memory.
 */
extern bool q2_frees_split (struct q2_frees *frees, size_t nr,
                            struct q2_frees *ret)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* By where they are, and neighbours become one.  A cluster may be there more
 * than once, if it lost several references.
 */
extern void q2_frees_sort (struct q2_frees *frees)
  __attribute__ ((__nonnull__));

/* The same clusters, each once, in order, in a new list.  False if there is no
 * memory.
 */
extern bool q2_frees_union (const struct q2_frees *sorted,
                            struct q2_frees *ret)
  __attribute__ ((__nonnull__, __warn_unused_result__));

extern void q2_frees_destroy (struct q2_frees *frees)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_ALLOC_FREES_H */
