/* SPDX-License-Identifier: BSD-3-Clause */
/* ending.h - what is written when connections, and images, end.
 *
 * It takes a while; no lock may be held.
 */
#ifndef SHARE_ENDING_H
#define SHARE_ENDING_H

#include "qcow2.h"

struct below;
struct disk;

/* Write out everything; the last use before disk_close.  'own' may
 * be NULL if the connection's way is gone.
 */
extern void disk_end (struct disk *d, const struct qcow2_io *own);
/* Nobody uses it now but the caller: stop what happens on its own. */
extern void disk_hush (struct disk *d);
/* A connection goes that disk_join was told of.  'io' is NULL if nothing can
 * be written through its context any more.
 */
extern void disk_leave (struct disk *d, struct below *own,
                        const struct qcow2_io *io);

#endif /* SHARE_ENDING_H */
