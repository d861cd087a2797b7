/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_merge.c - a bitmap from several.
 *
 * Owns      the bits of the result, a cluster of them at a time.
 * Method    the old bits and those of all sources are read side by side, from
 *           the start of the disk to its end, so memory is bounded by a
 *           cluster of bits, the new table (8 MiB at most) and a few pieces of
 *           each source.  A cluster whose bits are all alike becomes an entry
 *           without a cluster.  Bits past the end of the disk are not set.
 *
 *           A bit i of granularity 2^s covers bits [i << s >> d, ...) of
 *           granularity 2^d:
 *
 *             finer source     |x. . . .|. . . .|. x .x.|
 *             result           |   x    |       |   x   |
 *
 *             coarser source   |      x     |           |
 *             result           |  x  |  x   |     |     |
 * Locks     none of its own: the gate is closed.
 */
#include "config.h"

#include "edit/bitmaps.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"

#include <string.h>

struct merging {
  struct q2_bitmap_set *set;
  struct q2_bitmap_slot *slot;
  struct q2_bitmap_reader *readers;     /* the old bits may be the first */
  size_t nr;
  unsigned granularity;         /* log2, of the result */
  uint64_t nr_bits;             /* of all of it */

  unsigned char *bits;          /* the cluster that is being made, */
  uint64_t first, end;          /*   and which bits it has */
  unsigned char *table;         /* the new one */
};

/* ---- Bits ------------------------------------------------------------- */

/* Set bits [from, to) of the cluster. */
static void
set_range (unsigned char *bits, uint64_t from, uint64_t to)
{
  while (from < to && from % 8 != 0) {
    bits[from / 8] |= (unsigned char) (1u << from % 8);
    ++from;
  }
  memset (bits + from / 8, 0xff, to > from ? (to - from) / 8 : 0);
  if (to > from)
    from += (to - from) / 8 * 8;
  while (from < to) {
    bits[from / 8] |= (unsigned char) (1u << from % 8);
    ++from;
  }
}

/* Bits [from, to) of a source of granularity 2^s are set. */
static void
set_scaled (struct merging *m, unsigned s, uint64_t from, uint64_t to)
{
  const uint64_t first = from << s >> m->granularity;
  const uint64_t end = q2_ceil_shift (to << s, m->granularity);

  if (end > m->first && first < m->end)
    set_range (m->bits, q2_max (first, m->first) - m->first,
               q2_min (end, m->end) - m->first);
}

/* 'nr' bytes of bits that begin at bit 'from'. */
static void
add_bytes (struct merging *m, unsigned s, const unsigned char *p, uint64_t nr,
           uint64_t from)
{
  for (uint64_t i = 0; i < nr; ++i, from += 8) {
    if (p[i] == 0xff)
      set_scaled (m, s, from, from + 8);
    else if (p[i] != 0)
      for (unsigned bit = 0; bit < 8; ++bit)
        if (p[i] >> bit & 1)
          set_scaled (m, s, from + bit, from + bit + 1);
  }
}

static void
add_same (struct merging *m, const unsigned char *p, uint64_t nr,
          uint64_t from)
{
  unsigned char *const to = m->bits + (from - m->first) / 8;

  if (!q2_check (from >= m->first && (from - m->first) % 8 == 0 &&
                 (from - m->first) / 8 + nr <= m->set->geo->cluster_size))
    return;
  for (uint64_t i = 0; i < nr; ++i)
    to[i] |= p[i];
}

/* Add what a source has for the part of the disk that the cluster is for.  The
 * last bit of the result may stand for more than the disk has, and the source
 * has no table for that.
 */
static int
add_source (struct merging *m, struct q2_bitmap_reader *r,
            struct qcow2_error *err)
{
  const unsigned s = r->b.granularity_bits, d = m->granularity;
  uint64_t byte = (m->first << d >> s) / 8;
  const uint64_t end =
    q2_min (q2_ceil_shift (q2_ceil_shift (m->end << d, s), 3),
            q2_ceil_shift (r->nr_bits, 3));

  while (byte < end) {
    struct q2_bitmap_piece p;
    uint64_t nr;

    if (q2_bitmap_reader_get (r, byte, &p, err) == -1)
      return -1;
    if (!q2_assume (p.len > 0, err))
      return -1;
    nr = q2_min (p.len, end - byte);
    if (p.bytes == NULL) {
      if (p.set)
        set_scaled (m, s, byte * 8, (byte + nr) * 8);
    }
    else if (s == d)
      add_same (m, p.bytes, nr, byte * 8);
    else
      add_bytes (m, s, p.bytes, nr, byte * 8);
    byte += nr;
  }
  return 0;
}

