/* SPDX-License-Identifier: BSD-3-Clause */
/* exercise.h - everything a client can do to an image nobody trusts. */
#ifndef EXERCISE_H
#define EXERCISE_H

#include <stdbool.h>
#include <stddef.h>

/* Open the bytes as an image, read in many places, ask for extents and
 * cache hints; then the same with what it has inside.  Its backing file and
 * its data file are the same bytes once more, and its passphrase is "fuzz".
 * All errors are fine, as long as they are well-formed.
 * Returns whether the image could be opened.
 */
extern bool exercise_image (const void *bytes, size_t size);

/* The same, on a host that counts as slow, with reading ahead; 'kind'
 * chooses what else the host offers.
 */
extern bool exercise_slow_image (const void *bytes, size_t size,
                                 unsigned kind);

#endif /* EXERCISE_H */
