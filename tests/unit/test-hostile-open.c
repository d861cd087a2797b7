/* SPDX-License-Identifier: BSD-3-Clause */
/* test-hostile-open.c - images cut short and images with flipped bits:
 * whatever comes out, nothing crashes, hangs or reads outside the file.
 */
#include "config.h"

#include "exercise.h"
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

static void
make_image (struct random_image *r, unsigned which, uint64_t seed)
{
  struct rng rng = { seed };
  struct image_spec spec = specs[which];

  spec.zstd = spec.version == 3 && seed % 2 && qcow2_has_zstd ();
  random_image_init (r, &rng, &spec, 16 << 10);
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
    unsigned opened = 0;

    make_image (&r, which, 3);
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

/* A place in the header, the L1 table or an L2 table. */
static uint64_t
pick_metadata (const struct random_image *r, struct rng *rng)
{
  const uint64_t first = r->base / r->b.cluster_size;
  uint64_t off = 0;

  switch (rng_below (rng, 4)) {
  case 0:
    return rng_below (rng, 120);
  case 1:
    return r->b.l1_off + rng_below (rng, 8 * r->b.l1_entries);
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

    make_image (&r, i % NR_SPECS, 100 + i);
    for (unsigned n = 0; n < per_image; ++n) {
      uint64_t at[3];
      unsigned char bit[3];
      const uint64_t nr = 1 + rng_below (&rng, 3);

      for (uint64_t k = 0; k < nr; ++k) {
        at[k] = pick_metadata (&r, &rng) % r.b.size;
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
