/* SPDX-License-Identifier: BSD-3-Clause */
/* random_image.c - fills images at random and records the contents.
 *
 * Owns      the model: the bytes, and the place of each sector.
 * Method    stretches of clusters of one kind, for runs of all lengths.
 *           Between stretches host clusters may be left unused, so that
 *           neighbours on the disk are not always neighbours in the file.
 * Locks     none.
 */
#include "config.h"

#include "random_image.h"

#define SECTOR 512

static const unsigned char likely_bits[] = {
  9, 9, 9, 10, 11, 12, 12, 13, 14, 14, 15, 16, 16, 16, 17, 18,
};

struct image_spec
random_spec (struct rng *rng)
{
  struct image_spec spec = { .refcount_order = 4 };
  const uint64_t version = rng_below (rng, 8);

  spec.version = version == 0 ? 1 : version == 1 ? 2 : 3;
  spec.cluster_bits = rng_below (rng, 40) == 0
    ? (unsigned) (19 + rng_below (rng, 3))
    : likely_bits[rng_below (rng, sizeof likely_bits)];
  if (spec.version == 1) {
    if (spec.cluster_bits > 16)
      spec.cluster_bits = 16;
    spec.l2_bits = (unsigned) (6 + rng_below (rng, 8));
  }
  if (spec.version == 3) {
    spec.refcount_order = (unsigned) rng_below (rng, 7);
    spec.extended_l2 = spec.cluster_bits >= 14 && rng_below (rng, 2);
    spec.zstd = qcow2_has_zstd () && rng_below (rng, 2);
  }
  return spec;
}

/* ---- Clusters -------------------------------------------------------- */

struct fill {
  struct random_image *image;
  struct rng *rng;
  unsigned char *cluster;       /* contents of the one being made */
  uint64_t in_window;           /* its offset in the window */
  uint64_t guest_cluster;
};

static void
describe_sectors (const struct fill *f, uint64_t from, uint64_t to,
                  enum sector_kind kind, uint64_t host_off, uint64_t csize)
{
  struct random_image *const image = f->image;

  for (uint64_t off = from; off < to; off += SECTOR) {
    const uint64_t at = f->in_window + off;

    if (at >= image->len)
      return;
    image->sectors[at / SECTOR] = (struct sector) {
      .kind = kind, .csize = csize,
      .host_off = kind == SECTOR_DATA ? host_off + off : host_off,
    };
  }
}

static void
set_disk (const struct fill *f, uint64_t from, uint64_t to)
{
  struct random_image *const image = f->image;
  const uint64_t at = f->in_window + from;

  if (at < image->len)
    memcpy (image->disk + at, f->cluster + from,
            to - from < image->len - at ? to - from : image->len - at);
}

static void
fill_data (const struct fill *f)
{
  const uint64_t size = f->image->b.cluster_size;

  /* Now and then data that reads as zeros is still data. */
  if (rng_below (f->rng, 16) == 0)
    memset (f->cluster, 0, size);
  else
    rng_fill (f->rng, f->cluster, size);
  describe_sectors (f, 0, size, SECTOR_DATA,
                    builder_data (&f->image->b, f->guest_cluster,
                                  f->cluster), 0);
  set_disk (f, 0, size);
}

static void
fill_compressed (const struct fill *f)
{
  const uint64_t size = f->image->b.cluster_size;
  const uint64_t period = 40 + rng_below (f->rng, 90);
  uint64_t host_off, csize;

  rng_fill (f->rng, f->cluster, period);
  for (uint64_t i = period; i < size; ++i)
    f->cluster[i] = f->cluster[i - period];
  for (uint64_t i = rng_below (f->rng, size / 64); i > 0; --i)
    f->cluster[rng_below (f->rng, size)] ^= 1;
  if (!builder_compressed (&f->image->b, f->guest_cluster, f->cluster,
                           &host_off, &csize)) {
    fill_data (f);
    return;
  }
  describe_sectors (f, 0, size, SECTOR_COMPRESSED, host_off, csize);
  set_disk (f, 0, size);
}

