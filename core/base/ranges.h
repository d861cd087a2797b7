/* SPDX-License-Identifier: BSD-3-Clause */
/* ranges.h - exclusive locks on ranges of numbers.
 *
 * Unlike mutexes they are held over I/O, while the holder changes the
 * clusters, entries or sectors that the numbers stand for.  The node lives on
 * the holder's stack.
 */
#ifndef QCOW2_BASE_RANGES_H
#define QCOW2_BASE_RANGES_H

#include "base/lock.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct q2_range {
  struct q2_range *next;
  uint64_t start, end;          /* end > start, exclusive */
};

struct q2_ranges {
  struct q2_mutex lock;
  pthread_cond_t released;
  struct q2_range *first;       /* held; they do not overlap */
  unsigned waiting;
};

extern void q2_ranges_init (struct q2_ranges *ranges)
  __attribute__ ((__nonnull__));
extern void q2_ranges_destroy (struct q2_ranges *ranges)
  __attribute__ ((__nonnull__));

/* Lock [start, end), after waiting until no part of it is locked. */
extern void q2_ranges_lock (struct q2_ranges *ranges, struct q2_range *node,
                            uint64_t start, uint64_t end)
  __attribute__ ((__nonnull__));

/* Lock it if no part of it is locked. */
extern bool q2_ranges_trylock (struct q2_ranges *ranges,
                               struct q2_range *node, uint64_t start,
                               uint64_t end)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Wait until the present holders of parts of it have released them, or until
 * no part is locked.
 */
extern void q2_ranges_wait (struct q2_ranges *ranges, uint64_t start,
                            uint64_t end) __attribute__ ((__nonnull__));

extern void q2_ranges_unlock (struct q2_ranges *ranges,
                              struct q2_range *node)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_BASE_RANGES_H */
