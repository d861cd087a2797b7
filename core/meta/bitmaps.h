/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmaps.h - the directory of persistent bitmaps of an image. */
#ifndef QCOW2_META_BITMAPS_H
#define QCOW2_META_BITMAPS_H

#include "format/bitmap.h"
#include "format/header.h"
#include "io/io.h"
#include "meta/overlap.h"

/* One bitmap, whose directory entry lies at 'host_off'.  Name and extra data
 * are only there during the call.  Returns 0 to go on, 1 to stop, which is no
 * error, or -1 with *err filled in.
 */
typedef int (*q2_bitmap_fn) (void *opaque, const struct q2_bitmap *bitmap,
                             uint64_t host_off, struct qcow2_error *err);

/* The bytes of the directory. */
struct q2_bitmap_dir {
  unsigned char *bytes;
  uint64_t len;
};

/* Read it; empty if there are no bitmaps.  Fails if it does not end inside the
 * file.  On success the caller frees it.
 */
extern int q2_bitmaps_read (const struct q2_io *io,
                            const struct q2_header *header,
                            struct q2_bitmap_dir *ret_dir,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_bitmaps_free (const struct q2_io *io,
                             struct q2_bitmap_dir *dir)
  __attribute__ ((__nonnull__));

/* Call fn for each bitmap, in the order of the directory.  Fails before the
 * first call if any of the directory is broken.
 */
extern int q2_bitmaps_walk (const struct q2_io *io,
                            const struct q2_header *header,
                            const struct q2_geometry *geo, q2_bitmap_fn fn,
                            void *opaque, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 4, 6), __warn_unused_result__));

/* Whether something else sees to it that the bitmap stays true. */
typedef bool (*q2_bitmap_kept_fn) (const void *opaque,
                                   const struct q2_bitmap *bitmap);

/* Say in the entry of each bitmap that is enabled, and not kept true, that it
 * may no longer be true, as it will be once the guest has written.  Only flags
 * that are not set are written, and nothing is flushed.  'overlap' has the
 * directory.  Does nothing if the image has no bitmaps, or none that mean
 * anything.
 */
extern int q2_bitmaps_mark_in_use (const struct q2_io *io,
                                   const struct q2_header *header,
                                   const struct q2_geometry *geo,
                                   struct q2_overlap *overlap,
                                   q2_bitmap_kept_fn is_kept,
                                   const void *opaque,
                                   struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_META_BITMAPS_H */
