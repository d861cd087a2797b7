/* SPDX-License-Identifier: BSD-3-Clause */
/* answers.h - what clients are told of an export.
 *
 * nbdkit's callbacks, for a handle that is prepared; no lock is taken.
 */
#ifndef ANSWERS_H
#define ANSWERS_H

#include "nbdkit_api.h"

extern int64_t answer_get_size (nbdkit_next *next, void *handle);
extern int answer_block_size (nbdkit_next *next, void *handle,
                              uint32_t *minimum, uint32_t *preferred,
                              uint32_t *maximum);
extern int answer_can_write (nbdkit_next *next, void *handle);
extern int answer_can_flush (nbdkit_next *next, void *handle);
extern int answer_can_trim (nbdkit_next *next, void *handle);
extern int answer_can_zero (nbdkit_next *next, void *handle);
extern int answer_can_fast_zero (nbdkit_next *next, void *handle);
extern int answer_can_fua (nbdkit_next *next, void *handle);
extern int answer_can_extents (nbdkit_next *next, void *handle);
extern int answer_can_multi_conn (nbdkit_next *next, void *handle);
extern int answer_can_cache (nbdkit_next *next, void *handle);
extern int answer_is_rotational (nbdkit_next *next, void *handle);

#endif /* ANSWERS_H */
