/* SPDX-License-Identifier: BSD-3-Clause */
/* resize.h - a change of the disk's size.
 *
 * resize.c         which changes are allowed
 * resize_switch.c  the new header
 * resize_grow.c    what is behind the old end reads as zeros, in tables of the
 *                  new size, before the header says so
 * resize_shrink.c  what is behind the new end is let go after the header has
 *                  said so
 * resize_fill.c    preallocation
 * resize_bitmaps.c bitmaps get the new size together with the disk
 * resize_live.c    a disk that grows while it is used
 * resize_ahead.c   what is done of that before changes of the disk wait
 */
#ifndef QCOW2_EDIT_RESIZE_H
#define QCOW2_EDIT_RESIZE_H

#include "edit/edit.h"

struct q2_resize {
  struct q2_edit edit;
  struct q2_geometry old_geo, new_geo;
  enum qcow2_preallocation preallocation;
  struct q2_progress progress;          /* in bytes of the disk */

  bool placed;                  /* the tables are those of the new size */
  uint64_t l1_off;              /* as the header is to have it */
  uint32_t l1_entries;
  uint64_t old_data_end;        /* of the data file: it has zeros behind */

  /* Of a raw data file that is used; else NULL, and nothing. */
  uint64_t *ahead;              /* new L2 tables, of all L1 entries behind the
                                   old ones; to be freed */
  uint64_t zeroed;              /* from here on the data file has been zeroed;
                                   the new size: nothing was */

  /* Bitmaps; nr_bitmaps 0: the directory stays what it is. */
  uint32_t nr_bitmaps;
  uint64_t dir_off, dir_bytes;

  uint64_t end;                 /* of what is in use of the file; 0: not known
                                 */
  struct q2_frees old;          /* what the new header does not name */
};

#define Q2_RESIZE_CANCELLED \
  "resizing was cancelled; the disk has its old size"

/* Compute what it is to be; the gate is closed, or nobody else uses the
 * image.  Fails if such a change is not allowed.
 */
extern int q2_resize_plan (struct q2_resize *r, struct qcow2_image *image,
                           const struct qcow2_io *host, uint64_t new_size,
                           unsigned flags, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Note what is let go after the switch. */
extern int q2_resize_note_old (struct q2_resize *r, uint64_t host_off,
                               uint64_t bytes, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Commit, and give the image its new header; then let go of r->old. */
extern int q2_resize_switch (struct q2_resize *r, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

extern int q2_resize_grow (struct q2_resize *r, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_resize_shrink (struct q2_resize *r, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Let the data file have the new size. */
extern int q2_resize_grow_data (struct q2_resize *r, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Allocate, in the image's tables, clusters for [from, to), multiples of the
 * cluster size, that read as zeros.
 */
extern int q2_resize_fill (struct q2_resize *r, uint64_t from, uint64_t to,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Of a disk with a raw data file, while it is used: fail if that is too much;
 * make r->ahead, and zero most of what is behind the old end of the data file,
 * with an edit that has begun beside changes; and let the image's L1 table,
 * which has the new size, name those tables, with the gate closed.
 */
extern int q2_resize_check_ahead (const struct q2_resize *r,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_resize_ahead (struct q2_resize *r, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_resize_link_ahead (struct q2_resize *r, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Fail if somebody has a bitmap open that would get another table. */
extern int q2_resize_check_pins (struct q2_resize *r,
                                 struct qcow2_image *image,
                                 const struct qcow2_io *host,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make a directory of bitmaps, with their tables and bits, for a disk of the
 * new size, if any of it changes.
 */
extern int q2_resize_bitmaps (struct q2_resize *r, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_EDIT_RESIZE_H */
