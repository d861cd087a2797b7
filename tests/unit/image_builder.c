/* SPDX-License-Identifier: BSD-3-Clause */
/* image_builder.c - makes the images of most unit tests.
 *
 * Owns      the layout: header, L1 table, then everything in the order of the
 *           calls, refcounts at the end.
 * Method    one growing byte array; tables are edited in place.  Aborts
 *           without memory: it is a test.
 * Locks     none.
 * Spec      the whole of "Header", "Reference counts", "Cluster mapping".
 */
#include "config.h"

#include "image_builder.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#ifdef HAVE_ZLIB
#include <zlib.h>
#endif
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#define COPIED (UINT64_C (1) << 63)
#define OFFSET UINT64_C (0x00fffffffffffe00)
#define COMPRESSED (UINT64_C (1) << 62)
#define V1_COMPRESSED (UINT64_C (1) << 63)

/* ---- Bytes ----------------------------------------------------------- */

static void *
need (void *p)
{
  if (p == NULL)
    abort ();
  return p;
}

static void
put (struct image_builder *b, uint64_t off, unsigned len, uint64_t v)
{
  put_be (b->bytes + off, len, v);
}

static uint64_t
get (const struct image_builder *b, uint64_t off, unsigned len)
{
  uint64_t v = 0;

  while (len-- > 0)
    v = v << 8 | b->bytes[off++];
  return v;
}

void
builder_put (struct image_builder *b, uint64_t host_off, unsigned len,
             uint64_t value)
{
  put (b, host_off, len, value);
}

uint64_t
builder_get (const struct image_builder *b, uint64_t host_off, unsigned len)
{
  return get (b, host_off, len);
}

uint64_t
builder_alloc (struct image_builder *b, uint64_t n)
{
  const uint64_t off = b->size;
  const uint64_t end = off + n * b->cluster_size;

  if (end > b->room) {
    b->room = end + end / 2;
    b->bytes = need (realloc (b->bytes, b->room));
  }
  memset (b->bytes + off, 0, end - off);
  b->size = end;
  return off;
}

static uint64_t
div_up (uint64_t a, uint64_t b)
{
  return a / b + (a % b != 0);
}

/* ---- Header ---------------------------------------------------------- */

static void
write_v1_header (struct image_builder *b)
{
  put (b, 0, 4, 0x514649fb);
  put (b, 4, 4, 1);
  put (b, 24, 8, b->spec.virtual_size);
  put (b, 32, 1, b->spec.cluster_bits);
  put (b, 33, 1, b->spec.l2_bits);
  put (b, 40, 8, b->l1_off);
}

static void
write_header (struct image_builder *b)
{
  put (b, 0, 4, 0x514649fb);
  put (b, 4, 4, b->spec.version);
  put (b, 20, 4, b->spec.cluster_bits);
  put (b, 24, 8, b->spec.virtual_size);
  put (b, 36, 4, b->l1_entries);
  put (b, 40, 8, b->l1_off);
  if (b->spec.version < 3)
    return;
  put (b, 72, 8, (b->spec.zstd ? 8 : 0) | (b->spec.extended_l2 ? 16 : 0));
  put (b, 96, 4, b->spec.refcount_order);
  put (b, 100, 4, 112);
  put (b, 104, 1, b->spec.zstd);
}

void
builder_init (struct image_builder *b, const struct image_spec *spec)
{
  uint64_t l1_span;

  memset (b, 0, sizeof *b);
  b->spec = *spec;
  b->cluster_size = UINT64_C (1) << spec->cluster_bits;
  b->l2_entry_size = spec->extended_l2 ? 16 : 8;
  b->nr_l2_entries = spec->version == 1 ? UINT64_C (1) << spec->l2_bits
    : b->cluster_size / b->l2_entry_size;
  l1_span = b->nr_l2_entries * b->cluster_size;
  b->l1_entries = div_up (spec->virtual_size, l1_span);

  if (spec->version == 1) {
    b->l1_off = 48;
    builder_alloc (b, div_up (48 + 8 * b->l1_entries, b->cluster_size));
    write_v1_header (b);
    return;
  }
  builder_alloc (b, 1);
  b->l1_off = builder_alloc (b, div_up (8 * b->l1_entries,
                                        b->cluster_size));
  write_header (b);
}

