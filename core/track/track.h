/* SPDX-License-Identifier: BSD-3-Clause */
/* track.h - persistent bitmaps that are kept up while the disk changes.
 *
 * Before the first change of the disk the enabled bitmaps are loaded.  Each
 * change sets bits before it begins.
 *
 *   lazy      bitmaps are marked as in use in the file, first (ORDER-7).  At
 *             the end edit/bitmap_store.c stores the bits and takes the mark
 *             back.
 *   durable   they are never marked: what the file has is true at any moment,
 *             if not exact (zones.c).
 *
 * A bitmap that cannot be kept up is marked, with a warning, and no request
 * fails because of it.
 *
 * track.c       loading, setting bits
 * zones.c       what of a durable bitmap is written, and when
 * following.c   the next set of bitmaps, until the header names it
 */
#ifndef QCOW2_TRACK_TRACK_H
#define QCOW2_TRACK_TRACK_H

#include "base/gate.h"
#include "base/lock.h"
#include "format/bitmap.h"
#include "meta/overlap.h"
#include "meta/superblock.h"

struct q2_tracked;

/* Requests that wait at the same time are done with one flush, so many of
 * them.
 */
#define Q2_TRACK_WANTS 32

/* So many are kept up at most: each costs every request a little. */
#define Q2_MAX_TRACKED 64

struct q2_track {
  /* Constant once the image is open: */
  enum qcow2_bitmaps mode;
  const struct q2_geometry *geo;
  struct q2_superblock *superblock;
  qcow2_log_fn log;
  void *log_opaque;

  /* Changed while no change of the disk is running: by who prepares the image
   * for the first one (write/activate.c), or has closed the gate, or closes
   * the image.
   */
  struct q2_tracked *first;
  struct q2_overlap *overlap;   /* that writes of bits are checked with */
  struct qcow2_budget *budget;  /* that they are counted in */

  struct q2_mutex lock;         /* held over I/O: one thread at a time writes
                                   bits; guards: */
  struct {
    bool is_there;
    uint32_t nr;                /* bitmaps */
    uint64_t offset, bytes;
  } next_dir;                   /* a directory that the header is going to
                                   name */
  struct q2_mutex wants_lock;   /* guards: */
  struct { uint64_t count, guest_off; } wants[Q2_TRACK_WANTS];
  unsigned nr_wants;

  _Atomic uint64_t activations; /* how often somebody waited for a flush */
  _Atomic unsigned idle_calls;  /* of q2_track_is_due */
};

extern void q2_track_init (struct q2_track *track)
  __attribute__ ((__nonnull__));
/* Forgets them, too. */
extern void q2_track_destroy (struct q2_track *track)
  __attribute__ ((__nonnull__));

/* Load the bitmaps that are enabled, true, and not yet marked as in use.
 * Those that are kept up already stay.  With lazy ones the caller is about to
 * mark them; durable ones need clusters for all of their bits first
 * (write/bitmaps.c).
 */
extern void q2_track_load (struct q2_track *track, const struct q2_io *io,
                           struct q2_overlap *overlap)
  __attribute__ ((__nonnull__));

/* 'count' bytes of the disk are about to change.  Any number of threads.
 * True: all bitmaps may be told by that; false: call q2_track_activate first.
 */
extern bool q2_track_set (struct q2_track *track, uint64_t count,
                          uint64_t guest_off)
  __attribute__ ((__nonnull__, __warn_unused_result__));

static inline bool
q2_track_is_empty (const struct q2_track *track)
{
  return track->first == NULL;
}

/* The bitmap's bits, as they are to be stored; false: it is not kept up, or
 * need not be stored.  *ret_changed: they are not those of the file.
 */
extern bool q2_track_find (const struct q2_track *track,
                           const struct q2_bitmap *bitmap,
                           const unsigned char **ret_bits, uint64_t *ret_len,
                           bool *ret_changed)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The bitmap is kept up, in the file or in memory. */
extern bool q2_track_has (const struct q2_track *track,
                          const struct q2_bitmap *bitmap)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Do not keep the one of that name up any more, if there is one. */
extern void q2_track_drop (struct q2_track *track, const char *name,
                           size_t len) __attribute__ ((__nonnull__));

/* Keep none of them up any more. */
extern void q2_track_forget (struct q2_track *track)
  __attribute__ ((__nonnull__));

/* ---- zones.c ---------------------------------------------------------- */

/* Make it durable that these bytes may change, in each bitmap that is kept
 * true; one for which that fails is marked as in use, durably.  -1: neither
 * was possible, so these bytes must not change; or a flush has failed.
 */
extern int q2_track_activate (struct q2_track *track, const struct q2_io *io,
                              uint64_t count, uint64_t guest_off,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Call it every few seconds; true now and then: retire zones. */
extern bool q2_track_is_due (struct q2_track *track)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Zones in which no bit was newly set since the last call get their exact
 * bits.  The caller is inside the gate, and it ends early if somebody wants
 * that closed; changes of the disk may run at the same time.  -1: a flush has
 * failed.
 */
extern int q2_track_retire (struct q2_track *track, const struct q2_io *io,
                            struct q2_gate *gate, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* All get their exact bits, durably.  No change is running. */
extern int q2_track_settle (struct q2_track *track, const struct q2_io *io,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* A bitmap is neither true in the file nor marked as in use there: it must not
 * be forgotten.  No change is running.
 */
extern bool q2_track_is_failing (struct q2_track *track)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Of a struct q2_track: the bitmap is kept true in the file. */
extern bool q2_track_keeps (const void *track,
                            const struct q2_bitmap *bitmap)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Bitmaps whose 'failing' is set are marked as in use, durably, with a warning
 * that says why; then they are not kept up any more.  With track.lock.
 */
extern int q2_track_give_up_locked (struct q2_track *track,
                                    const struct q2_io *io, const char *why,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_TRACK_TRACK_H */
