/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_view.h - the persistent bitmaps of an image. */
#ifndef QCOW2_VIEW_BITMAP_VIEW_H
#define QCOW2_VIEW_BITMAP_VIEW_H

#include "view/mask.h"
#include "format/bitmap.h"

/* ---- bitmap_view.c -------------------------------------------------- */

/* Open a view of the active disk that shows where the bitmap is set. */
extern struct qcow2_image *
q2_bitmap_open (struct qcow2_image *image, const struct qcow2_io *host,
                const struct qcow2_name *name, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- bitmap_bits.c -------------------------------------------------- */

/* The mask of a usable bitmap; does not keep its name and extra data. */
extern struct q2_mask *
q2_bits_new (struct qcow2_image *image, const struct q2_io *io,
             const struct q2_bitmap *bitmap, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_VIEW_BITMAP_VIEW_H */
