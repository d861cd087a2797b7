/* SPDX-License-Identifier: BSD-3-Clause */
/* refcounts.c - the refcount table and the refcounts of clusters.
 *
 * Owns      both in memory; refcounts_table.c has how the table grows, and
 *           refcounts_commit.c how both are written.
 * Method    blocks are cached a slice of 4 KiB at a time, because with large
 *           clusters a block is large and only a part of it is in use.
 *           Slices only come in under the owner's lock, so that what a
 *           function has found there stays while it works.
 * Locks     see refcounts.h.
 * Does not  know what is free for use: that also depends on what is reserved
 *           (space.c) and on what a commit has yet to make durable (frees.c).
 */
#include "config.h"

#include "alloc/refcounts_impl.h"

#include "format/refcount_bits.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"
#include "base/lock.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_BYTES (UINT64_C (4) << 20)

/* What is read at once from a block on a slow host. */
#define SLOW_LOAD (UINT64_C (64) << 10)

#define ENTRY_OFFSET UINT64_C (0xfffffffffffffe00)

static int
check_table (const struct q2_refcounts *rc, struct qcow2_error *err)
{
  for (uint64_t i = 0; i < rc->table_entries; ++i)
    if (!q2_is_aligned (rc->table[i], rc->geo->cluster_size) ||
        rc->table[i] >> 56 != 0)
      return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                             rc->table_host_off + i * 8,
                             "refcount table entry %" PRIu64 " points to "
                             "offset 0x%" PRIx64 ", where no refcount block "
                             "can be", i, rc->table[i]);
  return 0;
}

/* Refcounts into buf.  Those that the host cannot read are not needed to write
 * all of them anew.
 */
static int
read_bytes (const struct q2_io *io, void *buf, uint64_t len,
            uint64_t host_off, struct qcow2_error *err)
{
  if (q2_io_read (io, buf, len, host_off, QCOW2_IO_REFCOUNT, err) == 0)
    return 0;
  if (q2_is_medium_fault (err))
    err->advice = QCOW2_ADVICE_REBUILD;
  return -1;
}

int
q2_refcounts_init (struct q2_refcounts *rc, const struct q2_geometry *geo,
                   const struct q2_header *h, const struct q2_io *io,
                   struct qcow2_error *err)
{
  const uint64_t bytes =
    (uint64_t) h->refcount_table_clusters << geo->cluster_bits;

  *rc = (struct q2_refcounts) {
    .geo = geo, .table_entries = bytes / 8,
    .table_host_off = h->refcount_table_offset,
    .table_clusters = h->refcount_table_clusters,
    .ahead.pinned = Q2_AHEAD_NO_SLICE,
  };
  /* It is written to; the last cluster may be cut short. */
  if (rc->table_host_off + bytes >= q2_io_size (io) + geo->cluster_size)
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_COMPLETE,
                           rc->table_host_off,
                           "the refcount table at offset 0x%" PRIx64 " is "
                           "not in the file", rc->table_host_off);
  rc->table = malloc (bytes);
  rc->sector_dirty = calloc (rc->table_entries / Q2_SECTOR_ENTRIES, 1);
  rc->new_blocks = calloc (rc->table_entries, 1);
  if (rc->table == NULL || rc->sector_dirty == NULL || rc->new_blocks == NULL)
    return q2_fail_nomem (err, "the refcount table");
  if (read_bytes (io, rc->table, bytes, rc->table_host_off, err) == -1)
    return -1;
  for (uint64_t i = 0; i < rc->table_entries; ++i)
    rc->table[i] = load_be64 (&rc->table[i]) & ENTRY_OFFSET;
  rc->cache =
    q2_cache_new_unshared (CACHE_BYTES,
                           q2_min (geo->cluster_size, Q2_REFCOUNT_SLICE), err);
  if (rc->cache == NULL)
    return -1;
  return check_table (rc, err);
}

void
q2_refcounts_destroy (struct q2_refcounts *rc)
{
  q2_cache_free (rc->cache);
  free (rc->table);
  free (rc->sector_dirty);
  free (rc->new_blocks);
}

