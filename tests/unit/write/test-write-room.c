/* SPDX-License-Identifier: BSD-3-Clause */
/* test-write-room.c - a medium fills up, and acknowledged writes survive.
 *
 * Owns      each piece of metadata that a write can need which has no room on
 *           the medium yet: a slice of an L2 table, a new table, a sector of
 *           the L1 table, a slice of a refcount block, a new block, a sector
 *           of the refcount table.
 * Method    a sparse file, and an image in which the next writes need just
 *           that piece.  The medium has room for N more blocks, for each N up
 *           to some dozens, and small writes go to new clusters until one
 *           fails: so for some N the data takes the last block.  Then the
 *           commit must succeed.
 */
#include "config.h"

#include "hooked_disk.h"

#include "base/be.h"

#define KiB UINT64_C (1024)
#define MiB (KiB * KiB)
#define BLOCK UINT64_C (4096)   /* of the medium */

struct scene {
  const char *name;
  unsigned cluster_bits, order;
  uint64_t virtual_size;
  unsigned nr;                  /* clusters that are there at the start */
  uint64_t fill;                /* bytes that are written before it is full */
  uint64_t start, stride;       /* where the small writes go */
  unsigned writes, max_room;
  bool far_table;               /* see move_table */
  enum qcow2_io_class piece;    /* the writes need one that is written as */
  uint32_t size;                /* zeros, of this size, for the first time */
};

static const struct scene scenes[] = {
  { .name = "slice of an L2 table", .cluster_bits = 16, .order = 4,
    .virtual_size = 512 * MiB, .nr = 1, .start = 32 * MiB,
    .stride = 32 * MiB, .writes = 14, .max_room = 40,
    .piece = QCOW2_IO_L2, .size = 4096 },
  { .name = "L2 table", .cluster_bits = 12, .order = 4,
    .virtual_size = 64 * MiB, .nr = 1, .start = 2 * MiB,
    .stride = 2 * MiB, .writes = 24, .max_room = 40,
    .piece = QCOW2_IO_L2, .size = 4096 },
  { .name = "sector of the L1 table", .cluster_bits = 12, .order = 4,
    .virtual_size = 8192 * MiB, .nr = 1, .start = 1024 * MiB,
    .stride = 1024 * MiB, .writes = 6, .max_room = 24,
    .piece = QCOW2_IO_L1, .size = 512 },
  /* The first slice of the block has 512 clusters. */
  { .name = "slice of a refcount block", .cluster_bits = 13, .order = 6,
    .virtual_size = 64 * MiB, .nr = 1, .fill = 300 * 8 * KiB,
    .start = 4 * MiB, .stride = 8 * KiB, .writes = 100, .max_room = 60,
    .piece = QCOW2_IO_REFCOUNT, .size = 4096 },
  { .name = "refcount block", .cluster_bits = 12, .order = 6,
    .virtual_size = 64 * MiB, .nr = 1, .fill = 480 * 4 * KiB,
    .start = 2 * MiB, .stride = 4 * KiB, .writes = 100, .max_room = 60,
    .piece = QCOW2_IO_REFCOUNT, .size = 4096 },
  { .name = "sector of the refcount table", .cluster_bits = 9, .order = 6,
    .virtual_size = 16 * MiB, .nr = 1, .fill = 1920 * KiB,
    .start = 2 * MiB, .stride = BLOCK, .writes = 100, .max_room = 60,
    .far_table = true, .piece = QCOW2_IO_REFCOUNT, .size = 512 },
};

/* The refcount table goes on in a block of the medium that has nothing else:
 * its first cluster is the last of a block.
 */
