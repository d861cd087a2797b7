/* SPDX-License-Identifier: BSD-3-Clause */
/* tracked.h - one bitmap that is kept up.  For track/ and write/bitmaps.c,
 * which gives it clusters.
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
  _Atomic unsigned char *bits;

  /* Of a bitmap that is true in the file at any moment; else NULL and 0: */
  _Atomic unsigned char *durable;       /* bits that are set there, durably */
  _Atomic unsigned char *fresh;         /* of each zone: not 0 if a bit was
                                           newly set, since it was looked at */
  uint64_t *clusters;           /* where its bits are, by table entry */
  uint64_t nr_zones;
  unsigned zone_bits;           /* log2 */
  _Atomic bool lost;            /* it is in use in the file, durably, and not
                                   kept up any more */

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

/* It is kept true in the file. */
static inline bool
q2_tracked_is_kept (const struct q2_tracked *t)
{
  return t->durable != NULL && !t->failing && !t->lost;
}

#endif /* QCOW2_TRACK_TRACKED_H */
