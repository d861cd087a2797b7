/* SPDX-License-Identifier: BSD-3-Clause */
/* recipe.h - images made by QEMU, whose disk is known.
 */
#ifndef CRASH_RECIPE_H
#define CRASH_RECIPE_H

#include <stdbool.h>
#include <stdint.h>

/* What sectors hold that are filled: this write (tag.h). */
#define RECIPE_ID 1u

struct recipe {
  const char *options;          /* for qemu-img -o */
  unsigned cluster_bits;        /* as in the options */
  uint64_t disk_size;           /* a multiple of 512 */
  unsigned fill_percent;        /* of the clusters */
  bool compressed;              /* those are */
  unsigned snapshots;           /* taken at the end */
  unsigned zero_percent;        /* of the clusters, after that: "write -z" */
};

struct recipe_image {
  unsigned char *bytes;
  uint64_t size;
  unsigned char *disk;
  uint64_t disk_size;
};

/* qemu_init first.  The same bytes each time, but for dates. */
extern void recipe_make (struct recipe_image *image, const struct recipe *r,
                         uint64_t seed);
extern void recipe_free (struct recipe_image *image);

#endif /* CRASH_RECIPE_H */
