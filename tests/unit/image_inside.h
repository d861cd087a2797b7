/* SPDX-License-Identifier: BSD-3-Clause */
/* image_inside.h - snapshots and bitmaps for the images of image_builder.h.
 *
 * It shares no code with the engine, either.
 */
#ifndef IMAGE_INSIDE_H
#define IMAGE_INSIDE_H

#include "image_builder.h"

#define INSIDE_MAX 64

struct inside_snapshot {
  const char *id, *name;
  size_t id_len, name_len;
  uint64_t disk_size;           /* its L1 table has so many entries, and */
  uint32_t more_l1;             /*   so many more, for a saved memory */
  uint32_t extra_len;           /* of the entry; 8: memory size, 16: disk
                                   size, 24: icount */
  uint64_t l1_off;              /* filled in */
};

struct inside_bitmap {
  const char *name;
  unsigned granularity_bits;
  uint32_t flags;
  /* The bits; the first is the lowest of the first byte.  If a cluster of them
   * is all 0 or all 1 it is not allocated.  NULL: the table is all zeros.
   */
  const unsigned char *bits;
  uint64_t nr_bits;
  uint32_t more_entries;        /* in its table: too many */
  uint32_t extra_len;
  uint64_t table_off;           /* filled in */
};

struct inside {
  struct inside_snapshot snapshot[INSIDE_MAX];
  unsigned nr_snapshots;
  struct inside_bitmap bitmap[INSIDE_MAX];
  unsigned nr_bitmaps;
};

/* Take a snapshot of the present active disk, with the id and name in 's',
 * whose strings are not copied.
 */
extern void inside_snapshot (struct inside *in, struct image_builder *b,
                             const struct inside_snapshot *s);
extern void inside_bitmap (struct inside *in, struct image_builder *b,
                           const struct inside_bitmap *bitmap);

/* Write the tables that list them; call builder_finish after that. */
extern void inside_finish (struct inside *in, struct image_builder *b);

#endif /* IMAGE_INSIDE_H */
