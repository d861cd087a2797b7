/* SPDX-License-Identifier: BSD-3-Clause */
/* tables.c - residency of the L1 table, and L2 entries by index.
 *
 * Owns      the L1 table, whole in memory (at most 32 MiB, and no more than
 *           the file holds of it), and the cache of L2 slices.  The memory of
 *           both is the image's: see base/budget.h.
 * Method    an L2 lookup is an array access and a cache lookup.  On a miss
 *           the slice is read, or as much of the table as the caller is
 *           going to ask for.
 *           Changed L1 entries are written a sector of the table at a time.
 * Locks     L1 entries are read without a lock, by atomic loads; those who
 *           change entries hold a lock of theirs.  The rest is the cache's
 *           business.
 */
#include "config.h"

#include "meta/tables.h"

#include "format/l2e.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Small enough that a terabyte of scattered clusters fits in the default
 * cache, large enough that its bookkeeping is small beside it and that a
 * slice maps 32 MiB of 64 KiB clusters.
 */
#define SLICE_SIZE 4096

/* What is read at once from a table on a slow host; a whole table of 64 KiB
 * clusters.
 */
#define SLOW_LOAD (UINT64_C (64) << 10)

/* L1 entries written at once. */
#define L1_SECTOR 64

/* Larger L1 tables are asked for holes first: that costs a request, and a
 * small file can claim many of them.
 */
#define ASK_FOR_HOLES (UINT64_C (512) << 10)
#define L1_PAGE UINT64_C (4096)

/* What a view gets for its cache in any case. */
#define LEAST_CACHE (UINT64_C (64) << 10)

struct q2_tables {
  const struct q2_geometry *geo;
  uint64_t *l1;                 /* in CPU byte order; atomic */
  uint32_t l1_entries;
  uint32_t l1_stored;           /* of these: are in the file */
  uint64_t l1_host_off;
  bool *l1_dirty;               /* by sector of the table */
  bool *l1_solid;               /* the same: the host has room for it */
  size_t nr_l1_dirty;
  struct q2_cache *cache;
  struct qcow2_budget *budget;  /* or NULL */
  uint64_t l1_charge, cache_charge;     /* taken from it */
};

/* Entries [from, to), which are in the file, perhaps but for a part of the
 * last one.
 */
static int
read_entries (struct q2_tables *t, const struct q2_io *io, uint64_t *l1,
              uint64_t from, uint64_t to, struct qcow2_error *err)
{
  const uint64_t bytes = (to - from) * 8;
  const uint64_t charge = bytes < L1_PAGE ? bytes
    : q2_align_up (bytes, L1_PAGE) + L1_PAGE;

  if (q2_budget_take (t->budget, charge, "an L1 table", err) == -1)
    return -1;
  t->l1_charge += charge;
  if (q2_io_read (io, l1 + from, bytes, t->l1_host_off + from * 8,
                  QCOW2_IO_L1, err) == -1)
    return -1;
  for (uint64_t i = from; i < to; ++i)
    l1[i] = load_be64 (&l1[i]);
  return 0;
}

/* Read the L1 table into 'l1', which is all zeros and takes no memory where
 * nothing is read: where the file has none of it, and its holes.
 */
static int
read_l1 (struct q2_tables *t, const struct q2_io *io, uint64_t *l1,
         struct qcow2_error *err)
{
  const uint64_t bytes = (uint64_t) t->l1_stored * 8;
  const uint64_t size = q2_io_size (io);
  const uint64_t at = t->l1_host_off;
  const uint64_t inside = at < size
    ? q2_min (bytes, q2_align_up (size - at, 8)) : 0;
  uint64_t done = 0;

  if (inside < ASK_FOR_HOLES)
    return read_entries (t, io, l1, 0, inside / 8, err);
  while (done < inside) {
    uint64_t start, end;

    q2_io_next_data (io, at + done, at + inside, &start, &end);
    done = q2_min (q2_align_up (end - at, 8), inside);
    if (read_entries (t, io, l1, (start - at) / 8, done / 8, err) == -1)
      return -1;
  }
  return 0;
}

