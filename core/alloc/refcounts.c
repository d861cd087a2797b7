/* SPDX-License-Identifier: BSD-3-Clause */
/* refcounts.c - the refcount table and the refcounts of clusters.
 *
 * Owns      both in memory, and how they are written.
 * Method    blocks are cached a slice of 4 KiB at a time, because with large
 *           clusters a block is large and only a part of it is in use.
 *           Slices only come in under the owner's lock, so that what a
 *           function has found there stays while it works.
 * Locks     see refcounts.h.
 * Does not  know what is free for use: that also depends on what is reserved
 *           (space.c) and on what a commit has yet to make durable (frees.c).
 */
#include "config.h"

#include "alloc/refcounts.h"

#include "format/refcount_bits.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/plant.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define SLICE_SIZE 4096
#define SECTOR_ENTRIES 64
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
  };
  /* It is written to; the last cluster may be cut short. */
  if (rc->table_host_off + bytes >= q2_io_size (io) + geo->cluster_size)
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_COMPLETE,
                           rc->table_host_off,
                           "the refcount table at offset 0x%" PRIx64 " is "
                           "not in the file", rc->table_host_off);
  rc->table = malloc (bytes);
  rc->sector_dirty = calloc (rc->table_entries / SECTOR_ENTRIES, 1);
  rc->new_blocks = calloc (rc->table_entries, 1);
  if (rc->table == NULL || rc->sector_dirty == NULL || rc->new_blocks == NULL)
    return q2_fail_nomem (err, "the refcount table");
  if (q2_io_read (io, rc->table, bytes, rc->table_host_off,
                  QCOW2_IO_REFCOUNT, err) == -1)
    return -1;
  for (uint64_t i = 0; i < rc->table_entries; ++i)
    rc->table[i] = load_be64 (&rc->table[i]) & ENTRY_OFFSET;
  rc->cache =
    q2_cache_new_unshared (CACHE_BYTES,
                           q2_min (geo->cluster_size, SLICE_SIZE), err);
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

