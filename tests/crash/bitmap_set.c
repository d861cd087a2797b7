/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_set.c - see bitmap_set.h.
 *
 * Owns      a decoded copy of the directory, tables and bits.
 * Method    every rule of the specification is checked, and in addition that
 *           bits past the end of the disk are not set.
 */
#include "config.h"

#include "bitmap_set.h"
#include "unit.h"

#define OFFSET_MASK UINT64_C (0x00fffffffffffe00)
#define RESERVED UINT64_C (0xff000000000001fe)

struct loading {
  struct bitmap_set *set;
  const unsigned char *bytes;
  uint64_t size, cluster, disk;
};

static bool
wrong (struct loading *l, const char *what, uint64_t at)
{
  if (l->set->problem[0] == '\0')
    snprintf (l->set->problem, sizeof l->set->problem, "%s at 0x%" PRIx64,
              what, at);
  return false;
}

static bool
has (const struct loading *l, uint64_t off, uint64_t len)
{
  return off <= l->size && len <= l->size - off;
}

static uint64_t
get (const struct loading *l, uint64_t off, unsigned len)
{
  uint64_t v = 0;

  for (unsigned i = 0; i < len; ++i)
    v = v << 8 | (has (l, off + i, 1) ? l->bytes[off + i] : 0);
  return v;
}

static void
set_bits (struct bitmap_seen *b, uint64_t from, uint64_t nr)
{
  for (uint64_t i = from; i < from + nr && i < b->nr_bits; ++i)
    b->bits[i / 8] |= (unsigned char) (1u << i % 8);
}

static bool
load_cluster (struct loading *l, struct bitmap_seen *b, uint64_t index,
              uint64_t entry, uint64_t at)
{
  const uint64_t off = entry & OFFSET_MASK, first = index * l->cluster * 8;

  if ((entry & RESERVED) || (off != 0 && (entry & 1)) || off % l->cluster)
    return wrong (l, "a table entry", at);
  if (off == 0) {
    if (entry & 1)
      set_bits (b, first, l->cluster * 8);
    return true;
  }
  for (uint64_t i = 0; i < l->cluster * 8; ++i) {
    if (!has (l, off + i / 8, 1)) {
      if (first + i < b->nr_bits)
        return wrong (l, "bits past the end of the file", off);
    }
    else if (l->bytes[off + i / 8] >> i % 8 & 1) {
      if (first + i >= b->nr_bits)
        return wrong (l, "bits past the end of the disk", off);
      set_bits (b, first + i, 1);
    }
  }
  return true;
}

static bool
load_table (struct loading *l, struct bitmap_seen *b, uint64_t table,
            uint64_t entries)
{
  if (table == 0 || table % l->cluster || !has (l, table, entries * 8))
    return wrong (l, "a table", table);
  if (entries != (b->nr_bits + 8 * l->cluster - 1) / (8 * l->cluster))
    return wrong (l, "a table of another size", table);
  for (uint64_t i = 0; i < entries; ++i)
    if (!load_cluster (l, b, i, get (l, table + 8 * i, 8), table + 8 * i))
      return false;
  return true;
}

/* Returns the length of the entry, 0: it is wrong. */
static uint64_t
load_entry (struct loading *l, uint64_t at, uint64_t left)
{
  struct bitmap_seen *const b = &l->set->bitmap[l->set->nr];
  const uint64_t name_len = get (l, at + 18, 2);
  const uint64_t len = (24 + name_len + 7) / 8 * 8;
  uint64_t granularity;

  if (left < 24 || len > left || !has (l, at, len) || name_len == 0 ||
      name_len > 1023 || get (l, at + 20, 4) != 0 || get (l, at + 16, 1) != 1)
    return wrong (l, "a directory entry", at);
  memset (b, 0, sizeof *b);
  memcpy (b->name, l->bytes + at + 24, name_len);
  for (size_t i = 0; i < l->set->nr; ++i)
    if (strcmp (l->set->bitmap[i].name, b->name) == 0)
      return wrong (l, "a name for the second time", at);
  b->flags = (uint32_t) get (l, at + 12, 4);
  b->granularity_bits = (unsigned) get (l, at + 17, 1);
  if (b->flags > 3 || b->granularity_bits < 9 || b->granularity_bits > 31)
    return wrong (l, "flags or granularity", at);
  granularity = UINT64_C (1) << b->granularity_bits;
  b->nr_bits = (l->disk + granularity - 1) / granularity;
  b->bits = calloc (1, b->nr_bits / 8 + 1);
  REQUIRE (b->bits != NULL);
  l->set->nr++;
  return load_table (l, b, get (l, at, 8), get (l, at + 8, 4)) ? len : 0;
}