/* ---- Clusters --------------------------------------------------------- */

/* If all bits of the cluster are alike: *ret_entry, without a cluster. */
static bool
is_uniform (const struct merging *m, uint64_t *ret_entry)
{
  const uint64_t nr = m->end - m->first, bytes = nr / 8;
  const unsigned rest = nr % 8;
  const unsigned char last = (unsigned char) ((1u << rest) - 1);

  *ret_entry = m->bits[0] & 1 ? Q2_BITMAP_ALL_ONES : 0;
  return *ret_entry
    ? q2_all_are (m->bits, 0xff, bytes) &&
      (rest == 0 || m->bits[bytes] == last)
    : q2_all_are (m->bits, 0, bytes + (rest > 0));
}

static int
make_cluster (struct merging *m, uint64_t index, struct qcow2_error *err)
{
  const uint64_t size = m->set->geo->cluster_size;
  uint64_t entry;

  m->first = index * size * 8;
  if (!q2_assume (m->first < m->nr_bits &&
                  index < m->slot->b.table_entries, err))
    return -1;
  m->end = q2_min (m->first + size * 8, m->nr_bits);
  memset (m->bits, 0, size);
  for (size_t i = 0; i < m->nr; ++i)
    if (add_source (m, &m->readers[i], err) == -1)
      return -1;
  /* What is behind the last bit of the disk. */
  if (m->end % 8 != 0)
    m->bits[(m->end - m->first) / 8] &=
      (unsigned char) ((1u << m->end % 8) - 1);
  if (!is_uniform (m, &entry) &&
      (q2_edit_alloc (m->set->edit, size, Q2_META_BITMAP_BITS, &entry, err)
       == -1 ||
       q2_edit_write (m->set->edit, m->bits, size, entry,
                      Q2_META_BITMAP_BITS, err) == -1))
    return -1;
  if (!q2_assume (q2_bitmap_table_is_valid (m->set->geo, entry), err))
    return -1;
  store_be64 (m->table + 8 * index, entry);
  return 0;
}

static int
make_clusters (struct merging *m, uint64_t total, struct qcow2_error *err)
{
  const uint64_t nr = m->slot->b.table_entries;
  uint64_t told = 0;

  for (uint64_t i = 0; i < nr; ++i) {
    const uint64_t now = (i + 1) * total / nr;

    if (make_cluster (m, i, err) == -1 ||
        q2_progress_add (&m->set->progress, now - told, Q2_BITMAPS_CANCELLED,
                         err) == -1)
      return -1;
    told = now;
  }
  return q2_assume (told == total, err) ? 0 : -1;
}

/* The new bits are complete before the old ones are dropped. */
static int
merge (struct merging *m, uint64_t total, struct qcow2_error *err)
{
  if (make_clusters (m, total, err) == -1 ||
      q2_bitmap_table_drop (m->set, m->slot, err) == -1)
    return -1;
  return q2_bitmap_table_make (m->set, m->slot, m->table, err);
}

int
q2_bitmap_merge (struct q2_bitmap_set *set, struct q2_bitmap_slot *slot,
                 struct q2_bitmap_reader *sources, size_t nr, uint64_t total,
                 struct qcow2_error *err)
{
  struct qcow2_budget *const budget = q2_io_budget (&set->edit->io);
  const uint64_t table_bytes = (uint64_t) slot->b.table_entries * 8;
  const uint64_t bytes = set->geo->cluster_size + table_bytes;
  struct merging m = {
    .set = set, .slot = slot, .readers = sources, .nr = nr,
    .granularity = slot->b.granularity_bits,
    .nr_bits = q2_bitmap_nr_bits (set->geo, &slot->b),
  };
  int r;

  if (!q2_assume (slot->b.table_entries ==
                  q2_bitmap_nr_entries (set->geo, &slot->b), err) ||
      q2_budget_take (budget, bytes, "merging bitmaps", err) == -1)
    return -1;
  m.bits = q2_buffer_alloc (bytes);
  if (m.bits == NULL)
    r = q2_fail_nomem (err, "merging bitmaps");
  else {
    m.table = m.bits + set->geo->cluster_size;
    r = merge (&m, total, err);
  }
  q2_buffer_free (m.bits, bytes);
  q2_budget_give (budget, bytes);
  return r;
}
