/* SPDX-License-Identifier: BSD-3-Clause */
/* image_inside.c - see image_inside.h.
 *
 * Owns      the snapshot table, and the bitmap directory.
 * Method    a snapshot is a copy of the L1 table; all earlier L2 tables count
 *           as shared from then on.
 * Locks     none.
 * Spec      "Snapshots", "Bitmaps extension".
 */
#include "config.h"

#include "image_inside.h"
#include "unit.h"

#define L1_OFFSET UINT64_C (0x00fffffffffffe00)

static uint64_t
div_up (uint64_t a, uint64_t b)
{
  return a / b + (a % b != 0);
}

static void
use (struct image_builder *b, uint64_t host_off, uint64_t len,
     uint64_t l1_entries)
{
  REQUIRE (b->nr_extra < BUILDER_MAX_EXTRA);
  b->extra[b->nr_extra++] =
    (struct builder_extra) { host_off, len, l1_entries };
}

static uint64_t
alloc (struct image_builder *b, uint64_t bytes)
{
  return builder_alloc (b, div_up (bytes, b->cluster_size));
}

/* ---- Snapshots ------------------------------------------------------- */

void
inside_snapshot (struct inside *in, struct image_builder *b,
                 const struct inside_snapshot *s)
{
  const uint64_t span = b->nr_l2_entries * b->cluster_size;
  const uint64_t entries = div_up (s->disk_size, span) + s->more_l1;
  const uint64_t l1_off = alloc (b, entries * 8);

  REQUIRE (in->nr_snapshots < INSIDE_MAX);
  for (uint64_t i = 0; i < entries && i < b->l1_entries; ++i)
    builder_put (b, l1_off + 8 * i, 8,
                 builder_get (b, b->l1_off + 8 * i, 8) & L1_OFFSET);
  use (b, l1_off, entries * 8, entries);
  in->snapshot[in->nr_snapshots] = *s;
  in->snapshot[in->nr_snapshots++].l1_off = l1_off;
  b->frozen = b->size;
}

static uint64_t
snapshot_len (const struct inside_snapshot *s)
{
  return (40 + s->extra_len + s->id_len + s->name_len + 7) / 8 * 8;
}

static void
put_snapshot (struct image_builder *b, uint64_t off,
              const struct inside_snapshot *s)
{
  const uint64_t span = b->nr_l2_entries * b->cluster_size;
  const uint64_t extra = off + 40;

  builder_put (b, off, 8, s->l1_off);
  builder_put (b, off + 8, 4, div_up (s->disk_size, span) + s->more_l1);
  builder_put (b, off + 12, 2, s->id_len);
  builder_put (b, off + 14, 2, s->name_len);
  builder_put (b, off + 16, 4, 1700000000);
  builder_put (b, off + 20, 4, 123456789);
  builder_put (b, off + 24, 8, 42);
  builder_put (b, off + 36, 4, s->extra_len);
  if (s->extra_len >= 8)
    builder_put (b, extra, 8, s->more_l1 ? 4711 : 0);
  if (s->extra_len >= 16)
    builder_put (b, extra + 8, 8, s->disk_size);
  if (s->id_len > 0)            /* else there may be no text at all */
    memcpy (b->bytes + extra + s->extra_len, s->id, s->id_len);
  if (s->name_len > 0)
    memcpy (b->bytes + extra + s->extra_len + s->id_len, s->name,
            s->name_len);
}

static void
finish_snapshots (struct inside *in, struct image_builder *b)
{
  uint64_t bytes = 0, off;

  for (unsigned i = 0; i < in->nr_snapshots; ++i)
    bytes += snapshot_len (&in->snapshot[i]);
  off = alloc (b, bytes);
  use (b, off, bytes, 0);
  builder_put (b, 60, 4, in->nr_snapshots);
  builder_put (b, 64, 8, off);
  for (unsigned i = 0; i < in->nr_snapshots; ++i) {
    put_snapshot (b, off, &in->snapshot[i]);
    off += snapshot_len (&in->snapshot[i]);
  }
}

