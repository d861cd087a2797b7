/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_bits.c - the mask of a persistent bitmap.
 *
 * Owns      a bounded cache of pieces of its table and of its bits, which may
 *           have half a GiB.
 * Method    the table cache (meta/cache.h) serves for bits, too: pieces are
 *           read when they are needed, several at once on a slow host.  An
 *           entry of the table refers to a cluster of bits, or says that they
 *           are all equal.  Bit i of a cluster is bit i % 8, from the lowest,
 *           of byte i / 8.  No table that is pinned is released.  Bits are
 *           only written of enabled bitmaps, and in an epoch of the writer in
 *           which their views are stale (bits_check); until then the cache has
 *           what the file has.  A disabled one stays valid.
 *           Unlike other tables, bits must not lie past the end of the file:
 *           missing bits would read as "nothing has changed".
 * Locks     those of the cache.
 * Spec      "Bitmap table", "Bitmap data".
 */
#include "config.h"

#include "view/bitmap_view.h"

#include "meta/cache.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

#define CACHE_BYTES (UINT64_C (1) << 20)
#define LEAST_CACHE_BYTES (UINT64_C (64) << 10)
#define SLICE_SIZE 4096

/* Bytes read at once on a slow host. */
#define SLOW_LOAD (UINT64_C (64) << 10)

struct bits_mask {
  struct q2_mask mask;          /* first */
  struct qcow2_image *image;
  struct q2_bitmap bitmap;      /* its name and extra data are not valid */
  uint64_t disk_size;           /* which it is for; the disk may grow */
  uint64_t epoch;               /* of the writer, in which it is true */
  struct q2_pin pin;            /* of its table */
  struct q2_cache *cache;
  uint64_t charge;              /* for the cache, of the image's budget */
  char name[80];                /* printable */
};

/* ---- Sizes ---------------------------------------------------------- */

/* log2 of the bytes of the disk for which an entry of the table stands. */
static unsigned
entry_shift (const struct q2_geometry *geo, const struct q2_bitmap *b)
{
  return geo->cluster_bits + 3 + b->granularity_bits;
}

/* ---- Reading -------------------------------------------------------- */

/* Copy up to 'len' bytes at 'off' of an area of the file that begins at a
 * cluster and has 'size' bytes: as many as lie in one piece.  Returns their
 * number, or 0 on failure.
 */
static size_t
read_piece (struct bits_mask *m, const struct q2_io *io, uint64_t area,
            uint64_t size, uint64_t off, void *buf, size_t len,
            struct qcow2_error *err)
{
  const size_t slice_size = q2_cache_slice_size (m->cache);
  const size_t skip = off & (slice_size - 1);
  const uint64_t slice = off - skip;
  struct q2_cache_span span = { 0, slice_size, false };

  if (q2_io_is_slow (io)) {
    const uint64_t from = q2_align_down (off, SLOW_LOAD);
    const uint64_t to = q2_min (from + SLOW_LOAD,
                                q2_align_up (size, slice_size));

    span.behind = slice - from;
    span.ahead = to - slice;
  }
  len = q2_min (len, slice_size - skip);
  if (!q2_assume (len > 0 && off < q2_align_up (size, slice_size) &&
                  span.ahead >= slice_size, err))
    return 0;
  if (q2_cache_read (m->cache, io, area + off, skip, buf, len, span, err)
      == -1)
    return 0;
  return len;
}

/* A decoded entry of the table. */
struct bits {
  uint64_t host_off;            /* 0: they are all equal to 'set' */
  bool set;
};

static int
fail_entry (const struct bits_mask *m, uint64_t index, uint64_t entry,
            const char *why, struct qcow2_error *err)
{
  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REMOVE_BITMAP,
                         m->bitmap.table_offset + 8 * index,
                         "entry %" PRIu64 " of the table of bitmap '%s' is "
                         "0x%016" PRIx64 ", which %s", index, m->name, entry,
                         why);
}

