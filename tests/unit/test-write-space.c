/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-space.c - an image whose file cannot grow can be filled.
 *
 * A device that is as large as 'qemu-img measure' says holds a disk all of
 * whose clusters are written, in whichever order, and whatever has to be
 * moved on the way.  And while something hangs below, who needs its space
 * waits, and is not told that there is none.
 */
#include "config.h"

#include "hooked_disk.h"
#include "tag.h"
#include "threads.h"

#include <stdatomic.h>

#define KiB (UINT64_C (1) << 10)

static uint64_t
ceil_div (uint64_t a, uint64_t b)
{
  return (a + b - 1) / b;
}

/* As 'qemu-img measure' counts. */
static uint64_t
measure (uint64_t size, unsigned cluster_bits, unsigned order)
{
  const uint64_t cluster = UINT64_C (1) << cluster_bits;
  const uint64_t data = ceil_div (size, cluster);
  const uint64_t l2 = ceil_div (data, cluster / 8);
  const uint64_t rest = 1 + data + l2 + ceil_div (l2 * 8, cluster);
  uint64_t blocks = 0, table = 0, before;

  do {
    before = blocks + table;
    blocks = ceil_div (rest + before, cluster * 8 >> order);
    table = ceil_div (blocks * 8, cluster);
  } while (blocks + table != before);
  return (rest + blocks + table) * cluster;
}

static void
fill (unsigned cluster_bits, unsigned order, uint64_t size, uint64_t seed)
{
  const uint64_t nr = size >> cluster_bits;
  uint64_t *const at = calloc (nr, sizeof *at);
  struct rng rng = { seed };
  struct hooked_disk d;
  bool ok = true;

  unit_context ("clusters of 2^%u, refcounts of 2^%u bits, %" PRIu64 " KiB, "
                "seed %" PRIu64, cluster_bits, order, size / KiB, seed);
  REQUIRE (at != NULL);
  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t k = rng_below (&rng, i + 1);

    at[i] = at[k];
    at[k] = i;
  }
  hooked_disk_build (&d, cluster_bits, order, size, 0);
  hooked_disk_serve (&d, &(struct host_spec) {
      .capacity = measure (size, cluster_bits, order) });
  hooked_disk_open (&d);
  for (uint64_t i = 0; ok && i < nr; ++i)
    ok = unit_check (hooked_disk_write (&d, at[i], 'a' + (int) (at[i] % 26)),
                     __FILE__, __LINE__, "write %" PRIu64 " of %" PRIu64
                     ": %s", i, nr, d.err.text);
  for (uint64_t i = 0; ok && i < nr; i += 97)
    hooked_disk_check (&d, i, 'a' + (int) (i % 26));
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  hooked_disk_free (&d);
  free (at);
}

int
main (void)
{
  static const struct {
    unsigned cluster_bits, order;
    uint64_t kib;
  } images[] = {
    { 9, 6, 2000 }, { 9, 6, 2300 }, { 9, 6, 4500 }, { 9, 6, 9000 },
    { 9, 5, 4500 }, { 9, 5, 8800 }, { 9, 4, 8600 }, { 9, 0, 1000 },
    { 10, 6, 17000 }, { 12, 6, 8000 }, { 16, 4, 32000 },
  };

  threads_watchdog ();
  for (size_t i = 0; i < sizeof images / sizeof images[0]; ++i)
    for (uint64_t seed = 1; seed <= 2; ++seed)
      fill (images[i].cluster_bits, images[i].order, images[i].kib * KiB,
            seed);
  return unit_finish ();
}
