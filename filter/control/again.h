/* SPDX-License-Identifier: BSD-3-Clause */
/* again.h - changes that an open view is in the way of.
 *
 * The thread that carries out a command owns its struct again.
 */
#ifndef CONTROL_AGAIN_H
#define CONTROL_AGAIN_H

#include "qcow2.h"

#include <stdbool.h>
#include <stdint.h>

/* Zeroed at first. */
struct again {
  uint64_t since;               /* ms: of the first failure */
  uint64_t last;                /* ms: when the last nap ended */
  unsigned nap;                 /* ms: the last one */
};

/* Whether to try once more what has failed with 'err', which has changed
 * nothing; having slept for a moment.  Not what takes long each time.
 */
extern bool again_soon (struct again *again, const struct qcow2_error *err);

/* Whether to look once more if somebody is still in the way; the same. */
extern bool again_in_a_moment (struct again *again);

#endif /* CONTROL_AGAIN_H */
