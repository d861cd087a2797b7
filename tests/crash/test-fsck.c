/* SPDX-License-Identifier: BSD-3-Clause */
/* test-fsck.c - fsck.c agrees with 'qemu-img check'.
 *
 * Owns      nothing.
 * Method    images of many kinds, intact and with every kind of damage that a
 *           wrong order of writes could cause: both must give the same result,
 *           sound, leaks or corrupt.
 */
#include "config.h"

#include "campaign.h"
#include "fsck.h"
#include "qemu.h"
#include "unit.h"
#include "variants.h"

#include <endian.h>

struct damage {
  const char *what;
  /* Returns false if the image has no such place. */
  bool (*fn) (unsigned char *bytes, uint64_t size, struct rng *rng);
};

static uint64_t
get (const unsigned char *bytes, uint64_t off, unsigned len)
{
  uint64_t v = 0;

  for (unsigned i = 0; i < len; ++i)
    v = v << 8 | bytes[off + i];
  return v;
}

static void
put64 (unsigned char *bytes, uint64_t off, uint64_t v)
{
  v = htobe64 (v);
  memcpy (bytes + off, &v, 8);
}

#define OFFSET_MASK UINT64_C (0x00fffffffffffe00)

/* The offset of a random used entry of a table; 0 if there is none. */
static uint64_t
used_entry (const unsigned char *bytes, uint64_t size, uint64_t table,
            uint64_t len, unsigned step, struct rng *rng)
{
  uint64_t found = 0, nr = 0;

  for (uint64_t off = table; off + 8 <= table + len && off + 8 <= size;
       off += step)
    if ((get (bytes, off, 8) & OFFSET_MASK) != 0 &&
        rng_below (rng, ++nr) == 0)
      found = off;
  return found;
}

static uint64_t
l1_entry (const unsigned char *bytes, uint64_t size, struct rng *rng)
{
  return used_entry (bytes, size, get (bytes, 40, 8), get (bytes, 36, 4) * 8,
                     8, rng);
}

static uint64_t
l2_entry (const unsigned char *bytes, uint64_t size, struct rng *rng)
{
  const uint64_t l1 = l1_entry (bytes, size, rng);
  const bool extended = get (bytes, 4, 4) == 3 && (get (bytes, 72, 8) & 16);

  if (l1 == 0)
    return 0;
  return used_entry (bytes, size, get (bytes, l1, 8) & OFFSET_MASK,
                     UINT64_C (1) << get (bytes, 20, 4), extended ? 16 : 8,
                     rng);
}

static uint64_t
block_entry (const unsigned char *bytes, uint64_t size, struct rng *rng)
{
  return used_entry (bytes, size, get (bytes, 48, 8),
                     get (bytes, 56, 4) << get (bytes, 20, 4), 8, rng);
}

#define DAMAGE(name, find, change)                                            \
  static bool                                                                 \
  name (unsigned char *bytes, uint64_t size, struct rng *rng)                 \
  {                                                                           \
    const uint64_t off = find (bytes, size, rng);                             \
    const uint64_t entry = off ? get (bytes, off, 8) : 0;                     \
                                                                              \
    if (off == 0)                                                             \
      return false;                                                           \
    put64 (bytes, off, change);                                               \
    return true;                                                              \
  }

#define COPIED (UINT64_C (1) << 63)
#define CLUSTER (UINT64_C (1) << get (bytes, 20, 4))

DAMAGE (lose_l1, l1_entry, entry & 0)
DAMAGE (lose_l2, l2_entry, entry & 0)
DAMAGE (copied_l1, l1_entry, entry ^ COPIED)
DAMAGE (copied_l2, l2_entry, entry ^ COPIED)
DAMAGE (next_l1, l1_entry, entry + CLUSTER)
DAMAGE (next_l2, l2_entry, entry + CLUSTER)
DAMAGE (far_l1, l1_entry, entry + (CLUSTER << 20))
DAMAGE (far_l2, l2_entry, (entry & COPIED) | (CLUSTER << 20))
DAMAGE (header_l2, l2_entry, (entry & COPIED) | get (bytes, 40, 8))
DAMAGE (reserved_l1, l1_entry, entry | 1)
DAMAGE (reserved_l2, l2_entry, entry | 2)
DAMAGE (lose_block, block_entry, entry & 0)
DAMAGE (next_block, block_entry, entry + CLUSTER)

/* Change a refcount, or a few of them. */
static bool
refcounts (unsigned char *bytes, uint64_t size, struct rng *rng)
{
  const uint64_t off = block_entry (bytes, size, rng);
  const uint64_t nr = size / CLUSTER;
  const unsigned bits =
    get (bytes, 4, 4) == 2 ? 16 : 1u << get (bytes, 96, 4);
  uint64_t at;

  if (off == 0)
    return false;
  at = (get (bytes, off, 8) & OFFSET_MASK) +
    rng_below (rng, nr * bits / 8 < CLUSTER ? (nr * bits + 7) / 8 : CLUSTER);
  if (bits == 64)
    at |= 7;
  if (at >= size)
    return false;
  bytes[at] ^= rng_next (rng) % 2 ? 1 : 3;
  return true;
}

