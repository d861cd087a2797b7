/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap.c - entries of the bitmap directory, from bytes and back.
 *
 * Owns      the layout of an entry and its limits.
 * Method    checks lengths first, as 64 bit sums of smaller fields, then every
 *           field against its limit.
 * Locks     none; pure.
 * Spec      "Bitmap directory".
 */
#include "config.h"

#include "format/bitmap.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <string.h>

#define TYPE_DIRTY_TRACKING 1

/* The fault of an entry that is long enough, or NULL. */
static const char *
find_problem (const struct q2_geometry *geo, const struct q2_bitmap *b,
              unsigned type)
{
  if (b->table_offset == 0 ||
      !q2_is_aligned (b->table_offset, geo->cluster_size) ||
      b->table_offset > INT64_MAX - (uint64_t) Q2_BITMAP_MAX_TABLE * 8)
    return "its table is where no table can be";
  if (b->table_entries == 0 || b->table_entries > Q2_BITMAP_MAX_TABLE)
    return "its table is empty or too large";
  if (b->table_entries > Q2_BITMAP_MAX_BYTES >> geo->cluster_bits)
    return "it has too many bits";
  if (b->flags & ~Q2_BITMAP_KNOWN_FLAGS)
    return "it has unknown flags";
  if (type != TYPE_DIRTY_TRACKING)
    return "its type is unknown";
  if (b->granularity_bits < Q2_BITMAP_MIN_GRANULARITY_BITS ||
      b->granularity_bits > Q2_BITMAP_MAX_GRANULARITY_BITS)
    return "its granularity is out of range";
  if (b->name_len == 0 || b->name_len > Q2_BITMAP_MAX_NAME)
    return "its name is empty or too long";
  return NULL;
}

int
q2_bitmap_decode (const struct q2_geometry *geo, const void *bytes,
                  size_t len, uint64_t host_off,
                  struct q2_bitmap *ret_bitmap, struct qcow2_error *err)
{
  const unsigned char *const p = bytes;
  const char *problem = "it does not end inside the directory";
  struct q2_bitmap b;
  uint64_t packed;

  if (len < Q2_BITMAP_FIXED)
    goto broken;
  b = (struct q2_bitmap) {
    .table_offset = load_be64 (p), .table_entries = load_be32 (p + 8),
    .flags = load_be32 (p + Q2_BITMAP_FLAGS_OFF),
    .granularity_bits = p[17], .name_len = load_be16 (p + 18),
    .extra_len = load_be32 (p + 20),
  };
  packed = (uint64_t) Q2_BITMAP_FIXED + b.extra_len + b.name_len;
  b.entry_len = q2_align_up (packed, 8);
  if (b.entry_len > len)
    goto broken;
  problem = find_problem (geo, &b, p[16]);
  if (problem != NULL)
    goto broken;
  b.extra = p + Q2_BITMAP_FIXED;
  b.name = (const char *) b.extra + b.extra_len;
  *ret_bitmap = b;
  return 0;

 broken:
  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REMOVE_BROKEN,
                         host_off,
                         "the bitmap directory entry at offset 0x%" PRIx64
                         " is broken: %s", host_off, problem);
}

uint64_t
q2_bitmap_entry_len (const struct q2_bitmap *b)
{
  return q2_align_up ((uint64_t) Q2_BITMAP_FIXED + b->extra_len + b->name_len,
                      8);
}

void
q2_bitmap_encode (const struct q2_bitmap *b, unsigned char *p)
{
  (void) q2_check (b->granularity_bits < 64 && b->name_len > 0);
  memset (p, 0, q2_bitmap_entry_len (b));
  store_be64 (p, b->table_offset);
  store_be32 (p + 8, b->table_entries);
  store_be32 (p + Q2_BITMAP_FLAGS_OFF, b->flags);
  p[16] = TYPE_DIRTY_TRACKING;
  p[17] = (unsigned char) b->granularity_bits;
  store_be16 (p + 18, b->name_len);
  store_be32 (p + 20, b->extra_len);
  if (b->extra_len > 0)
    memcpy (p + Q2_BITMAP_FIXED, b->extra, b->extra_len);
  memcpy (p + Q2_BITMAP_FIXED + b->extra_len, b->name, b->name_len);
}
