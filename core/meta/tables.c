/* SPDX-License-Identifier: BSD-3-Clause */
/* tables.c - L2 entries by index.
 *
 * Owns      the L1 table (l1.c) and the cache of L2 slices (cache.c).  The
 *           memory of both is the image's: see base/budget.h.
 * Method    an L2 lookup is an array access and a cache lookup.  On a miss
 *           the slice is read, or as much of the table as the caller is
 *           going to ask for.  When the disk has grown to twice its size there
 *           is a larger cache; the old one, which has nothing that is not in
 *           the file, is kept for those who are reading from it.
 * Locks     those of the L1 table and of the cache.
 */
#include "config.h"

#include "meta/tables_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/budget.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Small enough that a terabyte of scattered clusters fits in the default
 * cache, large enough that its bookkeeping is small beside it and that a
 * slice maps 32 MiB of 64 KiB clusters.
 */
#define SLICE_SIZE 4096

/* What a view gets for its cache in any case. */
#define LEAST_CACHE (UINT64_C (64) << 10)

/* A cache of that size, which was taken from the budget. */
static int
make_cache (struct q2_tables *t, uint64_t size, struct qcow2_error *err)
{
  struct q2_cache *const cache =
    q2_cache_new (size, q2_min (t->geo->l2_table_size, SLICE_SIZE), err);

  if (cache == NULL) {
    q2_budget_give (t->budget, size);
    return -1;
  }
  t->cache = cache;
  t->cache_size = size;
  t->cache_charge += size;
  return 0;
}

static int
make_first_cache (struct q2_tables *t, uint64_t most, struct qcow2_error *err)
{
  return make_cache (t, q2_budget_take_some (t->budget,
                                             q2_min (LEAST_CACHE, most),
                                             most), err);
}

/* No more than what all L2 tables of the disk take together, and as much
 * again, so that they all fit although slices do not spread evenly.
 */
static uint64_t
useful_cache_bytes (const struct q2_geometry *geo, uint64_t l1_entries,
                    uint64_t cache_bytes)
{
  return q2_min (cache_bytes, 2 * q2_max (l1_entries, 1) *
                 geo->l2_table_size);
}

struct q2_tables *
q2_tables_new (const struct q2_geometry *geo, const struct q2_io *io,
               uint64_t l1_host_off, uint32_t l1_entries,
               uint64_t cache_bytes, struct qcow2_error *err)
{
  /* Entries past the disk (saved VM state) are not ours to read. */
  const uint32_t needed = (uint32_t) geo->l1_needed;
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
  t->l1 = q2_l1_new (io, l1_host_off, needed,
                     (uint32_t) q2_min (l1_entries, needed), err);
  if (t->l1 == NULL ||
      make_first_cache (t, useful_cache_bytes (geo, needed, cache_bytes), err)
      == -1) {
    q2_tables_free (t);
    return NULL;
  }
  return t;
}

void
q2_tables_free (struct q2_tables *t)
{
  if (t == NULL)
    return;
  while (t->old != NULL) {
    struct q2_old_cache *const old = t->old;

    t->old = old->next;
    q2_cache_free (old->cache);
    free (old);
  }
  q2_cache_free (t->cache);
  q2_l1_free (t->l1);
  q2_budget_give (t->budget, t->cache_charge);
  free (t);
}

/* Without memory for one of at least twice the size the image works on with
 * the cache that it has.
 */
static void
enlarge_cache (struct q2_tables *t, uint64_t most)
{
  const uint64_t size = q2_budget_take_some (t->budget, 0, most);
  struct q2_old_cache *const old = calloc (1, sizeof *old);
  struct qcow2_error ignored;

  if (old == NULL || size / 2 < t->cache_size) {
    q2_budget_give (t->budget, size);
    free (old);
    return;
  }
  *old = (struct q2_old_cache) { t->old, t->cache };
  if (make_cache (t, size, &ignored) == 0)
    t->old = old;
  else
    free (old);
}

int
q2_tables_place (struct q2_tables *t, uint64_t l1_host_off,
                 uint32_t l1_entries, uint64_t cache_bytes,
                 struct qcow2_error *err)
{
  const uint64_t useful = useful_cache_bytes (t->geo, l1_entries,
                                              cache_bytes);

  if (!q2_assume (q2_tables_nr_dirty (t) == 0, err) ||
      q2_l1_place (t->l1, l1_host_off, l1_entries, err) == -1)
    return -1;
  if (useful / 2 >= t->cache_size)
    enlarge_cache (t, useful);
  return 0;
}

uint64_t
q2_tables_reach (const struct q2_tables *t)
{
  return t->geo->version == 0 ? t->geo->virtual_size
    : (uint64_t) q2_l1_nr (t->l1) << t->geo->l1_shift;
}

