/* SPDX-License-Identifier: BSD-3-Clause */
/* refcounts_commit.c - how refcounts, and the table, are written.
 *
 * Owns      what a commit copies of them, and what counts as changed again if
 *           it fails.
 * Method    steps 1, 2a and 2b of docs/ORDERING.md.  A table that has moved is
 *           written as a whole, once (ORDER-2).
 * Locks     the owner's, but not while anything is written: see refcounts.h.
 */
#include "config.h"

#include "alloc/refcounts_impl.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/error.h"
#include "base/plant.h"

#include <stdlib.h>
#include <string.h>

bool
q2_refcounts_is_dirty_locked (struct q2_refcounts *rc)
{
  return q2_cache_nr_dirty (rc->cache) > 0 || rc->nr_sectors_dirty > 0 ||
    rc->moved || rc->header_due || q2_ahead_is_any_locked (rc);
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
  const size_t unit = Q2_SECTOR_ENTRIES * 8;

  if (q2_dirty_init (d, rc->nr_sectors_dirty, unit, err) == -1)
    return -1;
  if (rc->nr_sectors_dirty == 0)
    return 0;
  for (uint64_t s = 0; s < rc->table_entries / Q2_SECTOR_ENTRIES; ++s)
    if (rc->sector_dirty[s]) {
      copy_entries (rc, d->bytes + d->nr * unit, s * Q2_SECTOR_ENTRIES,
                    Q2_SECTOR_ENTRIES);
      d->host_off[d->nr++] = rc->table_host_off + s * unit;
    }
  return q2_assume (d->nr == rc->nr_sectors_dirty, err) ? 0 : -1;
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
                            struct q2_cover *next,
                            struct q2_refcounts_dirty *d,
                            struct qcow2_error *err)
{
  q2_refcounts_check_locked (rc);
  *d = (struct q2_refcounts_dirty) {
    .table_host_off = rc->table_host_off,
    .table_clusters = rc->table_clusters,
  };
  q2_ahead_begin_locked (rc, next);
  if (gather_table (rc, d, err) == -1 ||
      q2_cache_gather (rc->cache, &d->slices, err) == -1) {
    free_dirty (d);
    return -1;
  }
  q2_ahead_gather_locked (rc, next, d);
  d->header = rc->moved || rc->header_due;
  d->nr_old = d->header ? rc->nr_old : 0;
  memset (rc->sector_dirty, 0, rc->table_entries / Q2_SECTOR_ENTRIES);
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
  /* ORDER-2: as a whole only as long as nothing names it. */
  if (!q2_assume (d->header && d->sectors.nr == 0, err))
    return -1;
  return q2_io_write (io, d->table,
                      (uint64_t) d->table_clusters << rc->geo->cluster_bits,
                      d->table_host_off, QCOW2_IO_REFCOUNT, err);
}

int
q2_refcounts_write_links (const struct q2_refcounts_dirty *d,
                          struct q2_superblock_edit *edit,
                          const struct q2_io *io, struct qcow2_error *err)
{
  if (q2_dirty_write (&d->sectors, Q2_SECTOR_ENTRIES * 8, UINT64_MAX, io,
                      QCOW2_IO_REFCOUNT, err) == -1)
    return -1;
  if (!d->header)
    return 0;
  if (!q2_assume (d->table_host_off != 0 && d->table_clusters > 0, err))
    return -1;
  edit->header.refcount_table_offset = d->table_host_off;
  edit->header.refcount_table_clusters = d->table_clusters;
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
  const size_t unit = Q2_SECTOR_ENTRIES * 8;
  const bool linked = progress >= Q2_PROGRESS_2B;

  if (d->header && !linked)
    name_again (rc, d, progress);
  if (d->table != NULL && progress == Q2_PROGRESS_2B &&
      Q2_PLANTED (Q2_PLANT_REWRITE_LIVE_TABLE))
    rc->moved = true;
  for (size_t i = 0; !linked && !rc->moved && i < d->sectors.nr; ++i)
    q2_refcounts_make_entry_dirty_locked
      (rc, (d->sectors.host_off[i] - rc->table_host_off) / unit *
       Q2_SECTOR_ENTRIES);
  q2_cache_end_gather (rc->cache, &d->slices, progress >= Q2_PROGRESS_2A);
  q2_ahead_end_locked (rc, d, progress >= Q2_PROGRESS_2A);
  free_dirty (d);
  q2_refcounts_check_locked (rc);
}
