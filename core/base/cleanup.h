/* SPDX-License-Identifier: BSD-3-Clause */
/* cleanup.h - free a pointer when its scope ends.
 *
 * Pass ownership on with q2_take, so that the code always shows one owner.
 */
#ifndef QCOW2_BASE_CLEANUP_H
#define QCOW2_BASE_CLEANUP_H

#include <stdlib.h>

static inline void
q2_cleanup_free (void *ptr)
{
  free (*(void **) ptr);
}

#define Q2_CLEANUP_FREE __attribute__ ((__cleanup__ (q2_cleanup_free)))

/* The value of 'var', which becomes NULL. */
#define q2_take(var)                                                          \
  __extension__ ({                                                            \
    __typeof__ (var) taken_ = (var);                                          \
    (var) = NULL;                                                             \
    taken_;                                                                   \
  })

#endif /* QCOW2_BASE_CLEANUP_H */
