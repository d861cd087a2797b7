/* SPDX-License-Identifier: BSD-3-Clause */
/* exercise.h - everything that a client can do to an untrusted image. */
#ifndef EXERCISE_H
#define EXERCISE_H

#include <stdbool.h>
#include <stddef.h>

/* Open the bytes as an image, read in many places, ask for extents and cache
 * hints; then the same with its views.  Its backing file and its data file are
 * the same bytes, and its passphrase is "fuzz".  Well-formed errors are fine.
 * Returns true if the image could be opened.
 */
extern bool exercise_image (const void *bytes, size_t size);

/* The same on a slow host, with reading ahead; 'kind' chooses the host's other
 * abilities.
 */
extern bool exercise_slow_image (const void *bytes, size_t size,
                                 unsigned kind);

#endif /* EXERCISE_H */
