/* SPDX-License-Identifier: BSD-3-Clause */
/* track.h - persistent bitmaps that are kept up in memory while the disk
 * changes.
 *
 * Before the first change of the disk the enabled bitmaps are loaded, and then
 * marked as in use in the file (ORDER-7).  Each change sets bits before it
 * begins.  At the end edit/bitmap_store.c stores the bits and takes the mark
 * back.  A bitmap that cannot be kept up stays marked, with a warning, and no
 * request fails because of it.
 */
#ifndef QCOW2_TRACK_TRACK_H
#define QCOW2_TRACK_TRACK_H

#include "format/bitmap.h"
#include "format/header.h"
#include "io/io.h"

struct q2_tracked;

struct q2_track {
  /* Constant once the image is open: */
  bool lazy;                    /* else no bitmap is ever tracked */
  qcow2_log_fn log;
  void *log_opaque;

  /* Changed while no change of the disk is running: by who prepares the image
   * for the first one (write/activate.c), or has closed the gate, or closes
   * the image.
   */
  struct q2_tracked *first;
  struct qcow2_budget *budget;  /* that they are counted in */
};

/* Load the bitmaps that are enabled, true, and not yet marked as in use, which
 * the caller is about to do.  Those that are kept up already stay.
 */
extern void q2_track_load (struct q2_track *track, const struct q2_io *io,
                           const struct q2_header *header,
                           const struct q2_geometry *geo)
  __attribute__ ((__nonnull__));

/* 'count' bytes of the disk are about to change.  Any number of threads. */
extern void q2_track_set (struct q2_track *track, uint64_t count,
                          uint64_t guest_off) __attribute__ ((__nonnull__));

static inline bool
q2_track_is_empty (const struct q2_track *track)
{
  return track->first == NULL;
}

/* The bitmap's bits, as they are to be stored; false: it is not kept up.
 * *ret_changed: they are not those of the file.
 */
extern bool q2_track_find (const struct q2_track *track,
                           const struct q2_geometry *geo,
                           const struct q2_bitmap *bitmap,
                           const unsigned char **ret_bits, uint64_t *ret_len,
                           bool *ret_changed)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Do not keep the one of that name up any more, if there is one. */
extern void q2_track_drop (struct q2_track *track, const char *name,
                           size_t len) __attribute__ ((__nonnull__));

/* Keep none of them up any more. */
extern void q2_track_forget (struct q2_track *track)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_TRACK_TRACK_H */