/* True if the file has all bits of this cluster that the disk needs. */
static bool
is_in_file (const struct bits_mask *m, const struct q2_io *io,
            uint64_t index, uint64_t host_off)
{
  const struct q2_geometry *const geo = &m->image->geo;
  const uint64_t bytes =
    q2_ceil_shift (q2_ceil_shift (m->disk_size, m->bitmap.granularity_bits),
                   3);
  const uint64_t before = index << geo->cluster_bits;
  const uint64_t size = q2_io_size (io);

  return host_off < size &&
    q2_min (bytes - q2_min (bytes, before), geo->cluster_size)
    <= size - host_off;
}

static int
load_entry (struct bits_mask *m, const struct q2_io *io, uint64_t index,
            struct bits *ret, struct qcow2_error *err)
{
  const uint64_t size = (uint64_t) m->bitmap.table_entries * 8;
  unsigned char raw[8];
  uint64_t entry;

  if (!q2_assume (index < m->bitmap.table_entries, err))
    return -1;
  if (read_piece (m, io, m->bitmap.table_offset, size, index * 8, raw,
                  sizeof raw, err) == 0)
    return -1;
  entry = load_be64 (raw);
  *ret = (struct bits) {
    .host_off = q2_bitmap_table_cluster (entry),
    .set = entry & Q2_BITMAP_ALL_ONES,
  };
  if ((entry & Q2_BITMAP_RESERVED) || (ret->host_off != 0 && ret->set))
    return fail_entry (m, index, entry, "has bits set that must not be", err);
  if (!q2_is_aligned (ret->host_off, m->image->geo.cluster_size) ||
      (ret->host_off != 0 && !is_in_file (m, io, index, ret->host_off)))
    return fail_entry (m, index, entry, "is not the place of a cluster", err);
  return 0;
}

/* ---- Runs ----------------------------------------------------------- */

static bool
bit_at (const unsigned char *bytes, size_t i)
{
  return bytes[i / 8] >> i % 8 & 1;
}

/* The first bit after 'i' that differs from it, or 'end', a multiple of 8. */
static size_t
end_of_run (const unsigned char *bytes, size_t i, size_t end)
{
  const bool set = bit_at (bytes, i);
  const unsigned char all = set ? 0xff : 0;

  while (i < end && bit_at (bytes, i) == set)
    i += i % 8 == 0 && bytes[i / 8] == all ? 8 : 1;
  return i;
}

/* The part of the disk that is turned into runs. */
struct part {
  struct bits_mask *m;
  const struct q2_io *io;
  uint64_t guest_off, end;
  struct q2_mask_runs *runs;
};

/* Add a run up to 'guest_end'; returns false if there is no room. */
static bool
add_up_to (struct part *p, uint64_t guest_end, bool set)
{
  const uint64_t to = q2_min (guest_end, p->end);

  (void) q2_check (to > p->guest_off);
  if (!q2_mask_add (p->runs, to - p->guest_off, set))
    return false;
  p->guest_off = to;
  return true;
}

/* Add the runs of a piece of a cluster of bits.  All of these return 0, 1 if
 * there is no room for more, or -1.
 */
static int
add_piece (struct part *p, uint64_t host_off, struct qcow2_error *err)
{
  const struct q2_geometry *const geo = &p->m->image->geo;
  const unsigned granularity = p->m->bitmap.granularity_bits;
  const uint64_t in_cluster = (p->guest_off >> granularity) &
    ((UINT64_C (8) << geo->cluster_bits) - 1);
  const uint64_t nr =
    q2_ceil_shift (p->end, granularity) - (p->guest_off >> granularity);
  /* The number of the first bit that is read. */
  const uint64_t first = (p->guest_off >> granularity) - in_cluster % 8;
  unsigned char bytes[SLICE_SIZE];
  const size_t len =
    read_piece (p->m, p->io, host_off, geo->cluster_size, in_cluster / 8,
                bytes, q2_min (sizeof bytes, (in_cluster % 8 + nr + 7) / 8),
                err);
  size_t i = in_cluster % 8;

  if (len == 0)
    return -1;
  while (i < len * 8 && p->guest_off < p->end) {
    const bool set = bit_at (bytes, i);

    i = end_of_run (bytes, i, len * 8);
    if (!add_up_to (p, (first + i) << granularity, set))
      return 1;
  }
  return 0;
}

