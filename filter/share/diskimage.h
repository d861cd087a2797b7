/* SPDX-License-Identifier: BSD-3-Clause */
/* diskimage.h - the engine's image of a disk.
 *
 * As in disk.h, one thread at a time calls these.
 */
#ifndef SHARE_DISKIMAGE_H
#define SHARE_DISKIMAGE_H

#include <stdbool.h>

struct disk;
struct qcow2_io;

/* Open the image that 'io' leads to, and the files it refers to.  Returns -1
 * with errno, and logs, on error; also then diskimage_close is to be called.
 */
extern int diskimage_open (struct disk *d, const struct qcow2_io *io,
                           bool writing);
/* Nothing to do if it is not open. */
extern void diskimage_close (struct disk *d);

#endif /* SHARE_DISKIMAGE_H */
