/* SPDX-License-Identifier: BSD-3-Clause */
/* stops.h - maps that are stopped early.
 *
 * A client may want one extent at a time, so the function that is told of
 * extents stops the map at any of them, or fails there.
 */
#ifndef UNIT_STOPS_H
#define UNIT_STOPS_H

#include "unit.h"

/* Map [guest_off, guest_off+len), which must succeed, to its end.  Then once
 * more for each number of extents: stopped after so many, and failing there.
 * What has been reported so far must be the same, with not one call more, and
 * an error must have the errno of the function.  At last the range is mapped
 * one extent at a time, as some clients do.
 */
extern void stops_check (struct qcow2_image *image,
                         const struct qcow2_io *io, uint64_t len,
                         uint64_t guest_off);

#endif /* UNIT_STOPS_H */
