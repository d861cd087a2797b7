/* SPDX-License-Identifier: BSD-3-Clause */
/* ticker.h - the thread that writes out what is pending.
 *
 * An image owns its ticker, which must be stopped before the image is
 * closed.
 */
#ifndef SHARE_TICKER_H
#define SHARE_TICKER_H

#include "qcow2.h"

struct ticker;

/* Writes out what is pending when the image is idle, through what is
 * borrowed for that.  NULL if there are no threads to be had.
 */
extern struct ticker *
ticker_start (struct qcow2_image *image,
              int (*borrow) (void *opaque, struct qcow2_io *ret_io),
              void *opaque, const char *name);
extern void ticker_stop (struct ticker *ticker);
/* To be called after each change where there is no ticker. */
struct disk;
extern void ticker_instead (struct disk *d, const struct qcow2_io *io);

#endif /* SHARE_TICKER_H */