void
builder_free (struct image_builder *b)
{
  free (b->bytes);
  b->bytes = NULL;
}

void
builder_extension (struct image_builder *b, uint32_t type, const void *data,
                   uint32_t len)
{
  uint64_t off = b->spec.version == 3 ? get (b, 100, 4) : 72;

  while (get (b, off, 4) != 0)
    off += 8 + (get (b, off + 4, 4) + 7) / 8 * 8;
  put (b, off, 4, type);
  put (b, off + 4, 4, len);
  memcpy (b->bytes + off + 8, data, len);
}

/* ---- Entries --------------------------------------------------------- */

static uint64_t
table_of (const struct image_builder *b, uint64_t guest_cluster)
{
  const uint64_t l1e =
    get (b, b->l1_off + 8 * (guest_cluster / b->nr_l2_entries), 8);

  return b->spec.version == 1 ? l1e : l1e & OFFSET;
}

uint64_t
builder_entry_off (const struct image_builder *b, uint64_t guest_cluster)
{
  const uint64_t table = table_of (b, guest_cluster);

  return table == 0 ? 0
    : table + guest_cluster % b->nr_l2_entries * b->l2_entry_size;
}

/* A table that may be changed: new, or a copy. */
static void
own_table (struct image_builder *b, uint64_t guest_cluster)
{
  const uint64_t old = table_of (b, guest_cluster);
  const uint64_t bytes = b->nr_l2_entries * b->l2_entry_size;
  uint64_t table;

  if (old != 0 && old >= b->frozen)
    return;
  table = builder_alloc (b, div_up (bytes, b->cluster_size));
  if (old != 0)
    memcpy (b->bytes + table, b->bytes + old, bytes);
  put (b, b->l1_off + 8 * (guest_cluster / b->nr_l2_entries), 8,
       b->spec.version == 1 ? table : table | COPIED);
}

void
builder_set_entry (struct image_builder *b, uint64_t guest_cluster,
                   uint64_t descriptor, uint64_t bitmap)
{
  uint64_t off;

  own_table (b, guest_cluster);
  off = builder_entry_off (b, guest_cluster);
  put (b, off, 8, descriptor);
  if (b->spec.extended_l2)
    put (b, off + 8, 8, bitmap);
}

void
builder_get_entry (const struct image_builder *b, uint64_t guest_cluster,
                   uint64_t *ret_descriptor, uint64_t *ret_bitmap)
{
  const uint64_t off = builder_entry_off (b, guest_cluster);

  *ret_descriptor = off ? get (b, off, 8) : 0;
  *ret_bitmap = off && b->spec.extended_l2 ? get (b, off + 8, 8) : 0;
}

/* ---- Clusters -------------------------------------------------------- */

static uint64_t
copied (const struct image_builder *b, uint64_t host_off)
{
  return b->spec.version == 1 ? host_off : host_off | COPIED;
}

uint64_t
builder_data (struct image_builder *b, uint64_t guest_cluster,
              const void *cluster)
{
  const uint64_t host_off = builder_alloc (b, 1);

  memcpy (b->bytes + host_off, cluster, b->cluster_size);
  builder_set_entry (b, guest_cluster, copied (b, host_off), UINT32_MAX);
  return host_off;
}

void
builder_zero (struct image_builder *b, uint64_t guest_cluster,
              bool keep_space)
{
  const uint64_t descriptor =
    keep_space ? copied (b, builder_alloc (b, 1)) : 0;

  if (keep_space)               /* what must not be seen */
    memset (b->bytes + (descriptor & OFFSET), 0x5a, b->cluster_size);
  if (b->spec.extended_l2)
    builder_set_entry (b, guest_cluster, descriptor,
                       UINT64_C (0xffffffff) << 32);
  else
    builder_set_entry (b, guest_cluster, descriptor | 1, 0);
}