static int
load_l1 (struct q2_tables *t, const struct q2_io *io, struct qcow2_error *err)
{
  /* calloc, and only reading what the file has, keeps a table that a
   * hostile header declares from taking memory.
   */
  t->l1 = calloc (t->l1_entries + 1, 8);
  if (t->l1 == NULL)
    return q2_fail_nomem (err, "the L1 table");
  return read_l1 (t, io, t->l1, err);
}

static int
make_cache (struct q2_tables *t, uint64_t most, struct qcow2_error *err)
{
  t->cache_charge =
    q2_budget_take_some (t->budget, q2_min (LEAST_CACHE, most), most);
  t->cache = q2_cache_new (t->cache_charge,
                           q2_min (t->geo->l2_table_size, SLICE_SIZE), err);
  return t->cache ? 0 : -1;
}

/* No more than what all L2 tables of the disk take together, and as much
 * again, so that they all fit although slices do not spread evenly.
 */
static uint64_t
useful_cache_bytes (const struct q2_geometry *geo, uint64_t cache_bytes)
{
  return q2_min (cache_bytes, 2 * q2_max (geo->l1_needed, 1) *
                 geo->l2_table_size);
}

struct q2_tables *
q2_tables_new (const struct q2_geometry *geo, const struct q2_io *io,
               uint64_t l1_host_off, uint32_t l1_entries,
               uint64_t cache_bytes, struct qcow2_error *err)
{
  struct q2_tables *t;

  if (!q2_assume ((uint64_t) l1_entries * 8 <= Q2_MAX_L1_BYTES, err))
    return NULL;
  t = calloc (1, sizeof *t);
  if (t == NULL) {
    q2_fail_nomem (err, "the L1 table");
    return NULL;
  }
  t->geo = geo;
  t->budget = q2_io_budget (io);
  /* Entries past the disk (saved VM state) are not ours to read. */
  t->l1_entries = (uint32_t) geo->l1_needed;
  t->l1_stored = (uint32_t) q2_min (l1_entries, t->l1_entries);
  t->l1_host_off = l1_host_off;
  t->l1_dirty = calloc (t->l1_entries / L1_SECTOR + 1, sizeof (bool));
  t->l1_solid = calloc (t->l1_entries / L1_SECTOR + 1, sizeof (bool));
  if (t->l1_dirty == NULL || t->l1_solid == NULL) {
    q2_fail_nomem (err, "the L1 table");
    goto fail;
  }
  if (load_l1 (t, io, err) == -1)
    goto fail;
  if (make_cache (t, useful_cache_bytes (geo, cache_bytes), err) == -1)
    goto fail;
  return t;

 fail:
  q2_tables_free (t);
  return NULL;
}

void
q2_tables_free (struct q2_tables *t)
{
  if (t == NULL)
    return;
  q2_cache_free (t->cache);
  q2_budget_give (t->budget, t->l1_charge + t->cache_charge);
  free (t->l1);
  free (t->l1_dirty);
  free (t->l1_solid);
  free (t);
}

const struct q2_geometry *
q2_tables_geometry (const struct q2_tables *t)
{
  return t->geo;
}

uint64_t
q2_tables_l1_entry (const struct q2_tables *t, uint64_t l1_index)
{
  if (!q2_check (l1_index < t->l1_entries))
    return 0;
  /* Whoever sees an entry also sees what was put into its table before. */
  return __atomic_load_n (&t->l1[l1_index], __ATOMIC_ACQUIRE);
}

static uint64_t
table_of (const struct q2_tables *t, uint64_t l1_index)
{
  return q2_l1e_table (t->geo, q2_tables_l1_entry (t, l1_index));
}

