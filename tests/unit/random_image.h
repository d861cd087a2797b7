/* SPDX-License-Identifier: BSD-3-Clause */
/* random_image.h - seeded random legal images, with a model to compare to.
 *
 * The model covers a window of the disk sector by sector.  Everything before
 * the window is unallocated, and the disk ends with it.  If 'base' is not 0
 * the window lies across the border between two L2 tables, which for large
 * clusters is far into the disk.
 */
#ifndef RANDOM_IMAGE_H
#define RANDOM_IMAGE_H

#include "image_builder.h"
#include "unit.h"

enum sector_kind {
  SECTOR_UNALLOCATED,
  SECTOR_ZERO,
  SECTOR_DATA,
  SECTOR_COMPRESSED,
};

struct sector {
  enum sector_kind kind;
  uint64_t host_off;            /* DATA: of this sector; COMPRESSED: of the
                                   stream of its cluster */
  uint64_t csize;
};

struct random_image {
  struct image_builder b;
  uint64_t base;                /* guest offset of the window */
  uint64_t len;                 /* bytes of the window */
  unsigned char *disk;          /* contents of the window */
  struct sector *sectors;       /* of 512 bytes, the last may be cut */
};

/* A random geometry; small clusters are more likely. */
extern struct image_spec random_spec (struct rng *rng);

/* Fill in the open fields of 'spec': virtual_size is chosen here, so that the
 * window has at most about 'max_len' bytes, but some clusters.
 */
extern void random_image_init (struct random_image *image, struct rng *rng,
                               const struct image_spec *spec,
                               uint64_t max_len);
extern void random_image_free (struct random_image *image);

/* One line about it, for unit_context; a static buffer per thread. */
extern const char *random_image_describe (const struct random_image *image);

#endif /* RANDOM_IMAGE_H */
