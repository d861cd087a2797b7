/* SPDX-License-Identifier: BSD-3-Clause */
/* refcounts_table.c - new refcount blocks, and a larger refcount table, in
 * memory.
 *
 * Owns      the entries of the table.
 * Method    cover.c has put both into the file before: here they begin to
 *           count.  A block that is new is in the cache as a whole, as far as
 *           anything in it is not 0.
 * Locks     the owner's, see refcounts.h.
 */
#include "config.h"

#include "alloc/refcounts_impl.h"

#include "format/refcount_bits.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <string.h>

void
q2_refcounts_make_entry_dirty_locked (struct q2_refcounts *rc, uint64_t i)
{
  bool *const dirty = &rc->sector_dirty[i / Q2_SECTOR_ENTRIES];

  if (!q2_check (i < rc->table_entries))
    return;
  rc->nr_sectors_dirty += !*dirty;
  *dirty = true;
}

/* Put the slice that has the refcount of 'cluster', all of whose others are
 * 0, into the cache with those of [cluster, end) set to 1.  Returns how many
 * that were.
 */
static uint64_t
make_slice (struct q2_refcounts *rc, uint64_t cluster, uint64_t end)
{
  const size_t slice_size = q2_cache_slice_size (rc->cache);
  const unsigned order = rc->geo->refcount_order;
  const uint64_t per_slice = ((uint64_t) slice_size << 3) >> order;
  const uint64_t first = q2_align_down (cluster, per_slice);
  const uint64_t n = q2_min (end, first + per_slice) - cluster;
  unsigned char slice[Q2_REFCOUNT_SLICE] = { 0 };

  for (uint64_t i = 0; i < n; ++i)
    q2_refcount_set (slice, order, cluster - first + i, 1);
  /* q2_refcounts_has_room_locked. */
  if (!q2_check (q2_cache_insert (rc->cache,
                                  q2_align_down (q2_refcount_place
                                                 (rc, cluster), slice_size),
                                  slice, true)))
    return end - cluster;
  return n;
}

bool
q2_refcounts_has_room_locked (const struct q2_refcounts *rc, uint64_t used)
{
  const uint64_t per_slice =
    ((uint64_t) q2_cache_slice_size (rc->cache) << 3) >>
    rc->geo->refcount_order;

  return q2_cache_room (rc->cache) >= used / per_slice + 2;
}

void
q2_refcounts_cover_locked (struct q2_refcounts *rc, uint64_t first_block,
                           uint64_t nr, uint64_t host_off, uint64_t cluster,
                           uint64_t used)
{
  const uint64_t cluster_size = rc->geo->cluster_size;
  const uint64_t end = cluster + used;

  q2_refcounts_check_locked (rc);
  if (!q2_check (first_block + nr <= rc->table_entries) ||
      !q2_check (q2_is_aligned (host_off, cluster_size)))
    return;
  q2_cache_drop (rc->cache, host_off, nr * cluster_size);
  q2_touch (rc->suspects, cluster, used);
  rc->ahead.urgent = true;
  for (uint64_t i = 0; i < nr; ++i) {
    if (!q2_check (rc->table[first_block + i] == 0))
      return;
    rc->table[first_block + i] = host_off + i * cluster_size;
    rc->new_blocks[first_block + i] = true;
    q2_refcounts_make_entry_dirty_locked (rc, first_block + i);
  }
  while (cluster < end)
    cluster += make_slice (rc, cluster, end);
}

int
q2_refcounts_move_table_locked (struct q2_refcounts *rc, uint64_t host_off,
                                uint32_t clusters, struct qcow2_error *err)
{
  const uint64_t entries = ((uint64_t) clusters << rc->geo->cluster_bits) / 8;
  Q2_CLEANUP_FREE uint64_t *table = calloc (entries, 8);
  Q2_CLEANUP_FREE bool *dirty = calloc (entries / Q2_SECTOR_ENTRIES, 1);
  Q2_CLEANUP_FREE bool *new_blocks = calloc (entries, 1);

  if (table == NULL || dirty == NULL || new_blocks == NULL ||
      rc->nr_old == Q2_MAX_OLD_TABLES)
    return q2_fail_nomem (err, "a larger refcount table");
  q2_refcounts_check_locked (rc);
  if (!q2_assume (entries > rc->table_entries, err))
    return -1;
  memcpy (table, rc->table, rc->table_entries * 8);
  memcpy (new_blocks, rc->new_blocks, rc->table_entries);
  q2_touch (rc->suspects, rc->table_host_off >> rc->geo->cluster_bits,
            rc->table_clusters);
  rc->old[rc->nr_old].host_off = rc->table_host_off;
  rc->old[rc->nr_old++].clusters = rc->table_clusters;
  free (rc->table);
  free (rc->sector_dirty);
  free (rc->new_blocks);
  rc->new_blocks = q2_take (new_blocks);
  rc->table = q2_take (table);
  rc->sector_dirty = q2_take (dirty);
  rc->nr_sectors_dirty = 0;
  rc->table_entries = entries;
  rc->table_host_off = host_off;
  rc->table_clusters = clusters;
  rc->moved = true;
  rc->header_due = false;       /* it is, after that of the new table */
  q2_refcounts_check_locked (rc);
  return 0;
}
