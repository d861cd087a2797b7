/* SPDX-License-Identifier: BSD-3-Clause */
/* tracked.h - one bitmap that is kept up.  For track/, and for who gives it
 * clusters: write/bitmaps.c and edit/bitmap_follow.c.
 *
 * Bits are numbered from the lowest of the first byte on, as in the file.  A
 * zone is so many bits that stand for 4 MiB of the disk, or one bit.
 */
#ifndef QCOW2_TRACK_TRACKED_H
#define QCOW2_TRACK_TRACKED_H

#include "track/track.h"

/* What requests that wait for the same flush have asked for, and one more. */
#define Q2_TRACK_RANGES (Q2_TRACK_WANTS + 1)

struct q2_zones {
  uint64_t first, end;          /* equal: none */
};

struct q2_tracked {
  struct q2_tracked *next;
  uint64_t table_offset;
  uint32_t table_entries;
  uint64_t nr_bits, len;        /* bytes of them, a multiple of 8 */
  uint64_t charge;              /* of the budget */
  unsigned granularity_bits;
  _Atomic bool changed;
  _Atomic bool lost;            /* not kept up any more: it is in use in the
                                   file, durably, or gone */
  bool is_next;                 /* of a set that the header does not name yet;
                                   for who makes that */
  bool gone;                    /* of no set any more, and lost: freed as soon
                                   as no change runs */
  _Atomic unsigned char *bits;

  /* Of a bitmap that is true in the file at any moment; else NULL and 0: */
  _Atomic unsigned char *durable;       /* bits that are set there, durably */
  _Atomic unsigned char *fresh;         /* of each zone: not 0 if a bit was
                                           newly set, since it was looked at */
  uint64_t *clusters;           /* where its bits are, by table entry */
  uint64_t nr_zones;
  unsigned zone_bits;           /* log2 */

  /* track.lock guards: */
  bool failing;                 /* lost, or to be marked before 'durable' gets
                                   any more bits */
  struct q2_zones ranges[Q2_TRACK_RANGES];      /* that are being activated */

  uint16_t name_len;
  char name[];
};

/* Bits [first, end) that are in the byte. */
static inline unsigned
q2_bits_in_byte (uint64_t byte, uint64_t first, uint64_t end)
{
  unsigned mask = 0xff;

  if (first >= byte * 8 + 8 || end <= byte * 8)
    return 0;
  if (first > byte * 8)
    mask &= 0xffu << (first - byte * 8);
  if (end < byte * 8 + 8)
    mask &= 0xffu >> (byte * 8 + 8 - end);
  return mask;
}

/* ---- track.c ---------------------------------------------------------- */

/* For that bitmap, whose table may not be there yet; all bits are clear.
 * NULL: *err is set.
 */
extern struct q2_tracked *q2_tracked_new (struct q2_track *track,
                                          const struct q2_bitmap *bitmap,
                                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The bits that the file has; of one that is durable, they are. */
extern int q2_tracked_load (const struct q2_track *track,
                            const struct q2_io *io,
                            const struct q2_bitmap *bitmap,
                            struct q2_tracked *tracked,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Set bits first to last, inclusive.  True: nobody has to be waited for. */
extern bool q2_tracked_set (struct q2_tracked *tracked, uint64_t first,
                            uint64_t last) __attribute__ ((__nonnull__));

/* NULL is allowed. */
extern void q2_tracked_free (struct q2_track *track,
                             struct q2_tracked *tracked)
  __attribute__ ((__nonnull__ (1)));

/* It is this bitmap, and no other one of the same name. */
extern bool q2_tracked_is (const struct q2_track *track,
                           const struct q2_tracked *tracked,
                           const struct q2_bitmap *bitmap)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* That bitmap, if it is kept up; NULL: it is not. */
extern const struct q2_tracked *
q2_tracked_find (const struct q2_track *track, const struct q2_bitmap *bitmap)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The bitmap is not kept up, with a line in the log that says why. */
extern void q2_track_warn (const struct q2_track *track,
                           const struct q2_bitmap *bitmap, const char *why)
  __attribute__ ((__nonnull__));

/* ---- zones.c ---------------------------------------------------------- */

/* Write bytes [first, first + len) of its bits, with track.lock. */
extern int q2_tracked_write (struct q2_track *track, const struct q2_io *io,
                             const struct q2_tracked *tracked,
                             const unsigned char *buf, uint64_t first,
                             uint64_t len, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* As q2_bitmaps_mark_in_use, in the next directory, if there is one.  With
 * track.lock.
 */
extern int q2_track_mark_next_locked (struct q2_track *track,
                                      const struct q2_io *io,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ----------------------------------------------------------------------- */

/* It is kept true in the file. */
static inline bool
q2_tracked_is_kept (const struct q2_tracked *t)
{
  return t->durable != NULL && !t->failing && !t->lost;
}

#endif /* QCOW2_TRACK_TRACKED_H */