/* ---- Bitmaps --------------------------------------------------------- */

static bool
all_are (const unsigned char *p, uint64_t len, unsigned char byte)
{
  while (len > 0 && *p == byte)
    ++p, --len;
  return len == 0;
}

void
inside_bitmap (struct inside *in, struct image_builder *b,
               const struct inside_bitmap *bitmap)
{
  const uint64_t bytes = div_up (bitmap->nr_bits, 8);
  const uint64_t entries =
    div_up (bytes, b->cluster_size) + bitmap->more_entries;
  const uint64_t table = alloc (b, entries * 8);
  struct inside_bitmap *const copy = &in->bitmap[in->nr_bitmaps++];

  REQUIRE (in->nr_bitmaps <= INSIDE_MAX);
  *copy = *bitmap;
  copy->table_off = table;
  use (b, table, entries * 8, 0);
  for (uint64_t i = 0; bitmap->bits && i * b->cluster_size < bytes; ++i) {
    const unsigned char *const p = bitmap->bits + i * b->cluster_size;
    const uint64_t left = bytes - i * b->cluster_size;
    const uint64_t len = left < b->cluster_size ? left : b->cluster_size;
    uint64_t off;

    if (all_are (p, len, 0) || all_are (p, len, 0xff)) {
      builder_put (b, table + 8 * i, 8, p[0] == 0xff);
      continue;
    }
    off = alloc (b, 1);
    memcpy (b->bytes + off, p, len);
    builder_put (b, table + 8 * i, 8, off);
    use (b, off, b->cluster_size, 0);
  }
}

static uint64_t
bitmap_len (const struct inside_bitmap *bitmap)
{
  return (24 + bitmap->extra_len + strlen (bitmap->name) + 7) / 8 * 8;
}

static void
put_bitmap (struct image_builder *b, uint64_t off,
            const struct inside_bitmap *bitmap)
{
  const uint64_t bytes = div_up (bitmap->nr_bits, 8);

  builder_put (b, off, 8, bitmap->table_off);
  builder_put (b, off + 8, 4,
               div_up (bytes, b->cluster_size) + bitmap->more_entries);
  builder_put (b, off + 12, 4, bitmap->flags);
  builder_put (b, off + 16, 1, 1);
  builder_put (b, off + 17, 1, bitmap->granularity_bits);
  builder_put (b, off + 18, 2, strlen (bitmap->name));
  builder_put (b, off + 20, 4, bitmap->extra_len);
  memcpy (b->bytes + off + 24 + bitmap->extra_len, bitmap->name,
          strlen (bitmap->name));
}

static void
finish_bitmaps (struct inside *in, struct image_builder *b)
{
  unsigned char ext[24] = { 0 };
  uint64_t bytes = 0, dir, off;

  for (unsigned i = 0; i < in->nr_bitmaps; ++i)
    bytes += bitmap_len (&in->bitmap[i]);
  dir = off = alloc (b, bytes);
  use (b, dir, bytes, 0);
  for (unsigned i = 0; i < in->nr_bitmaps; ++i) {
    put_bitmap (b, off, &in->bitmap[i]);
    off += bitmap_len (&in->bitmap[i]);
  }
  builder_extension (b, 0x23852875, ext, sizeof ext);
  /* It is the first one. */
  off = builder_get (b, 100, 4) + 8;
  builder_put (b, off, 4, in->nr_bitmaps);
  builder_put (b, off + 8, 8, bytes);
  builder_put (b, off + 16, 8, dir);
  builder_put (b, 88, 8, 1);
}

void
inside_finish (struct inside *in, struct image_builder *b)
{
  if (in->nr_snapshots > 0)
    finish_snapshots (in, b);
  if (in->nr_bitmaps > 0)
    finish_bitmaps (in, b);
}
