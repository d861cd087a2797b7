/* SPDX-License-Identifier: BSD-3-Clause */
/* preload.c - loads the L2 tables that a scan is going to need.
 *
 * Owns      nothing; the cache keeps what is loaded.
 * Method    tables of a range that are neighbours in the file are read
 *           together, several pieces at a time.  A piece that cannot be read
 *           is met again by whoever needs it.
 * Locks     the cache's own.
 */
#include "config.h"

#include "meta/tables_impl.h"

#include "base/bits.h"
#include "base/workers.h"

/* Pieces of tables loaded in one go; a map request of 4 GiB needs 8 tables
 * of 64 KiB clusters.
 */
#define MAX_PIECES 64
#define MAX_PIECE_BYTES (UINT64_C (1) << 20)
#define MAX_PARALLEL 32

struct preload {
  struct q2_tables *tables;
  struct q2_cache *cache;       /* its present one */
  const struct q2_io *io;
  struct {
    uint64_t host_off, len;
  } pieces[MAX_PIECES];
  size_t nr;
};

static void
preload_piece (void *arg, size_t i)
{
  const struct preload *const p = arg;

  q2_cache_preload (p->cache, p->io, p->pieces[i].host_off,
                    p->pieces[i].len, true);
}

/* Returns false when there is no room for more. */
static bool
add_piece (struct preload *p, uint64_t host_off, uint64_t len)
{
  if (p->nr > 0 &&
      p->pieces[p->nr - 1].host_off + p->pieces[p->nr - 1].len == host_off &&
      p->pieces[p->nr - 1].len + len <= MAX_PIECE_BYTES) {
    p->pieces[p->nr - 1].len += len;
    return true;
  }
  if (p->nr == MAX_PIECES)
    return false;
  p->pieces[p->nr].host_off = host_off;
  p->pieces[p->nr++].len = len;
  return true;
}

/* The part of one table that maps [guest_off, end), as far as it is not in
 * the cache already.
 */
static bool
add_table (struct preload *p, uint64_t guest_off, uint64_t end)
{
  const struct q2_tables *const t = p->tables;
  const struct q2_geometry *const geo = t->geo;
  const uint64_t table = q2_tables_table_of (t, q2_l1_index (geo, guest_off));
  const size_t slice_size = q2_cache_slice_size (p->cache);
  const uint64_t unit = q2_min (Q2_SLOW_LOAD, geo->l2_table_size);
  uint64_t from, to;

  if (table == 0 || !q2_is_aligned (table, geo->table_align) ||
      table >= q2_io_size (p->io))
    return true;
  from = q2_align_down (q2_l2_index (geo, guest_off) << geo->entry_bits,
                        unit);
  to = q2_align_up ((q2_l2_index (geo, end - 1) + 1) << geo->entry_bits,
                    unit);
  while (from < to && q2_cache_contains (p->cache, table + from))
    from += slice_size;
  while (from < to) {
    const uint64_t len = q2_min (to - from, MAX_PIECE_BYTES);

    if (!add_piece (p, table + from, len))
      return false;
    from += len;
  }
  return true;
}

void
q2_tables_preload (struct q2_tables *t, const struct q2_io *io,
                   struct q2_workers *workers, uint64_t guest_off,
                   uint64_t len)
{
  const struct q2_geometry *const geo = t->geo;
  struct q2_cache *const cache = t->cache;
  const uint64_t room =
    q2_cache_capacity (cache) * q2_cache_slice_size (cache) / 2;
  const uint64_t end = guest_off + len;
  struct preload p = { .tables = t, .cache = cache, .io = io };
  uint64_t bytes = 0;

  while (guest_off < end && bytes < room) {
    const uint64_t next = q2_min
      (end, (q2_l1_index (geo, guest_off) + 1) << geo->l1_shift);

    if (!add_table (&p, guest_off, next))
      break;
    bytes += geo->l2_table_size;
    guest_off = next;
  }
  q2_workers_batch (workers, preload_piece, &p, p.nr,
                    io->host->concurrent ? MAX_PARALLEL : 1);
}