/* ---- What is always true -------------------------------------------- */

void
q2_refcounts_check_locked (const struct q2_refcounts *rc)
{
  q2_check (rc->table != NULL && rc->cache != NULL);
  q2_check (rc->table_entries ==
            (uint64_t) rc->table_clusters << rc->geo->cluster_bits >> 3);
  q2_check (rc->nr_sectors_dirty <=
            rc->table_entries / Q2_SECTOR_ENTRIES);
  q2_check (rc->nr_old <= Q2_MAX_OLD_TABLES);
  /* A table that has moved is named after it has been written. */
  q2_check (!rc->moved || !rc->header_due);
}

/* ---- One refcount --------------------------------------------------- */

bool
q2_refcounts_is_uncovered_locked (const struct q2_refcounts *rc,
                                  uint64_t cluster)
{
  const uint64_t i = cluster >> rc->geo->refblock_bits;

  return i >= rc->table_entries || rc->table[i] == 0;
}

/* Bytes that hold one refcount, and which of several in one byte it is. */
static size_t
width (const struct q2_refcounts *rc)
{
  const unsigned order = rc->geo->refcount_order;

  return order < 3 ? 1 : (size_t) 1 << (order - 3);
}

static size_t
index_in_byte (const struct q2_refcounts *rc, uint64_t cluster)
{
  const unsigned order = rc->geo->refcount_order;

  return order < 3 ? cluster & ((1u << (3 - order)) - 1) : 0;
}

static bool
lookup (struct q2_refcounts *rc, uint64_t cluster, unsigned char *bytes,
        struct q2_need *need)
{
  const uint64_t off = q2_refcount_place (rc, cluster);
  const size_t skip = off & (q2_cache_slice_size (rc->cache) - 1);

  *need = (struct q2_need) {
    .slice_off = off - skip, .block = cluster >> rc->geo->refblock_bits,
  };
  return q2_cache_lookup (rc->cache, off, skip, bytes, width (rc));
}

bool
q2_refcounts_get_locked (struct q2_refcounts *rc, uint64_t cluster,
                         uint64_t *ret_value, struct q2_need *need)
{
  unsigned char bytes[8];

  *ret_value = 0;
  if (q2_refcounts_is_uncovered_locked (rc, cluster))
    return true;
  if (!lookup (rc, cluster, bytes, need))
    return false;
  *ret_value = q2_refcount_get (bytes, rc->geo->refcount_order,
                                index_in_byte (rc, cluster));
  return true;
}

bool
q2_refcounts_set_locked (struct q2_refcounts *rc, uint64_t cluster,
                         uint64_t value, struct q2_need *need)
{
  unsigned char bytes[8];
  uint64_t off, old;

  q2_refcounts_check_locked (rc);
  q2_check (value <= UINT64_MAX >> (64 - (1u << rc->geo->refcount_order)));
  if (!q2_check (!q2_refcounts_is_uncovered_locked (rc, cluster)))
    return true;                /* nothing is changed */
  off = q2_refcount_place (rc, cluster);
  if (!lookup (rc, cluster, bytes, need))
    return false;
  q2_touch (rc->suspects, cluster, 1);
  old = q2_refcount_get (bytes, rc->geo->refcount_order,
                         index_in_byte (rc, cluster));
  q2_refcount_set (bytes, rc->geo->refcount_order,
                   index_in_byte (rc, cluster), value);
  /* It is there, since nothing can have been evicted meanwhile. */
  need->solid =
    !q2_cache_update (rc->cache, off,
                      off & (q2_cache_slice_size (rc->cache) - 1), bytes,
                      width (rc));
  if (!need->solid)
    (void) q2_ahead_note_locked (rc, cluster, old, value);
  return !need->solid;
}

/* Bytes of the slice that hold the first 'nr' of them. */
static void
find_bytes (const struct q2_refcounts *rc, const struct q2_refcount_run *run,
            uint64_t nr, uint64_t *ret_from, uint64_t *ret_len)
{
  const unsigned order = rc->geo->refcount_order;
  const uint64_t last = run->first + nr - 1;

  *ret_from = run->first << order >> 3;
  *ret_len = (last << order >> 3) + width (rc) - *ret_from;
}

