/* SPDX-License-Identifier: BSD-3-Clause */
/* seen.h - which states of a file were looked at already. */
#ifndef CRASH_SEEN_H
#define CRASH_SEEN_H

#include <stdbool.h>
#include <stdint.h>

/* Hashes that a set has room for; all zero: none. */
#define NR_SEEN (1u << 16)

/* Remember the state with that hash.  False: it was there; a set that is
 * nearly full forgets, so that some are looked at again.
 */
extern bool seen_is_new (uint64_t seen[NR_SEEN], uint64_t hash);

#endif /* CRASH_SEEN_H */
