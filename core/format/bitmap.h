/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap.h - one entry of the bitmap directory, and of a bitmap table.
 *
 * The bitmaps extension, which ext.h decodes, says where the directory lies.
 *
 * Spec: "Bitmaps extension", "Bitmap directory", "Bitmap table".
 */
#ifndef QCOW2_FORMAT_BITMAP_H
#define QCOW2_FORMAT_BITMAP_H

#include "format/geometry.h"

#include "base/bits.h"

/* The first bytes of an entry; they give its length. */
#define Q2_BITMAP_FIXED 24
#define Q2_BITMAP_FLAGS_OFF 12  /* of the 4 bytes of flags, in an entry */
#define Q2_BITMAP_MAX_NAME 1023
#define Q2_BITMAP_MAX_TABLE UINT32_C (0x8000000) /* entries */
#define Q2_BITMAP_MAX_BYTES (UINT64_C (512) << 20) /* of bits */
#define Q2_BITMAP_MIN_GRANULARITY_BITS 9
#define Q2_BITMAP_MAX_GRANULARITY_BITS 31

/* Limits of the directory. */
#define Q2_BITMAPS_MAX UINT32_C (65535)
#define Q2_BITMAPS_MAX_DIR_BYTES (UINT64_C (1024) * Q2_BITMAPS_MAX)

#define Q2_BITMAP_IN_USE       UINT32_C (1) /* a writer did not finish */
#define Q2_BITMAP_AUTO         UINT32_C (2) /* writers must keep it up to
                                               date */
#define Q2_BITMAP_EXTRA_COMPATIBLE UINT32_C (4)
#define Q2_BITMAP_KNOWN_FLAGS  UINT32_C (7)

struct q2_bitmap {
  uint64_t table_offset;
  uint32_t table_entries;
  uint32_t flags;
  unsigned granularity_bits;
  const unsigned char *extra;   /* points into 'bytes' */
  uint32_t extra_len;           /* QEMU refuses any extra data */
  const char *name;             /* points into 'bytes'; any bytes, not
                                   terminated */
  uint16_t name_len;
  uint64_t entry_len;           /* to the next entry */
};

/* Decode the directory entry at the start of the 'len' bytes at 'bytes'.
 * 'host_off' is their place, for the message.  Accepts all that QEMU accepts,
 * and extra data.
 */
extern int q2_bitmap_decode (const struct q2_geometry *geo,
                             const void *bytes, size_t len,
                             uint64_t host_off,
                             struct q2_bitmap *ret_bitmap,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The length of the entry with that name and extra data. */
extern uint64_t q2_bitmap_entry_len (const struct q2_bitmap *bitmap)
  __attribute__ ((__nonnull__));

/* Write the entry of q2_bitmap_entry_len bytes; its padding is zero. */
extern void q2_bitmap_encode (const struct q2_bitmap *bitmap,
                              unsigned char *bytes)
  __attribute__ ((__nonnull__));

/* The number of bits of a disk of that geometry. */
static inline uint64_t
q2_bitmap_nr_bits (const struct q2_geometry *geo, const struct q2_bitmap *b)
{
  return q2_ceil_shift (geo->virtual_size, b->granularity_bits);
}

/* The number of entries that its table must have. */
static inline uint64_t
q2_bitmap_nr_entries (const struct q2_geometry *geo,
                      const struct q2_bitmap *b)
{
  return q2_ceil_shift (geo->virtual_size,
                        geo->cluster_bits + 3 + b->granularity_bits);
}

/* Bits of an entry of a bitmap table that must be 0; and the one that says
 * that all bits are set, where it refers to no cluster.
 */
#define Q2_BITMAP_RESERVED UINT64_C (0xff000000000001fe)
#define Q2_BITMAP_ALL_ONES UINT64_C (1)

/* The host offset of the cluster of bits that an entry of a bitmap table
 * refers to; 0 if there is none: then all its bits are equal.  May be
 * unaligned in a corrupt image.
 */
static inline uint64_t
q2_bitmap_table_cluster (uint64_t entry)
{
  return entry & UINT64_C (0x00fffffffffffe00);
}

/* It follows the rules; the cluster may still lie anywhere. */
static inline bool
q2_bitmap_table_is_valid (const struct q2_geometry *geo, uint64_t entry)
{
  const uint64_t host_off = q2_bitmap_table_cluster (entry);

  return (entry & Q2_BITMAP_RESERVED) == 0 &&
    q2_is_aligned (host_off, geo->cluster_size) &&
    (host_off == 0 || !(entry & Q2_BITMAP_ALL_ONES));
}

#endif /* QCOW2_FORMAT_BITMAP_H */