uint64_t
builder_subclusters (struct image_builder *b, uint64_t guest_cluster,
                     uint32_t alloc, uint32_t zero, bool keep_space,
                     const void *cluster)
{
  const uint64_t host_off =
    alloc || keep_space ? builder_alloc (b, 1) : 0;

  if (host_off)
    memcpy (b->bytes + host_off, cluster, b->cluster_size);
  builder_set_entry (b, guest_cluster,
                     host_off ? copied (b, host_off) : 0,
                     (uint64_t) zero << 32 | alloc);
  return host_off;
}

/* The stream's length, 0 if it would not be shorter. */
static uint64_t
deflate_cluster (const struct image_builder *b, const void *cluster,
                 void *out)
{
#ifdef HAVE_ZLIB
  z_stream zs = { 0 };
  int r;

  if (deflateInit2 (&zs, 1, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY) != Z_OK)
    abort ();
  zs.next_in = (void *) (uintptr_t) cluster;
  zs.avail_in = (uInt) b->cluster_size;
  zs.next_out = out;
  zs.avail_out = (uInt) b->cluster_size - 1;
  r = deflate (&zs, Z_FINISH);
  deflateEnd (&zs);
  return r == Z_STREAM_END ? zs.total_out : 0;
#else
  (void) b; (void) cluster; (void) out;
  return 0;
#endif
}

static uint64_t
zstd_cluster (const struct image_builder *b, const void *cluster, void *out)
{
#ifdef HAVE_ZSTD
  const size_t n =
    ZSTD_compress (out, b->cluster_size - 1, cluster, b->cluster_size, 1);

  return ZSTD_isError (n) ? 0 : n;
#else
  (void) b; (void) cluster; (void) out;
  return 0;
#endif
}

/* Room for a stream: behind the last one where that is possible. */
static uint64_t
place_stream (struct image_builder *b, uint64_t len)
{
  const bool share = b->spec.version == 1 || b->spec.refcount_order >= 4;
  uint64_t off;

  if (!share || b->packed_end - b->packed_off < len) {
    const uint64_t more = builder_alloc (b, 1);

    if (!share || more != b->packed_end)
      b->packed_off = more;
    b->packed_end = more + b->cluster_size;
  }
  off = b->packed_off;
  b->packed_off += len;
  return off;
}

bool
builder_compressed (struct image_builder *b, uint64_t guest_cluster,
                    const void *cluster, uint64_t *ret_host_off,
                    uint64_t *ret_csize)
{
  unsigned char *const stream = need (malloc (b->cluster_size));
  const uint64_t len = b->spec.zstd ? zstd_cluster (b, cluster, stream)
    : deflate_cluster (b, cluster, stream);
  uint64_t off;

  if (len == 0) {
    free (stream);
    return false;
  }
  off = place_stream (b, len);
  memcpy (b->bytes + off, stream, len);
  free (stream);
  *ret_host_off = off;
  if (b->spec.version == 1) {
    *ret_csize = len;
    builder_set_entry (b, guest_cluster, V1_COMPRESSED |
                       len << (63 - b->spec.cluster_bits) | off, 0);
  }
  else {
    const uint64_t sectors = (off + len - 1) / 512 - off / 512;

    *ret_csize = (sectors + 1) * 512 - off % 512;
    builder_set_entry (b, guest_cluster, COMPRESSED |
                       sectors << (70 - b->spec.cluster_bits) | off, 0);
  }
  return true;
}

/* ---- Refcounts ------------------------------------------------------- */

static void
count_range (const struct image_builder *b, uint64_t *counts, uint64_t off,
             uint64_t len)
{
  for (uint64_t c = off / b->cluster_size;
       c <= (off + len - 1) / b->cluster_size; ++c)
    counts[c]++;
}