bool
q2_tables_l1_is_empty (const struct q2_tables *t, uint64_t l1_index)
{
  return table_of (t, l1_index) == 0;
}

uint64_t
q2_tables_l2_entry_off (const struct q2_tables *t, uint64_t l1_index,
                        uint64_t l2_index)
{
  return table_of (t, l1_index) + (l2_index << t->geo->entry_bits);
}

/* What to read when the slice at 'slice_off' of a table is missing and the
 * caller is going to want 'wanted' bytes from there on.
 */
static struct q2_cache_span
span_to_load (const struct q2_tables *t, const struct q2_io *io,
              size_t slice_off, uint64_t wanted)
{
  const uint64_t table_size = t->geo->l2_table_size;
  const size_t slice_size = q2_cache_slice_size (t->cache);
  uint64_t from = slice_off;
  uint64_t to =
    q2_min (slice_off + q2_align_up (wanted, slice_size), table_size);

  if (q2_io_is_slow (io)) {
    const uint64_t unit = q2_min (SLOW_LOAD, table_size);

    from = q2_align_down (from, unit);
    to = q2_align_up (to, unit);
  }
  /* Never more than the cache holds, nor than one load may be. */
  to = q2_min (to, from + Q2_CACHE_MAX_LOAD);
  if ((to - from) / slice_size > q2_cache_capacity (t->cache) / 2) {
    from = slice_off;
    to = slice_off + slice_size;
  }
  return (struct q2_cache_span) {
    .behind = slice_off - from, .ahead = to - slice_off
  };
}

int
q2_tables_read_l2 (struct q2_tables *t, const struct q2_io *io,
                   const struct q2_l2_read *read, uint64_t *ret_count,
                   struct qcow2_error *err)
{
  const struct q2_geometry *const geo = t->geo;
  const uint64_t table = table_of (t, read->l1_index);
  const size_t slice_size = q2_cache_slice_size (t->cache);
  const size_t in_table = read->l2_index << geo->entry_bits;
  const size_t skip = in_table & (slice_size - 1);
  struct q2_cache_span span;
  size_t len;

  if (!q2_assume (table != 0, err) || !q2_assume (read->count > 0, err) ||
      !q2_assume (in_table < geo->l2_table_size, err))
    return -1;
  len = q2_min (q2_min (read->count << geo->entry_bits, read->size),
                slice_size - skip);
  len = q2_align_down (len, UINT64_C (1) << geo->entry_bits);
  *ret_count = len >> geo->entry_bits;

  /* Version 1 has no alignment rule for tables. */
  if (table > INT64_MAX ||
      (geo->version > 1 && !q2_is_aligned (table, geo->table_align)))
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_CHECK, table,
                           "L1 entry %" PRIu64 " points to an L2 table at "
                           "offset 0x%" PRIx64 ", where no table can be",
                           read->l1_index, table);
  if (table >= q2_io_size (io)) {
    memset (read->buf, 0, len);
    return 0;
  }
  span = span_to_load (t, io, in_table - skip,
                       skip + (read->count << geo->entry_bits));
  span.scan = read->scan;
  return q2_cache_read (t->cache, io, table + in_table, skip, read->buf, len,
                        span, err);
}

void
q2_tables_get_stats (struct q2_tables *t, uint64_t *ret_hits,
                     uint64_t *ret_misses)
{
  q2_cache_get_stats (t->cache, ret_hits, ret_misses);
}

/* ---- Loading ahead -------------------------------------------------- */

/* Pieces of tables loaded in one go; a map request of 4 GiB needs 8 tables
 * of 64 KiB clusters.
 */
#define MAX_PIECES 64
#define MAX_PIECE_BYTES (UINT64_C (1) << 20)
#define MAX_PARALLEL 32

struct preload {
  struct q2_tables *tables;
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

