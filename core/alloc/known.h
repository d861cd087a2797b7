/* SPDX-License-Identifier: BSD-3-Clause */
/* known.h - which clusters are known to have a refcount that is not 0.
 *
 * Asked before each write in place, so it is answered without a lock.  It may
 * forget what it knew, and takes bounded memory.
 *
 * Locks: whoever notes or forgets holds one lock, always the same.
 */
#ifndef QCOW2_ALLOC_KNOWN_H
#define QCOW2_ALLOC_KNOWN_H

#include "qcow2.h"

#include <stdatomic.h>

/* Clusters that are noted together. */
#define Q2_KNOWN_GROUP 32

struct q2_known {
  _Atomic uint64_t *words;      /* tag << 32 | a bit for each of a group */
};

extern int q2_known_init (struct q2_known *known, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_known_destroy (struct q2_known *known)
  __attribute__ ((__nonnull__));

/* Any thread.  False: perhaps not. */
extern bool q2_known_has (const struct q2_known *known, uint64_t cluster)
  __attribute__ ((__nonnull__));

extern void q2_known_note_locked (struct q2_known *known, uint64_t cluster)
  __attribute__ ((__nonnull__));
extern void q2_known_forget_locked (struct q2_known *known, uint64_t cluster)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_ALLOC_KNOWN_H */