static void
fill_subclusters (const struct fill *f)
{
  const uint64_t size = f->image->b.cluster_size, sub = size / 32;
  /* Stretches of subclusters, not only single ones. */
  const uint32_t spread = (uint32_t) rng_next (f->rng);
  const uint32_t alloc = spread & (uint32_t) (rng_next (f->rng) >> 7);
  const uint32_t zero = ~spread & (uint32_t) rng_next (f->rng);
  uint64_t host_off;

  rng_fill (f->rng, f->cluster, size);
  host_off = builder_subclusters (&f->image->b, f->guest_cluster, alloc,
                                  zero, rng_below (f->rng, 2), f->cluster);
  for (unsigned i = 0; i < 32; ++i) {
    const uint64_t from = i * sub, to = from + sub;

    if (alloc & (UINT32_C (1) << i)) {
      describe_sectors (f, from, to, SECTOR_DATA, host_off, 0);
      set_disk (f, from, to);
    }
    else if (zero & (UINT32_C (1) << i))
      describe_sectors (f, from, to, SECTOR_ZERO, 0, 0);
  }
}

static void
fill_zero (const struct fill *f)
{
  builder_zero (&f->image->b, f->guest_cluster, rng_below (f->rng, 2));
  describe_sectors (f, 0, f->image->b.cluster_size, SECTOR_ZERO, 0, 0);
}

static void
fill_cluster (const struct fill *f, uint64_t kind)
{
  switch (kind) {
  case 0: fill_data (f); return;
  case 1: fill_compressed (f); return;
  case 2: if (f->image->b.spec.version == 3) fill_zero (f); return;
  case 3: if (f->image->b.spec.extended_l2) fill_subclusters (f); return;
  default: return;              /* unallocated */
  }
}

/* ---- Images ---------------------------------------------------------- */

void
random_image_init (struct random_image *image, struct rng *rng,
                   const struct image_spec *spec, uint64_t max_len)
{
  struct image_spec full = *spec;
  const uint64_t size = UINT64_C (1) << spec->cluster_bits;
  const uint64_t entries = spec->version == 1 ? UINT64_C (1) << spec->l2_bits
    : size / (spec->extended_l2 ? 16 : 8);
  uint64_t nr, left = 0, kind = 0, first;
  struct fill f = { .image = image, .rng = rng };

  memset (image, 0, sizeof *image);
  nr = max_len / size > 6 ? max_len / size : 6;
  nr = 1 + rng_below (rng, nr);
  /* At most a few clusters ahead of a border between L2 tables. */
  first = rng_below (rng, 2) ? 0
    : (1 + rng_below (rng, 3)) * entries - 1 - rng_below (rng, 3);
  image->base = first * size;
  image->len = nr * size - rng_below (rng, rng_below (rng, 2) ? size : 1);
  if (image->len < 2)
    image->len = 2;             /* version 1 has no smaller ones */
  full.virtual_size = image->base + image->len;

  builder_init (&image->b, &full);
  image->disk = calloc (1, image->len);
  image->sectors = calloc (image->len / SECTOR + 1, sizeof *image->sectors);
  f.cluster = malloc (size);
  REQUIRE (image->disk && image->sectors && f.cluster);
  for (uint64_t i = 0; i < nr; ++i) {
    if (left-- == 0) {
      left = rng_below (rng, rng_below (rng, 4) ? 3 : 12);
      kind = rng_below (rng, 5);
      builder_alloc (&image->b, rng_below (rng, 2));
    }
    f.in_window = i * size;
    f.guest_cluster = first + i;
    fill_cluster (&f, kind);
  }
  free (f.cluster);
  builder_finish (&image->b);
}

void
random_image_free (struct random_image *image)
{
  builder_free (&image->b);
  free (image->disk);
  free (image->sectors);
}

const char *
random_image_describe (const struct random_image *image)
{
  static _Thread_local char text[160];
  const struct image_spec *const s = &image->b.spec;

  snprintf (text, sizeof text, "v%u cluster 2^%u%s%s l2 2^%u base 0x%" PRIx64
            " len 0x%" PRIx64, s->version, s->cluster_bits,
            s->extended_l2 ? " extended" : "", s->zstd ? " zstd" : "",
            s->l2_bits, image->base, image->len);
  return text;
}