  q2_cache_preload (p->tables->cache, p->io, p->pieces[i].host_off,
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
  const uint64_t table = table_of (t, q2_l1_index (geo, guest_off));
  const size_t slice_size = q2_cache_slice_size (t->cache);
  const uint64_t unit = q2_min (SLOW_LOAD, geo->l2_table_size);
  uint64_t from, to;

  if (table == 0 || !q2_is_aligned (table, geo->table_align) ||
      table >= q2_io_size (p->io))
    return true;
  from = q2_align_down (q2_l2_index (geo, guest_off) << geo->entry_bits,
                        unit);
  to = q2_align_up ((q2_l2_index (geo, end - 1) + 1) << geo->entry_bits,
                    unit);
  while (from < to && q2_cache_contains (t->cache, table + from))
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
  const uint64_t room =
    q2_cache_capacity (t->cache) * q2_cache_slice_size (t->cache) / 2;
  const uint64_t end = guest_off + len;
  struct preload p = { .tables = t, .io = io };
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

/* ---- Changing entries ----------------------------------------------- */

void
q2_tables_set_l1 (struct q2_tables *t, uint64_t l1_index, uint64_t entry)
{
  bool *const dirty = &t->l1_dirty[l1_index / L1_SECTOR];

  if (!q2_check (l1_index < t->l1_entries))
    return;
  __atomic_store_n (&t->l1[l1_index], entry, __ATOMIC_RELEASE);
  t->nr_l1_dirty += !*dirty;
  *dirty = true;
}

bool
q2_tables_update_l2 (struct q2_tables *t, uint64_t l1_index,
                     uint64_t l2_index, const void *raw, uint64_t count)
{
  const size_t slice_size = q2_cache_slice_size (t->cache);
  const size_t in_table = l2_index << t->geo->entry_bits;

  return q2_cache_update (t->cache, table_of (t, l1_index) + in_table,
                          in_table & (slice_size - 1), raw,
                          count << t->geo->entry_bits);
}

int
q2_tables_make_solid_l2 (struct q2_tables *t, const struct q2_io *io,
                         uint64_t l1_index, uint64_t l2_index,
                         bool *ret_done, struct qcow2_error *err)
{
  const size_t slice_size = q2_cache_slice_size (t->cache);
  const uint64_t slice_off =
    table_of (t, l1_index) +
    q2_align_down (l2_index << t->geo->entry_bits, slice_size);

  *ret_done = q2_cache_is_hollow (t->cache, slice_off);
  if (!*ret_done)
    return 0;
  if (io != NULL && q2_io_write_zeros (io, slice_size, slice_off,
                                       QCOW2_IO_L2, err) == -1)
    return -1;
  q2_cache_set_solid (t->cache, slice_off);
  return 0;
}

/* A sector with any entry is in the file, or has been made solid for that. */
static bool
is_sector_empty (const struct q2_tables *t, uint64_t first, uint64_t end)
{
  while (first < end && __atomic_load_n (&t->l1[first], __ATOMIC_RELAXED) == 0)
    ++first;
  return first == end;
}

int
q2_tables_make_solid_l1 (struct q2_tables *t, const struct q2_io *io,
                         uint64_t l1_index, struct qcow2_error *err)
{
  bool *const solid = &t->l1_solid[l1_index / L1_SECTOR];
  const uint64_t first = q2_align_down (l1_index, L1_SECTOR);
  const uint64_t end = q2_min (first + L1_SECTOR, t->l1_entries);

  if (*solid)
    return 0;
  if (is_sector_empty (t, first, end) &&
      q2_io_write_zeros (io, (end - first) * 8, t->l1_host_off + first * 8,
                         QCOW2_IO_L1, err) == -1)
    return -1;
  *solid = true;
  return 0;
}

uint64_t
q2_tables_slice_entries (const struct q2_tables *t)
{
  return q2_cache_slice_size (t->cache) >> t->geo->entry_bits;
}

void
q2_tables_forget (struct q2_tables *t, uint64_t host_off)
{
  q2_cache_drop (t->cache, host_off, t->geo->cluster_size);
}

int
q2_tables_reload (struct q2_tables *t, const struct q2_io *io,
                  struct qcow2_error *err)
{
  Q2_CLEANUP_FREE uint64_t *l1 = calloc (t->l1_entries + 1, 8);

  if (l1 == NULL)
    return q2_fail_nomem (err, "the L1 table");
  q2_budget_give (t->budget, t->l1_charge);
  t->l1_charge = 0;
  if (read_l1 (t, io, l1, err) == -1)
    return -1;
  for (uint32_t i = 0; i < t->l1_entries; ++i)
    __atomic_store_n (&t->l1[i], l1[i], __ATOMIC_RELEASE);
  q2_cache_clear (t->cache);
  return 0;
}

size_t
q2_tables_nr_dirty (const struct q2_tables *t)
{
  return q2_cache_nr_dirty (t->cache) + t->nr_l1_dirty;
}

uint64_t
q2_tables_capacity (const struct q2_tables *t)
{
  return q2_cache_capacity (t->cache);
}

/* Copy the changed sectors of the L1 table, which is 0-filled at its end. */
static int
gather_l1 (struct q2_tables *t, struct q2_dirty *d, struct qcow2_error *err)
{
  const size_t unit = L1_SECTOR * 8;

  if (q2_dirty_init (d, t->nr_l1_dirty, unit, err) == -1)
    return -1;
  if (t->nr_l1_dirty == 0)
    return 0;
  memset (d->bytes, 0, d->size);
  for (uint32_t s = 0; s * L1_SECTOR < t->l1_entries; ++s) {
    if (!t->l1_dirty[s])
      continue;
    for (uint32_t i = s * L1_SECTOR;
         i < (s + 1) * L1_SECTOR && i < t->l1_entries; ++i)
      store_be64 (d->bytes + d->nr * unit + (i % L1_SECTOR) * 8, t->l1[i]);
    d->host_off[d->nr++] = t->l1_host_off + s * unit;
    t->l1_dirty[s] = false;
  }
  t->nr_l1_dirty = 0;
  return 0;
}

int
q2_tables_gather (struct q2_tables *t, struct q2_tables_dirty *d,
                  struct qcow2_error *err)
{
  if (gather_l1 (t, &d->l1, err) == -1)
    return -1;
  if (q2_cache_gather (t->cache, &d->l2, err) == -1) {
    q2_tables_end_gather (t, d, false);
    return -1;
  }
  return 0;
}

int
q2_tables_write_l1 (struct q2_tables *t, const struct q2_tables_dirty *d,
                    const struct q2_io *io, struct qcow2_error *err)
{
  /* What is behind the entries of the disk belongs to saved VM states. */
  return q2_dirty_write (&d->l1, L1_SECTOR * 8,
                         t->l1_host_off + (uint64_t) t->l1_entries * 8, io,
                         QCOW2_IO_L1, err);
}

int
q2_tables_write_l2 (struct q2_tables *t, const struct q2_tables_dirty *d,
                    const struct q2_io *io, struct qcow2_error *err)
{
  return q2_dirty_write (&d->l2, q2_cache_slice_size (t->cache), UINT64_MAX,
                         io, QCOW2_IO_L2, err);
}

void
q2_tables_end_gather (struct q2_tables *t, struct q2_tables_dirty *d,
                      bool written)
{
  for (size_t i = 0; !written && i < d->l1.nr; ++i) {
    bool *const dirty =
      &t->l1_dirty[(d->l1.host_off[i] - t->l1_host_off) / (L1_SECTOR * 8)];

    t->nr_l1_dirty += !*dirty;
    *dirty = true;
  }
  q2_dirty_destroy (&d->l1);
  q2_cache_end_gather (t->cache, &d->l2, written);
}
