/* SPDX-License-Identifier: BSD-3-Clause */
/* slow_disk.h - a writable image on a slow host in memory, which lends I/O
 * handles for background work.
 */
#ifndef SLOW_DISK_H
#define SLOW_DISK_H

#include "hooked_disk.h"

#include <stdatomic.h>

#define SLOW_DISK_CLUSTER (UINT64_C (64) << 10)
#define SLOW_DISK_CLUSTERS 192u

/* Writes take no time. */
extern atomic_bool slow_disk_hurry;
/* I/O handles that are lent. */
extern atomic_uint slow_disk_borrowed;

/* The first 'nr' clusters have data, as of hooked_disk_build; the file grows.
 */
extern void slow_disk_serve (struct hooked_disk *d, unsigned nr);
/* For writing, and reading ahead; 'coherent' as in struct qcow2_io. */
extern void slow_disk_open (struct hooked_disk *d,
                            struct qcow2_budget *budget, bool coherent);
/* End writing, and free it. */
extern void slow_disk_end (struct hooked_disk *d);

#endif /* SLOW_DISK_H */
