/* SPDX-License-Identifier: BSD-3-Clause */
/* requests.h - what clients ask of an export. */
#ifndef REQUESTS_H
#define REQUESTS_H

#include "nbdkit_api.h"

/* nbdkit's callbacks. */
extern int request_pread (nbdkit_next *next, void *handle, void *buf,
                          uint32_t count, uint64_t offset, uint32_t flags,
                          int *err);
extern int request_extents (nbdkit_next *next, void *handle, uint32_t count,
                            uint64_t offset, uint32_t flags,
                            struct nbdkit_extents *extents, int *err);
extern int request_cache (nbdkit_next *next, void *handle, uint32_t count,
                          uint64_t offset, uint32_t flags, int *err);
extern int request_pwrite (nbdkit_next *next, void *handle, const void *buf,
                           uint32_t count, uint64_t offset, uint32_t flags,
                           int *err);
extern int request_zero (nbdkit_next *next, void *handle, uint32_t count,
                         uint64_t offset, uint32_t flags, int *err);
extern int request_trim (nbdkit_next *next, void *handle, uint32_t count,
                         uint64_t offset, uint32_t flags, int *err);
extern int request_flush (nbdkit_next *next, void *handle, uint32_t flags,
                          int *err);

#endif /* REQUESTS_H */