static void
move_table (struct hooked_disk *d)
{
  const uint64_t size = d->b.cluster_size;
  const uint64_t old = hooked_disk_get (d, 48);
  const uint64_t at = builder_alloc (&d->b, (unsigned) (4 * BLOCK / size));
  const uint64_t table = (at + BLOCK) / BLOCK * BLOCK + BLOCK - size;

  memcpy (d->b.bytes + table, d->b.bytes + old, size);
  hooked_disk_put (d, 48, table);
  store_be32 (d->b.bytes + 56, (uint32_t) (BLOCK / size));
  for (uint64_t c = at / size; c < d->b.size / size; ++c) {
    const uint64_t block =
      hooked_disk_get (d, table + 8 * (c / (size / 8)));

    REQUIRE (block != 0);
    hooked_disk_put (d, block + 8 * (c % (size / 8)), 1);
  }
}

static bool
write_bytes (struct hooked_disk *d, uint64_t guest_off, uint64_t count)
{
  static unsigned char buf[64 * 1024];
  const uint32_t max = sizeof buf;

  memset (buf, 'r', sizeof buf);
  while (count > 0) {
    const uint32_t n = count < max ? (uint32_t) count : max;

    if (qcow2_pwrite (d->image, &d->host.io, buf, n, guest_off, false,
                      &d->err) != 0)
      return false;
    guest_off += n;
    count -= n;
  }
  return true;
}

static struct {
  const struct scene *scene;
  unsigned long nr;             /* of its pieces were written */
} seen;

static void
look_for_piece (struct hooked_disk *d, uint32_t len, uint64_t host_off,
                enum qcow2_io_class io_class)
{
  const struct scene *const s = seen.scene;

  /* Blocks look like sectors of the table. */
  if (s->far_table && host_off < hooked_disk_get (d, 48) + d->b.cluster_size)
    return;
  seen.nr += io_class == s->piece && len == s->size;
}

/* Returns how many writes there was room for. */
static unsigned
run (const struct scene *s, unsigned room)
{
  struct hooked_disk d;
  unsigned n = 0;

  unit_context ("%s, room for %u blocks", s->name, room);
  hooked_disk_build (&d, s->cluster_bits, s->order, s->virtual_size, s->nr);
  if (s->far_table)
    move_table (&d);
  hooked_disk_serve (&d, &(struct host_spec) {
      .capacity = d.b.size + 12 * MiB, .grows = true, .room = 1u << 20 });
  hooked_disk_open (&d);
  CHECK (write_bytes (&d, 0, 512));
  CHECK (write_bytes (&d, 0, s->fill));
  CHECK (hooked_disk_flush (&d));
  d.host.spec.room = room + 1;
  seen.scene = s;
  seen.nr = 0;
  d.before_write = look_for_piece;
  while (n < s->writes &&
         write_bytes (&d, s->start + n * s->stride, BLOCK))
    ++n;
  d.before_write = NULL;
  if (n < s->writes)
    CHECK_EQ (d.err.kind, QCOW2_ERR_NO_SPACE);
  unit_check (hooked_disk_flush (&d), __FILE__, __LINE__,
              "the commit after %u writes failed: %s", n, d.err.text);
  d.host.spec.room = 1u << 20;
  CHECK_EQ (qcow2_end (d.image, &d.host.io, &d.err), 0);
  hooked_disk_free (&d);
  return n;
}

/* With room for all of it: how much has to be there before depends on how far
 * ahead space is reserved.
 */
static void
find_piece (struct scene *s)
{
  CHECK_EQ (run (s, 1000), s->writes);
  for (unsigned tries = 0; seen.nr == 0 && s->fill > 0 && tries < 40; ++tries) {
    s->fill += UINT64_C (16) << s->cluster_bits;
    s->start += UINT64_C (16) << s->cluster_bits;
    CHECK_EQ (run (s, 1000), s->writes);
  }
  unit_check (seen.nr > 0, __FILE__, __LINE__, "%s: none is needed", s->name);
}

int
main (void)
{
  for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; ++i) {
    struct scene s = scenes[i];

    find_piece (&s);
    CHECK_EQ (run (&s, 0), 0);
    for (unsigned room = 1; room < s.max_room; ++room)
      run (&s, room);
  }
  return unit_finish ();
}