static void
load_directory (struct loading *l, uint64_t ext)
{
  const uint64_t nr = get (l, ext, 4), bytes = get (l, ext + 8, 8);
  const uint64_t dir = get (l, ext + 16, 8);
  uint64_t pos = 0;

  if (nr == 0 || nr > BITMAP_SET_MAX || get (l, ext + 4, 4) != 0 ||
      dir == 0 || dir % l->cluster != 0 || !has (l, dir, bytes)) {
    wrong (l, "the extension", ext);
    return;
  }
  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t len = load_entry (l, dir + pos, bytes - pos);

    if (len == 0)
      return;
    pos += len;
  }
  if (pos != bytes)
    wrong (l, "more than all entries", dir);
}

void
bitmap_set_load (struct bitmap_set *set, const unsigned char *bytes,
                 uint64_t size)
{
  struct loading l = { .set = set, .bytes = bytes, .size = size };
  uint64_t at;

  set->nr = 0;
  set->problem[0] = '\0';
  l.cluster = UINT64_C (1) << get (&l, 20, 4) % 64;
  l.disk = get (&l, 24, 8);
  if (get (&l, 0, 4) != 0x514649fb || l.cluster > 2 << 20) {
    wrong (&l, "no header", 0);
    return;
  }
  if (get (&l, 4, 4) != 3 || !(get (&l, 88, 8) & 1))
    return;
  at = get (&l, 100, 4);
  while (at + 8 <= l.cluster && get (&l, at, 4) != 0) {
    if (get (&l, at, 4) == 0x23852875)
      load_directory (&l, at + 8);
    at += 8 + (get (&l, at + 4, 4) + 7) / 8 * 8;
  }
  if (set->nr == 0)
    wrong (&l, "a bit for bitmaps, but there are none", 88);
}

void
bitmap_set_free (struct bitmap_set *set)
{
  for (size_t i = 0; i < set->nr; ++i)
    free (set->bitmap[i].bits);
  set->nr = 0;
}

void
bitmap_set_copy (struct bitmap_set *set, const struct bitmap_set *from)
{
  *set = *from;
  for (size_t i = 0; i < from->nr; ++i) {
    const size_t len = from->bitmap[i].nr_bits / 8 + 1;

    set->bitmap[i].bits = malloc (len);
    REQUIRE (set->bitmap[i].bits != NULL);
    memcpy (set->bitmap[i].bits, from->bitmap[i].bits, len);
  }
}

struct bitmap_seen *
bitmap_set_find (struct bitmap_set *set, const char *name)
{
  for (size_t i = 0; i < set->nr; ++i)
    if (strcmp (set->bitmap[i].name, name) == 0)
      return &set->bitmap[i];
  return NULL;
}

static bool
is_equal (const struct bitmap_seen *a, const struct bitmap_seen *b)
{
  return strcmp (a->name, b->name) == 0 && a->flags == b->flags &&
    a->granularity_bits == b->granularity_bits && a->nr_bits == b->nr_bits &&
    memcmp (a->bits, b->bits, a->nr_bits / 8 + 1) == 0;
}

bool
bitmap_set_equal (const struct bitmap_set *a, const struct bitmap_set *b)
{
  if (a->nr != b->nr || a->problem[0] != '\0' || b->problem[0] != '\0')
    return false;
  for (size_t i = 0; i < a->nr; ++i)
    if (!is_equal (&a->bitmap[i], &b->bitmap[i]))
      return false;
  return true;
}

/* ---- Actions ----------------------------------------------------------- */

static bool
is_set (const struct bitmap_seen *b, uint64_t guest_off)
{
  const uint64_t i = guest_off >> b->granularity_bits;

  return b->bits[i / 8] >> i % 8 & 1;
}

/* In steps of the smallest granularity. */
static void
merge (struct bitmap_seen *to, const struct bitmap_seen *from,
       uint64_t disk_size)
{
  for (uint64_t off = 0; off < disk_size; off += 512)
    if (is_set (from, off))
      set_bits (to, off >> to->granularity_bits, 1);
}

