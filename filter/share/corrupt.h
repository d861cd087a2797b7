/* SPDX-License-Identifier: BSD-3-Clause */
/* corrupt.h - images that turn out to be corrupt while they are served.
 *
 * Part of a struct disk.
 */
#ifndef SHARE_CORRUPT_H
#define SHARE_CORRUPT_H

#include "qcow2.h"

#include <stdatomic.h>
#include <stdbool.h>

struct disk;

/* Zeroed at first. */
struct corrupt {
  _Atomic bool found;           /* 'why' is there, and stays as it is */
  char why[512];
};

/* For qcow2_options; opaque is the disk. */
extern void corrupt_note (void *disk, const struct qcow2_error *why);

/* Why nothing is written to it any more, or NULL; any thread. */
extern const char *corrupt_why (const struct disk *d);

/* From now on tell 'fn' of each one, on the thread that finds it, and with its
 * locks.  To be called before there are images.
 */
extern void corrupt_watch (void (*fn) (const struct disk *d));

#endif /* SHARE_CORRUPT_H */
