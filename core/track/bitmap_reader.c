/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_reader.c - the bits of a bitmap, piece by piece.
 *
 * Owns      a piece of the table and a piece of the bits, at most 68 KiB
 *           together, however large the bitmap is.
 * Method    a piece is read when it is asked for and kept until another one
 *           is.  Entries are checked as in view/bitmap_bits.c; a bit must lie
 *           in the file, or a part that is missing would read as unchanged.
 * Locks     none of its own; one thread.
 * Spec      "Bitmap table", "Bitmap data".
 */
#include "config.h"

#include "track/bitmap_reader.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

#define TABLE_PIECE 4096
#define BITS_PIECE (UINT64_C (64) << 10)
#define NO_INDEX UINT64_MAX

static uint64_t
bits_piece (const struct q2_bitmap_reader *r)
{
  return q2_min (r->geo->cluster_size, BITS_PIECE);
}

static int
check_table (const struct q2_bitmap_reader *r, struct qcow2_error *err)
{
  const struct q2_bitmap *const b = &r->b;
  const uint64_t size = q2_align_up (q2_io_size (&r->io), 8);

  if (b->table_offset <= size &&
      (uint64_t) b->table_entries * 8 <= size - b->table_offset)
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REMOVE_BITMAP,
                         b->table_offset,
                         "the table of bitmap '%s', of %u entries at offset "
                         "0x%" PRIx64 ", does not end inside the file",
                         r->name, b->table_entries, b->table_offset);
}

/* The disk may grow while this is read, if it is another image's. */
static uint64_t
nr_bits (const struct q2_geometry *geo, const struct q2_bitmap *b)
{
  return q2_min (q2_bitmap_nr_bits (geo, b),
                 (uint64_t) b->table_entries << (geo->cluster_bits + 3));
}

int
q2_bitmap_reader_init (struct q2_bitmap_reader *r,
                       const struct q2_geometry *geo, const struct q2_io *io,
                       const struct q2_bitmap *b, struct qcow2_error *err)
{
  const uint64_t bytes = TABLE_PIECE + q2_min (geo->cluster_size, BITS_PIECE);

  *r = (struct q2_bitmap_reader) {
    .geo = geo, .io = *io, .b = *b, .table_index = NO_INDEX,
    .nr_bits = nr_bits (geo, b),
  };
  q2_printable (r->name, sizeof r->name, b->name, b->name_len);
  if (check_table (r, err) == -1 ||
      q2_budget_take (q2_io_budget (io), bytes, "reading a bitmap", err)
      == -1)
    return -1;
  r->charge = bytes;
  r->table = malloc (bytes);
  if (r->table == NULL) {
    q2_bitmap_reader_destroy (r);
    return q2_fail_nomem (err, "reading a bitmap");
  }
  r->bits = r->table + TABLE_PIECE;
  return 0;
}

void
q2_bitmap_reader_init_memory (struct q2_bitmap_reader *r,
                              const struct q2_geometry *geo,
                              const struct q2_io *io,
                              const struct q2_bitmap *b,
                              const unsigned char *bits, uint64_t len)
{
  *r = (struct q2_bitmap_reader) {
    .geo = geo, .io = *io, .b = *b, .nr_bits = nr_bits (geo, b),
    .memory = bits, .memory_len = len,
  };
}

void
q2_bitmap_reader_destroy (struct q2_bitmap_reader *r)
{
  free (r->table);
  q2_budget_give (q2_io_budget (&r->io), r->charge);
  r->table = r->bits = NULL;
  r->charge = 0;
}

static int
load_entry (struct q2_bitmap_reader *r, uint64_t index, uint64_t *ret_entry,
            struct qcow2_error *err)
{
  const uint64_t first = q2_align_down (index, TABLE_PIECE / 8);

  if (!q2_assume (index < r->b.table_entries, err))
    return -1;
  if (r->table_index != first) {
    const uint64_t len = (uint64_t) r->b.table_entries * 8 - first * 8;

    r->table_index = NO_INDEX;
    if (q2_io_read (&r->io, r->table, q2_min (len, TABLE_PIECE),
                    r->b.table_offset + first * 8, QCOW2_IO_HEADER, err)
        == -1)
      return -1;
    r->table_index = first;
  }
  *ret_entry = load_be64 (r->table + (index - first) * 8);
  if (q2_bitmap_table_is_valid (r->geo, *ret_entry))
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REMOVE_BITMAP,
                         r->b.table_offset + 8 * index,
                         "entry %" PRIu64 " of the table of bitmap '%s' is "
                         "0x%016" PRIx64 ", which breaks the rules", index,
                         r->name, *ret_entry);
}

/* The file has the bits of this piece that the disk needs. */
static int
check_in_file (const struct q2_bitmap_reader *r, uint64_t off,
               uint64_t host_off, struct qcow2_error *err)
{
  const uint64_t bytes = q2_ceil_shift (r->nr_bits, 3);
  const uint64_t need = q2_min (bytes - q2_min (bytes, off), bits_piece (r));
  const uint64_t size = q2_io_size (&r->io);

  if (host_off < size && need <= size - host_off)
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REMOVE_BITMAP,
                         host_off,
                         "bits of bitmap '%s', at offset 0x%" PRIx64 ", are "
                         "not in the file", r->name, host_off);
}

static int
load_bits (struct q2_bitmap_reader *r, uint64_t off, uint64_t host_off,
           struct qcow2_error *err)
{
  if (check_in_file (r, off, host_off, err) == -1)
    return -1;
  if (r->bits_off == host_off)
    return 0;
  r->bits_off = 0;
  if (q2_io_read (&r->io, r->bits, bits_piece (r), host_off, QCOW2_IO_HEADER,
                  err) == -1)
    return -1;
  r->bits_off = host_off;
  return 0;
}

int
q2_bitmap_reader_get (struct q2_bitmap_reader *r, uint64_t off,
                      struct q2_bitmap_piece *ret, struct qcow2_error *err)
{
  const uint64_t in_cluster = off & (r->geo->cluster_size - 1);
  const uint64_t in_piece = off & (bits_piece (r) - 1);
  uint64_t entry, host_off;

  if (r->memory != NULL) {
    if (!q2_assume (off < r->memory_len, err))
      return -1;
    *ret = (struct q2_bitmap_piece) {
      .bytes = r->memory + off, .len = r->memory_len - off,
    };
    return 0;
  }
  if (load_entry (r, off >> r->geo->cluster_bits, &entry, err) == -1)
    return -1;
  host_off = q2_bitmap_table_cluster (entry);
  if (host_off == 0) {
    *ret = (struct q2_bitmap_piece) {
      .set = entry & Q2_BITMAP_ALL_ONES,
      .len = r->geo->cluster_size - in_cluster,
    };
    return 0;
  }
  if (load_bits (r, off - in_piece, host_off + in_cluster - in_piece, err)
      == -1)
    return -1;
  *ret = (struct q2_bitmap_piece) {
    .bytes = r->bits + in_piece, .len = bits_piece (r) - in_piece,
  };
  return q2_assume (ret->len > 0, err) ? 0 : -1;
}