/* No more is copied than is wanted: often it is one. */
bool
q2_refcounts_copy_locked (struct q2_refcounts *rc, uint64_t cluster,
                          uint64_t nr, struct q2_refcount_run *ret,
                          struct q2_need *need)
{
  const size_t slice_size = q2_cache_slice_size (rc->cache);
  const uint64_t per_slice =
    ((uint64_t) slice_size << 3) >> rc->geo->refcount_order;
  uint64_t from, len;

  ret->order = rc->geo->refcount_order;
  ret->cluster = cluster;
  ret->first = cluster & (per_slice - 1);
  ret->nr = q2_min (nr, per_slice - ret->first);
  ret->covered = !q2_refcounts_is_uncovered_locked (rc, cluster);
  find_bytes (rc, ret, ret->nr, &from, &len);
  if (!ret->covered) {
    memset (ret->bytes + from, 0, len);
    return true;
  }
  *need = (struct q2_need) {
    .slice_off = q2_align_down (q2_refcount_place (rc, cluster), slice_size),
    .block = cluster >> rc->geo->refblock_bits,
  };
  ret->slice_off = need->slice_off;
  return q2_cache_lookup (rc->cache, need->slice_off + from, from,
                          ret->bytes + from, len);
}

/* Note what becomes of the first 'nr'; true if the file has all of it. */
static bool
note_run (struct q2_refcounts *rc, const struct q2_refcount_run *run,
          uint64_t nr)
{
  struct q2_refcount_run old;
  struct q2_need ignored;
  bool covered = true;

  /* Nothing is covered, and what there is to note has been. */
  if (rc->ahead.urgent && rc->ahead.covered.nr + rc->ahead.next.nr == 0)
    return false;
  if (!q2_check (q2_refcounts_copy_locked (rc, run->cluster, nr, &old,
                                           &ignored)))
    return false;
  for (uint64_t i = 0; i < nr; ++i)
    covered &= q2_ahead_note_locked (rc, run->cluster + i,
                                     q2_refcount_run_get (&old, i),
                                     q2_refcount_run_get (run, i));
  return covered;
}

bool
q2_refcounts_store_locked (struct q2_refcounts *rc,
                           const struct q2_refcount_run *run, uint64_t nr,
                           struct q2_need *need)
{
  uint64_t from, len;

  q2_refcounts_check_locked (rc);
  if (!q2_check (nr > 0 && nr <= run->nr && run->covered))
    return true;                /* nothing is changed */
  find_bytes (rc, run, nr, &from, &len);
  q2_touch (rc->suspects, run->cluster, nr);
  *need = (struct q2_need) {
    .slice_off = run->slice_off, .block = run->cluster >>
    rc->geo->refblock_bits,
  };
  /* It is there, since nothing can have been evicted meanwhile. */
  need->solid = q2_cache_is_hollow (rc->cache, run->slice_off);
  if (need->solid)
    return false;
  return note_run (rc, run, nr) && rc->ahead.pinned == run->slice_off
    ? q2_check (q2_cache_update_pinned (rc->cache, run->slice_off + from, from,
                                        run->bytes + from, len))
    : q2_check (q2_cache_update (rc->cache, run->slice_off + from, from,
                                 run->bytes + from, len));
}

