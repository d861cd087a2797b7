/* SPDX-License-Identifier: BSD-3-Clause */
/* requests.h - what clients ask of an export.
 *
 * A connection owns its handle, which is constant from .prepare to .finalize.
 */
#ifndef REQUESTS_H
#define REQUESTS_H

#include "nbdkit_api.h"
#include "qcow2.h"
#include "exports.h"
#include "share/access.h"

/* One per connection. */
struct handle {
  struct access access;
  char *name;                   /* of the export */
  struct export_name parsed;    /* points into it */
  struct view *view;            /* or NULL: the active disk */
  struct qcow2_image *image;    /* the disk's, or the view's */
  char description[EXPORT_DESCRIPTION_SIZE];
};

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
