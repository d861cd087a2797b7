/* SPDX-License-Identifier: BSD-3-Clause */
/* test-hostile-open.c - truncated images and images with flipped bits: the
 * engine must not crash, hang or read outside the file.
 */
#include "config.h"

#include "exercise.h"
#include "image_inside.h"
#include "random_image.h"
#include "unit.h"

#include <unistd.h>

static const struct image_spec specs[] = {
  { .version = 1, .cluster_bits = 9, .l2_bits = 6 },
  { .version = 2, .cluster_bits = 9, .refcount_order = 4 },
  { .version = 3, .cluster_bits = 9, .refcount_order = 4 },
  { .version = 3, .cluster_bits = 12, .refcount_order = 0 },
  { .version = 3, .cluster_bits = 14, .refcount_order = 6,
    .extended_l2 = true },
};
#define NR_SPECS (sizeof specs / sizeof specs[0])

/* Two snapshots, with a change before each, and a bitmap where that can be. */
static void
put_inside (struct random_image *r, struct inside *in)
{
  static const unsigned char bits[2000] = { 0xff, 0x0f, 0, 0x10 };
  const uint64_t first = r->base / r->b.cluster_size;
  const uint64_t nr = ((r->base + r->len - 1) >> 16) + 1;
  unsigned char *const cluster = calloc (1, r->b.cluster_size);
  struct inside_snapshot s = {
    .id = "1", .id_len = 1, .name = "a", .name_len = 1, .extra_len = 24,
    .disk_size = r->base + r->len,
  };

  REQUIRE (cluster != NULL);
  builder_data (&r->b, first, cluster);
  inside_snapshot (in, &r->b, &s);
  builder_data (&r->b, first + (r->len - 1) / r->b.cluster_size, cluster);
  s.name = "b";
  s.more_l1 = 1;
  inside_snapshot (in, &r->b, &s);
  builder_data (&r->b, first, cluster);
  if (r->b.spec.version == 3 && nr <= 8 * sizeof bits)
    inside_bitmap (in, &r->b, &(struct inside_bitmap) {
      .name = "b", .granularity_bits = 16, .flags = 2, .bits = bits,
      .nr_bits = nr });
  free (cluster);
  inside_finish (in, &r->b);
  builder_finish (&r->b);
}

static void
make_image (struct random_image *r, struct inside *in, unsigned which,
            uint64_t seed)
{
  struct rng rng = { seed };
  struct image_spec spec = specs[which];

  spec.zstd = spec.version == 3 && seed % 2 && qcow2_has_zstd ();
  random_image_init (r, &rng, &spec, 16 << 10);
  memset (in, 0, sizeof *in);
  if (spec.version > 1)
    put_inside (r, in);
}

/* A copy of exactly that size, so that a sanitizer sees what is beyond. */
static bool
exercise_copy (const unsigned char *bytes, size_t size)
{
  unsigned char *const copy = malloc (size ? size : 1);
  bool opened;

  REQUIRE (copy != NULL);
  memcpy (copy, bytes, size);
  opened = exercise_image (copy, size);
  free (copy);
  return opened;
}

static void
test_truncation (void)
{
  for (unsigned which = 0; which < NR_SPECS; ++which) {
    struct random_image r;
    struct inside in;
    unsigned opened = 0;

    make_image (&r, &in, which, 3);
    for (uint64_t size = 0; size < r.b.size;
         size += size < 1100 || r.b.size < 6000 ? 1 : 512) {
      unit_context ("cut to %" PRIu64 ": %s", size,
                    random_image_describe (&r));
      opened += exercise_copy (r.b.bytes, size);
    }
    CHECK (opened > 5);         /* a cut file is not refused as such */
    CHECK (exercise_copy (r.b.bytes, r.b.size));
    random_image_free (&r);
  }
}

/* A place in what tells of snapshots and bitmaps. */
static uint64_t
pick_inside (const struct random_image *r, const struct inside *in,
             struct rng *rng)
{
  const struct inside_snapshot *const s =
    &in->snapshot[rng_below (rng, 2)];

  switch (rng_below (rng, in->nr_bitmaps > 0 ? 5 : 3)) {
  case 0:
    return s->l1_off + rng_below (rng, 16);
  case 3:
    return in->bitmap[0].table_off + rng_below (rng, 8);
  case 4:
    return builder_get (&r->b, 112 + 8 + 16, 8) + rng_below (rng, 32);
  default:
    return builder_get (&r->b, 64, 8) + rng_below (rng, 2 * 72);
  }
}

/* A place in the header, the L1 table or an L2 table, or there. */
static uint64_t
pick_metadata (const struct random_image *r, const struct inside *in,
               struct rng *rng)
{
  const uint64_t first = r->base / r->b.cluster_size;
  uint64_t off = 0;

  switch (rng_below (rng, in->nr_snapshots > 0 ? 7 : 4)) {
  case 0:
    return rng_below (rng, 120);
  case 1:
    return r->b.l1_off + rng_below (rng, 8 * r->b.l1_entries);
  case 4 ... 6:
    return pick_inside (r, in, rng);
  default:
    for (unsigned i = 0; i < 10 && off == 0; ++i)
      off = builder_entry_off
        (&r->b, first + rng_below (rng, r->len / r->b.cluster_size + 1));
    return off + rng_below (rng, r->b.l2_entry_size);
  }
}

static void
test_bit_flips (void)
{
  const unsigned per_image = 200;
  unsigned opened = 0, total = 0;

  for (unsigned i = 0; i < unit_scaled (10000) / per_image; ++i) {
    struct rng rng = { 5000 + i };
    struct random_image r;
    struct inside in;

    make_image (&r, &in, i % NR_SPECS, 100 + i);
    for (unsigned n = 0; n < per_image; ++n) {
      uint64_t at[3];
      unsigned char bit[3];
      const uint64_t nr = 1 + rng_below (&rng, 3);

      for (uint64_t k = 0; k < nr; ++k) {
        at[k] = pick_metadata (&r, &in, &rng) % r.b.size;
        bit[k] = (unsigned char) (1u << rng_below (&rng, 8));
        r.b.bytes[at[k]] ^= bit[k];
      }
      unit_context ("image %u, flip %u (first at 0x%" PRIx64 "): %s", i, n,
                    at[0], random_image_describe (&r));
      opened += exercise_image (r.b.bytes, r.b.size);
      total++;
      for (uint64_t k = 0; k < nr; ++k)
        r.b.bytes[at[k]] ^= bit[k];
    }
    random_image_free (&r);
  }
  unit_context ("%s", "");
  CHECK (total < 100 || (opened > total / 4 && opened < total));
}

int
main (void)
{
  alarm (240);                  /* a hang is a failure */
  test_truncation ();
  test_bit_flips ();
  return unit_finish ();
}
