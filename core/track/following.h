/* SPDX-License-Identifier: BSD-3-Clause */
/* following.h - the tracker follows the next set of bitmaps.
 *
 * Who makes a new set while the disk changes (edit/transact_live.c) makes all
 * of it in the file first, to which nothing points.  Then the tracker follows
 * it: from one moment on each change sets its bits in the set that the header
 * names, and in the next one.  When the header names that durably the tracker
 * lets go of the old set; or else of the next one.
 *
 *   q2_follow          the moment, with the gate closed; no I/O
 *   q2_follow_ready    the next set is as true in the file as the old one
 *   q2_follow_end      one of the two is no more kept up
 *   q2_track_purge     ... and its memory is free, with the gate closed
 */
#ifndef QCOW2_TRACK_FOLLOWING_H
#define QCOW2_TRACK_FOLLOWING_H

#include "track/since.h"
#include "track/track.h"

/* Bytes of bits of one that is kept up; 0: it is not. */
extern uint64_t q2_track_bytes (const struct q2_track *track,
                                const struct q2_bitmap *bitmap)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Its exact bits, q2_track_bytes () of them, while changes run: at least those
 * of all changes that had begun.
 */
extern void q2_track_copy (const struct q2_track *track,
                           const struct q2_bitmap *bitmap,
                           unsigned char *ret_bits)
  __attribute__ ((__nonnull__));

/* What a list of bitmaps needs that is to be followed; the gate is closed. */
extern void q2_track_prepare (struct q2_track *track, const struct q2_io *io,
                              struct q2_overlap *overlap)
  __attribute__ ((__nonnull__));

/* The gate is closed: from now on these bitmaps, a list that is the tracker's
 * then, are kept up, too.  They get what has changed since another moment
 * (NULL: nothing).
 */
extern void q2_follow (struct q2_track *track, struct q2_tracked *list,
                       const struct q2_since *since)
  __attribute__ ((__nonnull__ (1)));

/* The next directory, all of which was written, gets its marks: as that of the
 * header has them while the disk changes.  What bitmaps that are followed have
 * in memory is written; nothing is flushed.
 */
extern int q2_follow_ready (struct q2_track *track, const struct q2_io *io,
                            uint32_t nr, uint64_t dir_offset,
                            uint64_t dir_bytes, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Whether the set that is named by the header from now on has this bitmap, as
 * one that is enabled.
 */
typedef bool (*q2_follow_fn) (const void *opaque, const struct q2_track *track,
                              const struct q2_tracked *tracked);

/* Let go of bitmaps that are not followed any more, or (NULL) of the next set:
 * afterwards nothing is written to their bits, and nobody asks for them.
 */
extern void q2_follow_end (struct q2_track *track, q2_follow_fn has,
                           const void *opaque)
  __attribute__ ((__nonnull__ (1)));

/* Free what was let go; the gate is closed. */
extern void q2_track_purge (struct q2_track *track)
  __attribute__ ((__nonnull__));
extern bool q2_track_has_gone (const struct q2_track *track)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_TRACK_FOLLOWING_H */