bool
q2_refcounts_find_locked (struct q2_refcounts *rc, uint64_t from,
                          uint64_t max, uint64_t *ret_first,
                          uint64_t *ret_nr, struct q2_need *need)
{
  const unsigned order = rc->geo->refcount_order;
  const size_t slice_size = q2_cache_slice_size (rc->cache);
  const uint64_t per_slice = ((uint64_t) slice_size << 3) >> order;
  const uint64_t first = q2_align_down (from, per_slice);
  unsigned char slice[Q2_REFCOUNT_SLICE];
  uint64_t i = from - first, nr = 0;

  /* Our caller has looked. */
  assert (!q2_refcounts_is_uncovered_locked (rc, from));
  *need = (struct q2_need) {
    .slice_off = q2_align_down (q2_refcount_place (rc, from), slice_size),
    .block = from >> rc->geo->refblock_bits,
  };
  if (!q2_cache_lookup (rc->cache, need->slice_off, 0, slice, slice_size))
    return false;
  while (i < per_slice && q2_refcount_get (slice, order, i) != 0)
    ++i;
  while (i + nr < per_slice && nr < max &&
         q2_refcount_get (slice, order, i + nr) == 0)
    ++nr;
  *ret_first = first + i;
  *ret_nr = nr;
  return true;
}

/* ---- Loading -------------------------------------------------------- */

int
q2_refcounts_read (struct q2_refcounts *rc, const struct q2_io *io,
                   const struct q2_need *need, bool wide,
                   struct q2_need_bytes *ret, struct qcow2_error *err)
{
  const size_t slice_size = q2_cache_slice_size (rc->cache);
  const size_t len = wide && q2_io_is_slow (io)
    ? q2_min (SLOW_LOAD, rc->geo->cluster_size) : slice_size;

  ret->bytes = malloc (len);
  if (ret->bytes == NULL)
    return q2_fail_nomem (err, "a refcount block");
  ret->load.start = q2_align_down (need->slice_off, len);
  ret->load.end = ret->load.start + len;
  q2_cache_begin_load (rc->cache, &ret->load);
  if (read_bytes (io, ret->bytes, len, ret->load.start, err) == 0)
    return 0;
  if (q2_cache_end_load (rc->cache, &ret->load)) {
    /* Nothing was read that could be put anywhere. */
  }
  free (ret->bytes);
  return -1;
}

enum q2_put
q2_refcounts_put_locked (struct q2_refcounts *rc, struct q2_need_bytes *b)
{
  const size_t slice_size = q2_cache_slice_size (rc->cache);
  enum q2_put put = Q2_PUT_DONE;

  /* Whoever writes slices does so under the lock that we hold, too. */
  if (!q2_cache_end_load (rc->cache, &b->load))
    put = Q2_PUT_OUT_OF_DATE;
  for (uint64_t off = b->load.start; put == Q2_PUT_DONE && off < b->load.end;
       off += slice_size)
    if (!q2_cache_insert (rc->cache, off, b->bytes + (off - b->load.start),
                          false))
      put = Q2_PUT_NO_ROOM;
  free (b->bytes);
  return put;
}

/* ---- Room on the medium --------------------------------------------- */

int
q2_refcounts_make_solid (struct q2_refcounts *rc, const struct q2_io *io,
                         const struct q2_need *need, struct q2_mutex *lock,
                         struct qcow2_error *err)
{
  bool hollow, new;

  q2_mutex_lock (lock);
  hollow = q2_cache_is_hollow (rc->cache, need->slice_off);
  new = rc->new_blocks[need->block];
  q2_mutex_unlock (lock);
  /* Nobody changes the slice, or writes it, while it is hollow. */
  if (hollow && !new &&
      q2_io_write_zeros (io, q2_cache_slice_size (rc->cache),
                         need->slice_off, QCOW2_IO_REFCOUNT, err) == -1)
    return -1;
  if (hollow)
    q2_cache_set_solid (rc->cache, need->slice_off);
  return 0;
}

int
q2_refcounts_make_solid_entry (const struct q2_refcounts *rc,
                               const struct q2_io *io, uint64_t block,
                               struct qcow2_error *err)
{
  const uint64_t first = q2_align_down (block, Q2_SECTOR_ENTRIES);

  if (!q2_assume (block < rc->table_entries, err))
    return -1;
  for (uint64_t i = first; i < first + Q2_SECTOR_ENTRIES; ++i)
    if (rc->table[i] != 0)
      return 0;
  return q2_io_write_zeros (io, Q2_SECTOR_ENTRIES * 8,
                            rc->table_host_off + first * 8,
                            QCOW2_IO_REFCOUNT, err);
}
