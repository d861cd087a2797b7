/* SPDX-License-Identifier: BSD-3-Clause */
/* diskfile.h - the local file of a disk, if it has one.
 *
 * As in disk.h, one thread at a time calls these.  Those that return -1 log
 * and set errno.
 */
#ifndef SHARE_DISKFILE_H
#define SHARE_DISKFILE_H

#include <stdbool.h>

struct disk;
struct growth;

/* Claim it, and lock it for reading. */
extern int diskfile_open (struct disk *d, bool writing);
/* Nobody else may use it from here on: claim it, and lock it for writing. */
extern int diskfile_become_writer (struct disk *d);
/* The way to make larger what the disk's writer writes to; or NULL. */
extern struct growth *diskfile_growth (const struct disk *d);

/* Nobody uses the image any more, until it is locked again.  Only for disks
 * that are not writable.
 */
enum disk_relocked {
  DISK_UNCHANGED,
  DISK_CHANGED,                 /* of no use any more */
  DISK_IN_USE,                  /* by another process; logs */
};
extern void disk_unlock (struct disk *d);
extern enum disk_relocked disk_relock (struct disk *d);

#endif /* SHARE_DISKFILE_H */
