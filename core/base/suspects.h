/* SPDX-License-Identifier: BSD-3-Clause */
/* suspects.h - a few clusters of the image file, and which of them somebody
 * has touched.
 *
 * A check of an image that is being written to does not know whether what it
 * counts is out of date already.  So it names the clusters that it wants to
 * know more about, and who links, unlinks, allocates or frees one of them
 * says so: one branch for them as long as nobody checks.
 *
 * Locks: it is filled by one thread.  From then until it is no longer watched
 * the set is constant; touching is atomic, and whoever looks holds the locks
 * under which others touch (write/watch.c).
 */
#ifndef QCOW2_BASE_SUSPECTS_H
#define QCOW2_BASE_SUSPECTS_H

#include "base/plant.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct q2_suspects {
  uint64_t *clusters;           /* in ascending order, once sorted */
  _Atomic bool *touched;        /* by number in 'clusters' */
  size_t nr, max;
};

/* Memory for 'max' of them, 9 bytes each; false if there is none. */
extern bool q2_suspects_init (struct q2_suspects *s, size_t max)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_suspects_destroy (struct q2_suspects *s)
  __attribute__ ((__nonnull__));

/* False: there are too many.  One may be added again. */
extern bool q2_suspects_add (struct q2_suspects *s, uint64_t cluster)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* Each is there once, and was not touched. */
extern void q2_suspects_sort (struct q2_suspects *s)
  __attribute__ ((__nonnull__));
/* Drop those that were not touched, and forget that the others were. */
extern void q2_suspects_keep_touched (struct q2_suspects *s)
  __attribute__ ((__nonnull__));

/* The number of a cluster; SIZE_MAX: it is none of them.  Sorted. */
extern size_t q2_suspects_find (const struct q2_suspects *s,
                                uint64_t cluster)
  __attribute__ ((__nonnull__, __warn_unused_result__));
static inline bool
q2_suspects_is_touched (const struct q2_suspects *s, size_t i)
{
  return atomic_load_explicit (&s->touched[i], memory_order_relaxed);
}

/* Whether it was touched does not matter: it will be dropped. */
static inline void
q2_suspects_settle (struct q2_suspects *s, size_t i)
{
  atomic_store_explicit (&s->touched[i], false, memory_order_relaxed);
}

/* Somebody changes what refers to these clusters, or a refcount of theirs. */
extern void q2_suspects_touch (struct q2_suspects *s, uint64_t cluster,
                               uint64_t nr) __attribute__ ((__nonnull__));

/* The same; NULL: nobody checks. */
static inline void
q2_touch (struct q2_suspects *s, uint64_t cluster, uint64_t nr)
{
  if (__builtin_expect (s != NULL, 0) && !Q2_PLANTED (Q2_PLANT_FORGET_TOUCH))
    q2_suspects_touch (s, cluster, nr);
}

#endif /* QCOW2_BASE_SUSPECTS_H */
