/* SPDX-License-Identifier: BSD-3-Clause */
/* stops.h - maps that are stopped early.
 *
 * A client may want one extent at a time, so the callback stops the map at any
 * extent, or fails there.
 */
#ifndef UNIT_STOPS_H
#define UNIT_STOPS_H

#include "unit.h"

/* Map [guest_off, guest_off+len), which must succeed, to its end.  Then again
 * for each number of extents, stopping after so many, and failing there.  The
 * extents so far must be the same, without a further call, and an error must
 * have the errno of the callback.  At last map the range one extent at a time,
 * as some clients do.
 */
extern void stops_check (struct qcow2_image *image,
                         const struct qcow2_io *io, uint64_t len,
                         uint64_t guest_off);

#endif /* UNIT_STOPS_H */