static void
count_table (const struct image_builder *b, uint64_t *counts, uint64_t table)
{
  const unsigned shift = 70 - b->spec.cluster_bits;

  count_range (b, counts, table, b->cluster_size);
  for (uint64_t i = 0; i < b->nr_l2_entries; ++i) {
    const uint64_t e = get (b, table + i * b->l2_entry_size, 8);

    if (e & COMPRESSED) {
      const uint64_t off = e & ((UINT64_C (1) << shift) - 1);
      const uint64_t sectors = (e & ~COMPRESSED & ~COPIED) >> shift;

      count_range (b, counts, off, (sectors + 1) * 512 - off % 512);
    }
    else if (e & OFFSET)
      count_range (b, counts, e & OFFSET, b->cluster_size);
  }
}

static void
count_l1 (const struct image_builder *b, uint64_t *counts, uint64_t l1_off,
          uint64_t entries)
{
  for (uint64_t i = 0; i < entries; ++i) {
    const uint64_t l2 = get (b, l1_off + 8 * i, 8) & OFFSET;

    if (l2)
      count_table (b, counts, l2);
  }
}

static void
count_extra (const struct image_builder *b, uint64_t *counts)
{
  for (size_t i = 0; i < b->nr_extra; ++i) {
    const struct builder_extra *const e = &b->extra[i];

    if (e->len > 0)
      count_range (b, counts, e->host_off, e->len);
    count_l1 (b, counts, e->host_off, e->l1_entries);
  }
}

/* What is shared must not be written in place. */
static void
clear_copied (struct image_builder *b, const uint64_t *counts, uint64_t off)
{
  const uint64_t e = get (b, off, 8);

  if (!(e & COMPRESSED) && (e & OFFSET) &&
      counts[(e & OFFSET) / b->cluster_size] > 1)
    put (b, off, 8, e & ~COPIED);
}

static void
clear_all_copied (struct image_builder *b, const uint64_t *counts)
{
  for (uint64_t i = 0; i < b->l1_entries; ++i) {
    const uint64_t l2 = get (b, b->l1_off + 8 * i, 8) & OFFSET;

    clear_copied (b, counts, b->l1_off + 8 * i);
    for (uint64_t j = 0; l2 != 0 && j < b->nr_l2_entries; ++j)
      clear_copied (b, counts, l2 + j * b->l2_entry_size);
  }
}

static void
put_refcount (struct image_builder *b, uint64_t blocks, uint64_t idx,
              uint64_t v)
{
  const unsigned width = 1u << b->spec.refcount_order;

  if (width >= 8)
    put (b, blocks + idx * width / 8, width / 8, v);
  else
    b->bytes[blocks + idx * width / 8] |=
      (unsigned char) (v << idx * width % 8);
}

void
builder_finish (struct image_builder *b)
{
  uint64_t used, per_block, nr_blocks = 0, nr_table = 0, before;
  uint64_t table, blocks, total;
  uint64_t *counts;

  if (b->spec.version == 1)
    return;
  if (b->spec.version == 2)
    b->spec.refcount_order = 4;

  used = b->size / b->cluster_size;
  per_block = b->cluster_size * 8 >> b->spec.refcount_order;
  do {                          /* refcounts cover themselves */
    before = nr_blocks + nr_table;
    nr_blocks = div_up (used + before, per_block);
    nr_table = div_up (nr_blocks * 8, b->cluster_size);
  } while (nr_blocks + nr_table != before);
  table = builder_alloc (b, nr_table);
  blocks = builder_alloc (b, nr_blocks);
  total = used + nr_blocks + nr_table;

  counts = need (calloc (total, sizeof *counts));
  count_range (b, counts, 0, b->cluster_size);
  if (b->l1_entries > 0)
    count_range (b, counts, b->l1_off, 8 * b->l1_entries);
  count_range (b, counts, table, (nr_table + nr_blocks) * b->cluster_size);
  count_l1 (b, counts, b->l1_off, b->l1_entries);
  count_extra (b, counts);
  if (b->frozen > 0)
    clear_all_copied (b, counts);
  for (uint64_t i = 0; i < total; ++i)
    if (counts[i])
      put_refcount (b, blocks, i, counts[i]);
  for (uint64_t i = 0; i < nr_blocks; ++i)
    put (b, table + 8 * i, 8, blocks + i * b->cluster_size);
  put (b, 48, 8, table);
  put (b, 56, 4, nr_table);
  free (counts);
}
