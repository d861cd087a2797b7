/* SPDX-License-Identifier: BSD-3-Clause */
/* apply_bitmaps.h - bitmaps of a disk that is going to be what a snapshot has.
 *
 * One that is enabled says what has changed since some moment.  Applying a
 * snapshot changes all bytes in which the disk and the snapshot differ, and
 * the size of the disk, perhaps; so the header names the bitmaps with that in
 * them in the step in which it names the disk (SNAP-9).
 */
#ifndef QCOW2_EDIT_APPLY_BITMAPS_H
#define QCOW2_EDIT_APPLY_BITMAPS_H

#include "edit/bitmaps.h"
#include "view/snapshot_view.h"

struct q2_apply_bitmaps {
  struct q2_bitmap_set set;     /* set.changed: it has to be switched to */
  const struct q2_geometry *old_geo, *new_geo;
  struct q2_since *diff;        /* of the new disk: what is not as before; NULL
                                   if all are disabled and keep their size */
  struct q2_progress *progress; /* asked now and then */
  const char *cancelled;        /* see q2_progress_add */
  bool any;                     /* the image has bitmaps */
};

/* Everything that the new header is to name, written and not yet durable.
 * 'progress' and 'cancelled' are set by the caller.  'found' is what is
 * applied, 'new_geo' that of the disk then, which must outlive it.  Fails if
 * one of them cannot be made true for the new disk; then nothing has changed
 * but for what the edit takes back.  'what' as for q2_edit_begin.  Free it
 * also on failure.
 */
extern int q2_apply_bitmaps_prepare (struct q2_apply_bitmaps *bitmaps,
                                     struct q2_edit *edit,
                                     const struct q2_found_snapshot *found,
                                     const struct q2_geometry *new_geo,
                                     const char *what,
                                     struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* All zero is allowed. */
extern void q2_apply_bitmaps_free (struct q2_apply_bitmaps *bitmaps)
  __attribute__ ((__nonnull__));

/* The header names them: what they do not need any more is released, and none
 * is kept up.
 */
extern void q2_apply_bitmaps_finish (struct q2_apply_bitmaps *bitmaps)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_EDIT_APPLY_BITMAPS_H */