/* Add the runs of an entry of the table. */
static int
add_entry (struct part *p, struct qcow2_error *err)
{
  const unsigned shift = entry_shift (&p->m->image->geo, &p->m->bitmap);
  const uint64_t index = p->guest_off >> shift;
  const uint64_t end = q2_min ((index + 1) << shift, p->end);
  struct bits bits;
  int r = 0;

  if (load_entry (p->m, p->io, index, &bits, err) == -1)
    return -1;
  if (bits.host_off == 0)
    return !add_up_to (p, end, bits.set);
  while (r == 0 && p->guest_off < end) {
    const uint64_t before = p->guest_off;

    r = add_piece (p, bits.host_off, err);
    if (r == 0 && !q2_assume (p->guest_off > before, err))
      return -1;
  }
  return r;
}

static int
bits_runs (struct q2_mask *mask, const struct q2_io *io, uint64_t guest_off,
           uint64_t len, bool scan, struct q2_mask_runs *runs,
           struct qcow2_error *err)
{
  struct part p = {
    (struct bits_mask *) mask, io, guest_off, guest_off + len, runs
  };
  int r = 0;

  (void) scan;
  while (r == 0 && p.guest_off < p.end)
    r = add_entry (&p, err);
  return r == -1 ? -1 : 0;
}

/* ---- The mask ------------------------------------------------------- */

static int
bits_check (struct q2_mask *mask, struct qcow2_error *err)
{
  const struct bits_mask *const m = (struct bits_mask *) mask;

  if (q2_writer_disk_epoch (&m->image->writer) == m->epoch ||
      !(m->bitmap.flags & Q2_BITMAP_AUTO))
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_IO, QCOW2_ADVICE_BITMAP_READ_ONLY,
                         QCOW2_NO_OFFSET,
                         "bitmap '%s' is stale: the image has been written to "
                         "since it was opened", m->name);
}

static void
bits_free (struct q2_mask *mask)
{
  struct bits_mask *const m = (struct bits_mask *) mask;

  q2_unpin (m->image, &m->pin);
  q2_cache_free (m->cache);
  q2_budget_give (&m->image->budget, m->charge);
  free (m);
}

static const struct q2_mask_ops bits_ops = {
  .check = bits_check,
  .runs = bits_runs,
  .free = bits_free,
};

static int
check_table (const struct bits_mask *m, const struct q2_io *io,
             struct qcow2_error *err)
{
  const struct q2_bitmap *const b = &m->bitmap;
  const uint64_t end = b->table_offset + (uint64_t) b->table_entries * 8;

  if (end <= q2_align_up (q2_io_size (io), 8))
    return 0;
  return q2_fail (err, QCOW2_ERR_CORRUPT, b->table_offset,
                  "the table of bitmap '%s', of %u entries at offset 0x%"
                  PRIx64 ", does not end inside the file", m->name,
                  b->table_entries, b->table_offset);
}

struct q2_mask *
q2_bits_new (struct qcow2_image *image, const struct q2_io *io,
             const struct q2_bitmap *b, const struct q2_bitmap_moment *when,
             struct qcow2_error *err)
{
  struct bits_mask *const m = calloc (1, sizeof *m);

  if (m == NULL) {
    q2_fail_nomem (err, "a view of a bitmap");
    return NULL;
  }
  m->mask.ops = &bits_ops;
  m->image = image;
  m->bitmap = *b;
  m->bitmap.name = NULL;
  m->disk_size = when->header.virtual_size;
  m->epoch = when->epoch;
  m->bitmap.extra = NULL;
  q2_printable (m->name, sizeof m->name, b->name, b->name_len);
  m->charge = q2_budget_take_some (&image->budget, LEAST_CACHE_BYTES,
                                   CACHE_BYTES);
  if (check_table (m, io, err) == -1 ||
      (m->cache =
       q2_cache_new (m->charge, q2_min (image->geo.cluster_size,
                                          SLICE_SIZE), err)) == NULL ||
      q2_pin (image, &m->pin, Q2_PINNED_BITMAP, b->table_offset,
              when->header.number, err) == -1) {
    bits_free (&m->mask);
    return NULL;
  }
  return &m->mask;
}
