/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_view.h - the persistent bitmaps of an image. */
#ifndef QCOW2_VIEW_BITMAP_VIEW_H
#define QCOW2_VIEW_BITMAP_VIEW_H

#include "view/mask.h"
#include "view/snapshot_view.h"
#include "format/bitmap.h"

/* ---- bitmap_at.c ---------------------------------------------------- */

/* What "B@S" names. */
struct q2_bitmap_at {
  bool found;                   /* else it is no such name */
  struct qcow2_name bitmap;     /* points into the text */
  struct q2_found_snapshot snapshot;
};

/* Fails if the name can mean more than one thing. */
extern int q2_bitmap_at_find (struct qcow2_image *image,
                              const struct qcow2_io *host,
                              const struct qcow2_name *name,
                              struct q2_bitmap_at *ret_at,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- bitmap_view.c -------------------------------------------------- */

/* Open a view of the active disk, or of snapshot S if the name is "B@S", that
 * shows where the bitmap is set.
 */
extern struct qcow2_image *
q2_bitmap_open (struct qcow2_image *image, const struct qcow2_io *host,
                const struct qcow2_name *name, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* NULL if the bits of the bitmap, to which that header has led, tell what has
 * changed; else a constant string that says why they do not.
 */
extern const char *
q2_bitmap_why_unusable (const struct qcow2_image *image,
                        const struct q2_header *header,
                        const struct q2_bitmap *bitmap)
  __attribute__ ((__nonnull__));

/* The same for whoever changes bitmaps: no change of the disk is running, and
 * the bitmap is as the file has it, or will have it.
 */
extern const char *
q2_bitmap_why_untrue (const struct qcow2_image *image,
                      const struct q2_header *header,
                      const struct q2_bitmap *bitmap)
  __attribute__ ((__nonnull__));

/* ---- bitmap_bits.c -------------------------------------------------- */

/* The moment before a bitmap was looked up. */
struct q2_bitmap_moment {
  struct q2_header header;      /* the current one */
  uint64_t epoch;               /* q2_writer_disk_epoch */
};

/* The mask of a usable bitmap; does not keep its name and extra data.  Fails
 * with QCOW2_ERR_BUSY if the bitmaps have changed meanwhile.
 */
extern struct q2_mask *
q2_bits_new (struct qcow2_image *image, const struct q2_io *io,
             const struct q2_bitmap *bitmap,
             const struct q2_bitmap_moment *when,
             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_VIEW_BITMAP_VIEW_H */
