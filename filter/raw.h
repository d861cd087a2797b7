/* SPDX-License-Identifier: BSD-3-Clause */
/* raw.h - exports that are raw disks: their way straight to the plugin.
 *
 * For the callbacks of a connection whose handle says that it is raw.
 */
#ifndef RAW_H
#define RAW_H

#include "nbdkit_api.h"
#include "handle.h"
#include "share/access.h"

#define RAW_DESCRIPTION "raw disk"

/* Before the plugin opens it. */
extern enum access_needs raw_open (struct handle *h);
/* Once it has; -1 and logs on error. */
extern int raw_prepare (struct handle *h, nbdkit_next *next);
extern void raw_close (struct handle *h);

extern const char *raw_description (nbdkit_next *next);
extern int raw_can_write (const struct handle *h, nbdkit_next *next);

/* As nbdkit's callbacks.  What the plugin says that it can do is told to the
 * server, so flags go on as they are.
 */
extern int raw_pread (nbdkit_next *next, void *buf, uint32_t count,
                      uint64_t offset, int *err);
extern int raw_zero (nbdkit_next *next, uint32_t count, uint64_t offset,
                     uint32_t flags, int *err);

#endif /* RAW_H */
