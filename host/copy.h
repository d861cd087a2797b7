/* SPDX-License-Identifier: BSD-3-Clause */
/* copy.h - copying bytes with ordinary loads and stores. */
#ifndef HOST_COPY_H
#define HOST_COPY_H

#include <stddef.h>

/* As memcpy: the two must not overlap, and may have any alignment.  For large
 * copies that stay in the processor's caches.
 */
extern void copy_bytes (void *restrict to, const void *restrict from,
                        size_t len)
  __attribute__ ((__nonnull__));

#endif /* HOST_COPY_H */
