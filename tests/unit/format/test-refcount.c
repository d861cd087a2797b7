/* SPDX-License-Identifier: BSD-3-Clause */
/* test-refcount.c - refcounts of every width at every index of a block,
 * against a model that moves one bit at a time.
 */
#include "config.h"

#include "format/refcount_bits.h"

#include "unit.h"

#define BLOCK 512

/* Bits of a value that is 'width' wide: below a byte they are counted from
 * the least significant bit of each byte, above it bytes are big-endian.
 */
static uint64_t
model (const unsigned char *block, unsigned width, size_t idx)
{
  uint64_t v = 0;

  for (unsigned i = 0; i < width; ++i) {
    const size_t bit = idx * width + i;
    size_t byte = bit / 8;
    unsigned in_byte = bit % 8;

    if (width > 8)              /* first byte is the most significant */
      byte = idx * width / 8 + (width - 1 - i) / 8;
    if (block[byte] & (1u << in_byte))
      v |= UINT64_C (1) << i;
  }
  return v;
}

/* Setting an entry changes it, and no other bit of the block or around it. */
static void
test_set (unsigned order)
{
  const unsigned width = 1u << order;
  const uint64_t max = UINT64_MAX >> (64 - width);
  struct rng rng = { order };
  unsigned char before[1 + BLOCK + 1], block[1 + BLOCK + 1];

  unit_context ("setting width %u", width);
  for (size_t idx = 0; idx < BLOCK * 8 / width; ++idx) {
    const uint64_t v = idx % 4 == 0 ? max : idx % 4 == 1 ? 0
      : rng_next (&rng) & max;

    rng_fill (&rng, before, sizeof before);
    memcpy (block, before, sizeof block);
    q2_refcount_set (block + 1, order, idx, v);
    CHECK_EQ (model (block + 1, width, idx), v);
    CHECK_EQ (block[0], before[0]);
    CHECK_EQ (block[BLOCK + 1], before[BLOCK + 1]);
    for (size_t i = 0; i < BLOCK * 8 / width; ++i)
      if (i != idx && model (block + 1, width, i) !=
          model (before + 1, width, i))
        CHECK_EQ (i, idx);
  }
}

int
main (void)
{
  struct rng rng = { 42 };
  unsigned char block[BLOCK + 1];

  for (unsigned round = 0; round < 20; ++round) {
    const unsigned shift = round % 2; /* blocks at odd addresses too */

    rng_fill (&rng, block, sizeof block);
    for (unsigned order = 0; order <= 6; ++order) {
      const unsigned width = 1u << order;

      unit_context ("width %u", width);
      for (size_t idx = 0; idx < BLOCK * 8 / width; ++idx)
        CHECK_EQ (q2_refcount_get (block + shift, order, idx),
                  model (block + shift, width, idx));
    }
  }

  for (unsigned order = 0; order <= 6; ++order)
    test_set (order);

  /* Known bytes, not only the model. */
  memcpy (block, "\x8d\x12\x34\x56\x78\x9a\xbc\xde", 8);
  unit_context ("%s", "known bytes");
  CHECK_EQ (q2_refcount_get (block, 0, 0), 1);
  CHECK_EQ (q2_refcount_get (block, 0, 1), 0);
  CHECK_EQ (q2_refcount_get (block, 0, 7), 1);
  CHECK_EQ (q2_refcount_get (block, 1, 0), 1);
  CHECK_EQ (q2_refcount_get (block, 1, 1), 3);
  CHECK_EQ (q2_refcount_get (block, 2, 0), 0xd);
  CHECK_EQ (q2_refcount_get (block, 2, 3), 0x1);
  CHECK_EQ (q2_refcount_get (block, 3, 1), 0x12);
  CHECK_EQ (q2_refcount_get (block, 4, 1), 0x3456);
  CHECK_EQ (q2_refcount_get (block, 5, 1), 0x789abcde);
  CHECK_EQ (q2_refcount_get (block, 6, 0), UINT64_C (0x8d123456789abcde));
  return unit_finish ();
}
