/* SPDX-License-Identifier: BSD-3-Clause */
/* recipe.c - see recipe.h.
 *
 * Owns      nothing; files have fixed names in the folder of qemu.h.
 * Method    the disk is made in memory, converted by qemu-img, and changed
 *           by qemu-io afterwards where a conversion would not do.
 */
#include "config.h"

#include "recipe.h"

#include "qemu.h"
#include "tag.h"
#include "unit.h"

static void
fill (struct recipe_image *image, const struct recipe *r, struct rng *rng)
{
  const uint64_t cluster = UINT64_C (1) << r->cluster_bits;

  for (uint64_t at = 0; at < r->disk_size; at += cluster) {
    const uint64_t left = r->disk_size - at;

    if (rng_below (rng, 100) < r->fill_percent)
      tag_fill (image->disk + at, at / SECTOR,
                (left < cluster ? left : cluster) / SECTOR, RECIPE_ID);
  }
}

static void
make_zero_clusters (struct recipe_image *image, const struct recipe *r,
                    struct rng *rng)
{
  const uint64_t cluster = UINT64_C (1) << r->cluster_bits;

  for (uint64_t at = 0; at + cluster <= r->disk_size; at += cluster)
    if (rng_below (rng, 100) < r->zero_percent) {
      qemu_run (0, "qemu-io -f qcow2 -c 'write -z %s %" PRIu64 " %" PRIu64
                "' made.qcow2", rng_next (rng) % 2 ? "-u" : "", at, cluster);
      memset (image->disk + at, 0, cluster);
    }
}

void
recipe_make (struct recipe_image *image, const struct recipe *r,
             uint64_t seed)
{
  struct rng rng = { seed };

  image->disk_size = r->disk_size;
  image->disk = calloc (1, r->disk_size);
  REQUIRE (image->disk != NULL);
  qemu_run (0, "rm -f made.qcow2");
  if (r->fill_percent == 0)
    qemu_run (0, "qemu-img create -q -f qcow2 -o '%s' made.qcow2 %" PRIu64,
              r->options, r->disk_size);
  else {
    fill (image, r, &rng);
    qemu_save ("made.raw", image->disk, r->disk_size);
    qemu_run (0, "qemu-img convert %s -f raw -O qcow2 -o '%s' made.raw "
              "made.qcow2", r->compressed ? "-c" : "", r->options);
  }
  for (unsigned i = 0; i < r->snapshots; ++i)
    qemu_run (0, "qemu-img snapshot -c s%u made.qcow2", i);
  make_zero_clusters (image, r, &rng);
  image->bytes = qemu_load ("made.qcow2", &image->size);
}

void
recipe_free (struct recipe_image *image)
{
  free (image->bytes);
  free (image->disk);
}
