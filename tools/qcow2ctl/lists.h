/* SPDX-License-Identifier: BSD-3-Clause */
/* lists.h - the snapshots and the bitmaps of an image, printed. */
#ifndef LISTS_H
#define LISTS_H

#include "ctl.h"

struct value;

/* The first with qemu-img's fields; *ret is to be printed or given on.  All
 * return -1 with *err filled in; then there is no *ret.
 */
extern int snapshots_json (struct qcow2_image *image,
                           const struct qcow2_io *io, struct value **ret,
                           struct qcow2_error *err);
extern int bitmaps_json (struct qcow2_image *image, const struct qcow2_io *io,
                         struct value **ret, struct qcow2_error *err);
/* As tables, with their headings, for people. */
extern int snapshots_print (struct qcow2_image *image,
                            const struct qcow2_io *io,
                            struct qcow2_error *err);
/* The parts of that, for snapshots that somebody else has listed. */
extern void snapshots_print_heading (void);
extern void snapshot_print (const struct qcow2_snapshot *s);
extern void bitmaps_print_heading (void);
extern void bitmap_print (const struct qcow2_bitmap *b);
extern int bitmaps_print (struct qcow2_image *image,
                          const struct qcow2_io *io, struct qcow2_error *err);

#endif /* LISTS_H */