const struct q2_geometry *
q2_tables_geometry (const struct q2_tables *t)
{
  return t->geo;
}

uint64_t
q2_tables_l1_entry (const struct q2_tables *t, uint64_t l1_index)
{
  return q2_l1_entry (t->l1, l1_index);
}

bool
q2_tables_l1_is_empty (const struct q2_tables *t, uint64_t l1_index)
{
  return q2_tables_table_of (t, l1_index) == 0;
}

uint64_t
q2_tables_l2_entry_off (const struct q2_tables *t, uint64_t l1_index,
                        uint64_t l2_index)
{
  return q2_tables_table_of (t, l1_index) + (l2_index << t->geo->entry_bits);
}

/* What to read when the slice at 'slice_off' of a table is missing and the
 * caller is going to want 'wanted' bytes from there on.
 */
static struct q2_cache_span
span_to_load (const struct q2_tables *t, const struct q2_cache *cache,
              const struct q2_io *io, size_t slice_off, uint64_t wanted)
{
  const uint64_t table_size = t->geo->l2_table_size;
  const size_t slice_size = q2_cache_slice_size (cache);
  uint64_t from = slice_off;
  uint64_t to =
    q2_min (slice_off + q2_align_up (wanted, slice_size), table_size);

  if (q2_io_is_slow (io)) {
    const uint64_t unit = q2_min (Q2_SLOW_LOAD, table_size);

    from = q2_align_down (from, unit);
    to = q2_align_up (to, unit);
  }
  /* Never more than the cache holds, nor than one load may be. */
  to = q2_min (to, from + Q2_CACHE_MAX_LOAD);
  if ((to - from) / slice_size > q2_cache_capacity (cache) / 2) {
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
  struct q2_cache *const cache = t->cache;
  const uint64_t table = q2_tables_table_of (t, read->l1_index);
  const size_t slice_size = q2_cache_slice_size (cache);
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
  span = span_to_load (t, cache, io, in_table - skip,
                       skip + (read->count << geo->entry_bits));
  span.scan = read->scan;
  return q2_cache_read (cache, io, table + in_table, skip, read->buf, len,
                        span, err);
}

void
q2_tables_get_stats (struct q2_tables *t, uint64_t *ret_hits,
                     uint64_t *ret_misses)
{
  const struct q2_old_cache *old = t->old;

  q2_cache_get_stats (t->cache, ret_hits, ret_misses);
  for (; old != NULL; old = old->next) {
    uint64_t hits, misses;

    q2_cache_get_stats (old->cache, &hits, &misses);
    *ret_hits += hits;
    *ret_misses += misses;
  }
}

/* ---- Changing entries ----------------------------------------------- */

void
q2_tables_set_l1 (struct q2_tables *t, uint64_t l1_index, uint64_t entry)
{
  q2_l1_set (t->l1, l1_index, entry);
}

bool
q2_tables_update_l2 (struct q2_tables *t, uint64_t l1_index,
                     uint64_t l2_index, const void *raw, uint64_t count)
{
  const size_t slice_size = q2_cache_slice_size (t->cache);
  const size_t in_table = l2_index << t->geo->entry_bits;

  return q2_cache_update (t->cache,
                          q2_tables_table_of (t, l1_index) + in_table,
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
    q2_tables_table_of (t, l1_index) +
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

int
q2_tables_make_solid_l1 (struct q2_tables *t, const struct q2_io *io,
                         uint64_t l1_index, struct qcow2_error *err)
{
  return q2_l1_make_solid (t->l1, io, l1_index, err);
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
  if (q2_l1_reload (t->l1, io, err) == -1)
    return -1;
  q2_cache_clear (t->cache);
  return 0;
}

bool
q2_tables_is_clean (const struct q2_tables *t)
{
  return q2_cache_room (t->cache) == q2_cache_capacity (t->cache);
}

size_t
q2_tables_nr_dirty (const struct q2_tables *t)
{
  return q2_cache_nr_dirty (t->cache) + q2_l1_nr_dirty (t->l1);
}

uint64_t
q2_tables_capacity (const struct q2_tables *t)
{
  return q2_cache_capacity (t->cache);
}

int
q2_tables_gather (struct q2_tables *t, struct q2_tables_dirty *d,
                  struct qcow2_error *err)
{
  if (q2_l1_gather (t->l1, &d->l1, err) == -1)
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
  return q2_l1_write (t->l1, &d->l1, io, err);
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
  q2_l1_end_gather (t->l1, &d->l1, written);
  q2_cache_end_gather (t->cache, &d->l2, written);
}