/* Called with the owner's lock by all that changes something here. */
static void
check_state (const struct q2_refcounts *rc)
{
  q2_check (rc->table != NULL && rc->cache != NULL);
  q2_check (rc->table_entries ==
            (uint64_t) rc->table_clusters << rc->geo->cluster_bits >> 3);
  q2_check (rc->nr_sectors_dirty <= rc->table_entries / SECTOR_ENTRIES);
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

/* Where the refcount of a covered cluster is: a byte, or its first. */
static uint64_t
place (const struct q2_refcounts *rc, uint64_t cluster)
{
  const unsigned bits = rc->geo->refblock_bits;
  const uint64_t in_block = cluster & ((UINT64_C (1) << bits) - 1);

  return rc->table[cluster >> bits] +
    ((in_block << rc->geo->refcount_order) >> 3);
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
  const uint64_t off = place (rc, cluster);
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
  uint64_t off;

  check_state (rc);
  q2_check (value <= UINT64_MAX >> (64 - (1u << rc->geo->refcount_order)));
  if (!q2_check (!q2_refcounts_is_uncovered_locked (rc, cluster)))
    return true;                /* nothing is changed */
  off = place (rc, cluster);
  if (!lookup (rc, cluster, bytes, need))
    return false;
  q2_touch (rc->suspects, cluster, 1);
  q2_refcount_set (bytes, rc->geo->refcount_order,
                   index_in_byte (rc, cluster), value);
  /* It is there, since nothing can have been evicted meanwhile. */
  need->solid =
    !q2_cache_update (rc->cache, off,
                      off & (q2_cache_slice_size (rc->cache) - 1), bytes,
                      width (rc));
  return !need->solid;
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
  unsigned char slice[SLICE_SIZE];
  uint64_t i = from - first, nr = 0;

  /* Our caller has looked. */
  assert (!q2_refcounts_is_uncovered_locked (rc, from));
  *need = (struct q2_need) {
    .slice_off = q2_align_down (place (rc, from), slice_size),
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
  if (q2_io_read (io, ret->bytes, len, ret->load.start, QCOW2_IO_REFCOUNT,
                  err) == 0)
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
  const uint64_t first = q2_align_down (block, SECTOR_ENTRIES);

  for (uint64_t i = first; i < first + SECTOR_ENTRIES; ++i)
    if (rc->table[i] != 0)
      return 0;
  return q2_io_write_zeros (io, SECTOR_ENTRIES * 8,
                            rc->table_host_off + first * 8,
                            QCOW2_IO_REFCOUNT, err);
}

/* ---- The table ------------------------------------------------------ */

static void
make_entry_dirty (struct q2_refcounts *rc, uint64_t i)
{
  bool *const dirty = &rc->sector_dirty[i / SECTOR_ENTRIES];

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
  unsigned char slice[SLICE_SIZE] = { 0 };

  for (uint64_t i = 0; i < n; ++i)
    q2_refcount_set (slice, order, cluster - first + i, 1);
  /* q2_refcounts_has_room_locked. */
  if (!q2_check (q2_cache_insert (rc->cache,
                                  q2_align_down (place (rc, cluster),
                                                 slice_size), slice, true)))
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

  check_state (rc);
  if (!q2_check (first_block + nr <= rc->table_entries) ||
      !q2_check (q2_is_aligned (host_off, cluster_size)))
    return;
  q2_cache_drop (rc->cache, host_off, nr * cluster_size);
  q2_touch (rc->suspects, cluster, used);
  for (uint64_t i = 0; i < nr; ++i) {
    if (!q2_check (rc->table[first_block + i] == 0))
      return;
    rc->table[first_block + i] = host_off + i * cluster_size;
    rc->new_blocks[first_block + i] = true;
    make_entry_dirty (rc, first_block + i);
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
  Q2_CLEANUP_FREE bool *dirty = calloc (entries / SECTOR_ENTRIES, 1);
  Q2_CLEANUP_FREE bool *new_blocks = calloc (entries, 1);

  if (table == NULL || dirty == NULL || new_blocks == NULL ||
      rc->nr_old == Q2_MAX_OLD_TABLES)
    return q2_fail_nomem (err, "a larger refcount table");
  check_state (rc);
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
  check_state (rc);
  return 0;
}

/* ---- Commit --------------------------------------------------------- */

bool
q2_refcounts_is_dirty_locked (const struct q2_refcounts *rc)
{
  return q2_cache_nr_dirty (rc->cache) > 0 || rc->nr_sectors_dirty > 0 ||
    rc->moved || rc->header_due;
}

static void
copy_entries (const struct q2_refcounts *rc, unsigned char *out,
              uint64_t from, uint64_t nr)
{
  for (uint64_t i = 0; i < nr; ++i)
    store_be64 (out + 8 * i, rc->table[from + i]);
}

static int
gather_sectors (struct q2_refcounts *rc, struct q2_dirty *d,
                struct qcow2_error *err)
{
  const size_t unit = SECTOR_ENTRIES * 8;

  if (q2_dirty_init (d, rc->nr_sectors_dirty, unit, err) == -1)
    return -1;
  if (rc->nr_sectors_dirty == 0)
    return 0;
  for (uint64_t s = 0; s < rc->table_entries / SECTOR_ENTRIES; ++s)
    if (rc->sector_dirty[s]) {
      copy_entries (rc, d->bytes + d->nr * unit, s * SECTOR_ENTRIES,
                    SECTOR_ENTRIES);
      d->host_off[d->nr++] = rc->table_host_off + s * unit;
    }
  return 0;
}

static int
gather_table (struct q2_refcounts *rc, struct q2_refcounts_dirty *d,
              struct qcow2_error *err)
{
  if (!rc->moved)
    return gather_sectors (rc, &d->sectors, err);
  d->table = malloc (rc->table_entries * 8);
  if (d->table == NULL)
    return q2_fail_nomem (err, "writing the refcount table");
  copy_entries (rc, d->table, 0, rc->table_entries);
  return 0;
}

static void
free_dirty (struct q2_refcounts_dirty *d)
{
  q2_dirty_destroy (&d->sectors);
  free (d->table);
  *d = (struct q2_refcounts_dirty) { .nr_old = 0 };
}

int
q2_refcounts_gather_locked (struct q2_refcounts *rc,
                            struct q2_refcounts_dirty *d,
                            struct qcow2_error *err)
{
  check_state (rc);
  *d = (struct q2_refcounts_dirty) {
    .table_host_off = rc->table_host_off,
    .table_clusters = rc->table_clusters,
  };
  if (gather_table (rc, d, err) == -1 ||
      q2_cache_gather (rc->cache, &d->slices, err) == -1) {
    free_dirty (d);
    return -1;
  }
  d->header = rc->moved || rc->header_due;
  d->nr_old = d->header ? rc->nr_old : 0;
  memset (rc->sector_dirty, 0, rc->table_entries / SECTOR_ENTRIES);
  rc->nr_sectors_dirty = 0;
  rc->moved = rc->header_due = false;
  return 0;
}

int
q2_refcounts_write (const struct q2_refcounts *rc,
                    const struct q2_refcounts_dirty *d,
                    const struct q2_io *io, struct qcow2_error *err)
{
  if (q2_dirty_write (&d->slices, q2_cache_slice_size (rc->cache),
                      UINT64_MAX, io, QCOW2_IO_REFCOUNT, err) == -1)
    return -1;
  if (d->table == NULL)
    return 0;
  return q2_io_write (io, d->table,
                      (uint64_t) d->table_clusters << rc->geo->cluster_bits,
                      d->table_host_off, QCOW2_IO_REFCOUNT, err);
}

int
q2_refcounts_write_links (const struct q2_refcounts_dirty *d,
                          struct q2_superblock_edit *edit,
                          const struct q2_io *io, struct qcow2_error *err)
{
  if (q2_dirty_write (&d->sectors, SECTOR_ENTRIES * 8, UINT64_MAX, io,
                      QCOW2_IO_REFCOUNT, err) == -1)
    return -1;
  if (!d->header)
    return 0;
  edit->header->refcount_table_offset = d->table_host_off;
  edit->header->refcount_table_clusters = d->table_clusters;
  return q2_superblock_write (edit, io, Q2_SPAN_REFCOUNT_TABLE, err);
}

/* The commit has ended before the header was durable.  A table is written as
 * a whole only as long as nothing can name it: after 2a has ended that is too
 * late, since it would get entries whose blocks are not durable (ORDER-2).
 */
static void
name_again (struct q2_refcounts *rc, const struct q2_refcounts_dirty *d,
            enum q2_commit_progress progress)
{
  /* One that moved again meanwhile is written anyway, and named after that. */
  if (rc->moved || Q2_PLANTED (Q2_PLANT_FORGET_TABLE))
    return;
  if (d->table != NULL && (progress < Q2_PROGRESS_2A ||
                           Q2_PLANTED (Q2_PLANT_REWRITE_DOUBTFUL_TABLE)))
    rc->moved = true;
  else
    rc->header_due = true;
}

void
q2_refcounts_end_gather_locked (struct q2_refcounts *rc,
                                struct q2_refcounts_dirty *d,
                                enum q2_commit_progress progress)
{
  const size_t unit = SECTOR_ENTRIES * 8;
  const bool linked = progress >= Q2_PROGRESS_2B;

  if (d->header && !linked)
    name_again (rc, d, progress);
  if (d->table != NULL && progress == Q2_PROGRESS_2B &&
      Q2_PLANTED (Q2_PLANT_REWRITE_LIVE_TABLE))
    rc->moved = true;
  for (size_t i = 0; !linked && !rc->moved && i < d->sectors.nr; ++i)
    make_entry_dirty (rc, (d->sectors.host_off[i] - rc->table_host_off) /
                      unit * SECTOR_ENTRIES);
  q2_cache_end_gather (rc->cache, &d->slices, progress >= Q2_PROGRESS_2A);
  free_dirty (d);
  check_state (rc);
}