static void
add (struct bitmap_set *set, const struct qcow2_bitmap_action *a,
     uint64_t disk_size, uint64_t cluster_size)
{
  struct bitmap_seen *const b = &set->bitmap[set->nr++];
  uint64_t granularity = a->granularity;

  REQUIRE (set->nr <= BITMAP_SET_MAX);
  if (granularity == 0)
    granularity = cluster_size < 4096 ? 4096
      : cluster_size > 65536 ? 65536 : cluster_size;
  memset (b, 0, sizeof *b);
  memcpy (b->name, a->name.bytes, a->name.len);
  b->flags = a->disabled ? 0 : BITMAP_AUTO;
  b->granularity_bits = (unsigned) __builtin_ctzll (granularity);
  b->nr_bits = (disk_size + granularity - 1) / granularity;
  b->bits = calloc (1, b->nr_bits / 8 + 1);
  REQUIRE (b->bits != NULL);
}

static const struct bitmap_seen *
find_source (struct bitmap_set *set, const struct qcow2_bitmap_source *source,
             struct bitmap_set *other)
{
  char name[1024] = "";

  memcpy (name, source->name.bytes, source->name.len);
  return bitmap_set_find (source->image ? other : set, name);
}

void
bitmap_set_apply (struct bitmap_set *set,
                  const struct qcow2_bitmap_action *a, uint64_t disk_size,
                  uint64_t cluster_size, struct bitmap_set *other)
{
  char name[1024] = "";
  struct bitmap_seen *b;

  memcpy (name, a->name.bytes, a->name.len);
  b = bitmap_set_find (set, name);
  if (a->verb == QCOW2_BITMAP_ADD) {
    add (set, a, disk_size, cluster_size);
    return;
  }
  REQUIRE (b != NULL);
  switch (a->verb) {
  case QCOW2_BITMAP_ADD:
    break;
  case QCOW2_BITMAP_REMOVE:
    free (b->bits);
    memmove (b, b + 1,
             (size_t) (set->bitmap + set->nr - (b + 1)) * sizeof *b);
    set->nr--;
    break;
  case QCOW2_BITMAP_CLEAR:
    memset (b->bits, 0, b->nr_bits / 8 + 1);
    break;
  case QCOW2_BITMAP_ENABLE:
    b->flags |= BITMAP_AUTO;
    break;
  case QCOW2_BITMAP_DISABLE:
    b->flags &= ~BITMAP_AUTO;
    break;
  case QCOW2_BITMAP_MERGE:
    for (size_t i = 0; i < a->nr_sources; ++i)
      merge (b, find_source (set, &a->sources[i], other), disk_size);
    break;
  }
}

bool
bitmap_has (const struct bitmap_seen *b, uint64_t bit)
{
  return b->bits[bit / 8] >> bit % 8 & 1;
}

void
bitmap_set_note (struct bitmap_set *set, uint64_t at, uint64_t len)
{
  for (size_t i = 0; i < set->nr; ++i) {
    struct bitmap_seen *const b = &set->bitmap[i];

    if (b->flags & BITMAP_AUTO)
      for (uint64_t g = at >> b->granularity_bits;
           g <= (at + len - 1) >> b->granularity_bits; ++g)
        b->bits[g / 8] |= (unsigned char) (1u << g % 8);
  }
}

bool
bitmap_part_differs (const struct bitmap_seen *b, uint64_t bit,
                     const unsigned char *disk, const unsigned char *other,
                     uint64_t disk_size)
{
  const uint64_t at = bit << b->granularity_bits;
  const uint64_t most = UINT64_C (1) << b->granularity_bits;

  return memcmp (disk + at, other + at,
                 disk_size - at < most ? disk_size - at : most) != 0;
}

void
bitmap_set_print (const struct bitmap_set *set)
{
  printf ("  %zu bitmaps, %s\n", set->nr,
          set->problem[0] != '\0' ? set->problem : "sound");
  for (size_t i = 0; i < set->nr; ++i) {
    const struct bitmap_seen *const b = &set->bitmap[i];
    uint64_t n = 0;

    for (uint64_t bit = 0; bit < b->nr_bits; ++bit)
      n += bitmap_has (b, bit);
    printf ("  '%.40s': flags %u, granularity 2^%u, %" PRIu64 " of %" PRIu64
            " bits set\n", b->name, b->flags, b->granularity_bits, n,
            b->nr_bits);
  }
}