/* Two equal entries. */
static bool
twice (unsigned char *bytes, uint64_t size, struct rng *rng)
{
  const uint64_t a = l2_entry (bytes, size, rng);
  const uint64_t b = l2_entry (bytes, size, rng);

  if (a == 0 || b == 0 || a == b)
    return false;
  put64 (bytes, a, get (bytes, b, 8));
  return true;
}

static bool
nothing (unsigned char *bytes, uint64_t size, struct rng *rng)
{
  (void) bytes;
  (void) size;
  (void) rng;
  return true;
}

static const struct damage damages[] = {
  { "nothing", nothing },
  { "an L1 entry is lost", lose_l1 },
  { "an L2 entry is lost", lose_l2 },
  { "COPIED in an L1 entry", copied_l1 },
  { "COPIED in an L2 entry", copied_l2 },
  { "an L1 entry leads to the next cluster", next_l1 },
  { "an L2 entry leads to the next cluster", next_l2 },
  { "an L1 entry leads past the end", far_l1 },
  { "an L2 entry leads past the end", far_l2 },
  { "an L2 entry leads to the L1 table", header_l2 },
  { "a reserved bit of an L1 entry", reserved_l1 },
  { "a reserved bit of an L2 entry", reserved_l2 },
  { "a refcount block is lost", lose_block },
  { "a refcount block is the next cluster", next_block },
  { "a refcount", refcounts },
  { "the same L2 entry twice", twice },
};

#define NR_DAMAGES (sizeof damages / sizeof damages[0])

/* The exit status that qemu-img check would have. */
static int
status_of (const struct fsck *fsck)
{
  return fsck->corruptions ? 2 : fsck->leaks ? 3 : 0;
}

static void
compare (const struct workload *w, const struct damage *damage,
         const unsigned char *bytes, const struct recipe_image *image,
         unsigned *ret_seen)
{
  char target[QEMU_IMAGE];
  struct fsck fsck;
  int status;

  fsck_image (bytes, image->size, &fsck);
  qemu_save ("damaged.qcow2", bytes, image->size);
  status = qemu_status ("qemu-img check %s",
                        qemu_image (target, sizeof target, "damaged.qcow2",
                                    image->qemu_options, NULL));
  if (status == 1)              /* it cannot even be opened */
    status = 2;
  if (status == 3 && fsck.mixed > 0)
    return;                     /* known: fsck is the stricter one */
  unit_check (status == status_of (&fsck), __FILE__, __LINE__,
              "%s: %s: qemu-img check: %d, fsck: %d (%s%s)", w->name,
              damage->what, status, status_of (&fsck), fsck.text,
              fsck.leak_text);
  *ret_seen |= 1u << status;
}

static void
damage_each (const struct workload *w, uint64_t seed, unsigned times,
             unsigned *ret_seen, unsigned *ret_done)
{
  struct rng rng = { seed };
  struct recipe_image image;

  recipe_make (&image, &w->recipe, seed);
  for (unsigned j = 0; j < NR_DAMAGES * times; ++j) {
    unsigned char *const copy = malloc (image.size);

    REQUIRE (copy != NULL);
    memcpy (copy, image.bytes, image.size);
    if (damages[j % NR_DAMAGES].fn (copy, image.size, &rng)) {
      compare (w, &damages[j % NR_DAMAGES], copy, &image, ret_seen);
      ret_done[j % NR_DAMAGES]++;
    }
    free (copy);
  }
  recipe_free (&image);
}

/* In an encrypted image the LUKS header is counted, too.  (QEMU does not check
 * entries that refer to a data file.)
 */
static void
damage_variant (const char *workload, const char *variant, unsigned *ret_seen,
                unsigned *ret_done)
{
  static struct variant v;

  for (size_t i = 0; i < campaign_nr_workloads; ++i)
    for (size_t j = 0; j < nr_variants; ++j)
      if (strcmp (campaign_workloads[i].name, workload) == 0 &&
          strcmp (variant_names[j], variant) == 0 &&
          variant_make (&v, &campaign_workloads[i], j))
        damage_each (&v.w, i, 1, ret_seen, ret_done);
}

int
main (void)
{
  unsigned seen = 0, done[NR_DAMAGES] = { 0 };

  qemu_init ();
  for (size_t i = 0; i < campaign_nr_workloads; ++i)
    if (campaign_workloads[i].clients <= 1) /* the others are like them */
      damage_each (&campaign_workloads[i], i, unit_scaled (2), &seen, done);
  damage_variant ("storm-4k", "luks", &seen, done);
  damage_variant ("snapshot-512", "luks", &seen, done);
  damage_variant ("version-2", "luks", &seen, done);
  damage_variant ("extended-snapshot", "aes-over-image", &seen, done);
  for (unsigned j = 0; j < NR_DAMAGES; ++j)
    CHECK (done[j] > 3);
  CHECK_EQ (seen, 1u << 0 | 1u << 2 | 1u << 3);
  qemu_finish ();
  return unit_finish ();
}
