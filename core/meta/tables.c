/* SPDX-License-Identifier: BSD-3-Clause */
/* tables.c - residency of the L1 table, and L2 entries by index.
 *
 * Owns      the L1 table, whole in memory (at most 32 MiB, and no more than
 *           the file holds of it), and the cache of L2 slices.
 * Method    an L2 lookup is an array access and a cache lookup.  On a miss
 *           the slice is read, or as much of the table as the caller is
 *           going to ask for.
 * Locks     the L1 table is constant after construction; the rest is the
 *           cache's business.
 */
#include "config.h"

#include "meta/tables.h"

#include "format/l2e.h"

#include "base/be.h"
#include "base/bits.h"
#include "base/error.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Small enough that a terabyte of scattered clusters fits in the default
 * cache, large enough that its bookkeeping is small beside it and that a
 * slice maps 32 MiB of 64 KiB clusters.
 */
#define SLICE_SIZE 4096

struct q2_tables {
  const struct q2_geometry *geo;
  uint64_t *l1;                 /* in CPU byte order */
  uint32_t l1_entries;
  uint64_t file_size;
  struct q2_cache *cache;
};

static int
load_l1 (struct q2_tables *t, const struct q2_io *io, uint64_t l1_host_off,
         struct qcow2_error *err)
{
  const uint64_t bytes = (uint64_t) t->l1_entries * 8;
  uint64_t inside = 0;

  /* calloc, and only reading what the file has, keeps a table that a
   * hostile header declares from taking memory.
   */
  t->l1 = calloc (t->l1_entries + 1, 8);
  if (t->l1 == NULL)
    return q2_fail_nomem (err, "the L1 table");
  if (l1_host_off < io->file_size)
    inside = q2_min (bytes, q2_align_up (io->file_size - l1_host_off, 8));
  if (q2_io_read (io, t->l1, inside, l1_host_off, QCOW2_IO_L1, err) == -1)
    return -1;
  for (uint64_t i = 0; i < inside / 8; ++i)
    t->l1[i] = load_be64 (&t->l1[i]);
  return 0;
}

/* No more than what all L2 tables of the disk take together. */
static uint64_t
useful_cache_bytes (const struct q2_geometry *geo, uint64_t cache_bytes)
{
  return q2_min (cache_bytes, q2_max (geo->l1_needed, 1) *
                 geo->l2_table_size);
}

struct q2_tables *
q2_tables_new (const struct q2_geometry *geo, const struct q2_io *io,
               uint64_t l1_host_off, uint32_t l1_entries,
               uint64_t cache_bytes, struct qcow2_error *err)
{
  struct q2_tables *t = calloc (1, sizeof *t);

  assert (l1_entries >= geo->l1_needed);
  assert ((uint64_t) l1_entries * 8 <= Q2_MAX_L1_BYTES);
  if (t == NULL) {
    q2_fail_nomem (err, "the L1 table");
    return NULL;
  }
  t->geo = geo;
  /* Entries past the disk (saved VM state) are not ours to read. */
  t->l1_entries = (uint32_t) geo->l1_needed;
  t->file_size = io->file_size;
  if (load_l1 (t, io, l1_host_off, err) == -1)
    goto fail;
  t->cache = q2_cache_new (useful_cache_bytes (geo, cache_bytes),
                           q2_min (geo->l2_table_size, SLICE_SIZE), err);
  if (t->cache == NULL)
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
  free (t->l1);
  free (t);
}

const struct q2_geometry *
q2_tables_geometry (const struct q2_tables *t)
{
  return t->geo;
}

bool
q2_tables_l1_is_empty (const struct q2_tables *t, uint64_t l1_index)
{
  assert (l1_index < t->l1_entries);
  return q2_l1e_table (t->geo, t->l1[l1_index]) == 0;
}

uint64_t
q2_tables_l2_entry_off (const struct q2_tables *t, uint64_t l1_index,
                        uint64_t l2_index)
{
  return q2_l1e_table (t->geo, t->l1[l1_index]) +
    (l2_index << t->geo->entry_bits);
}

int
q2_tables_read_l2 (struct q2_tables *t, const struct q2_io *io,
                   uint64_t l1_index, uint64_t l2_index, uint64_t count,
                   void *buf, size_t size, uint64_t *ret_count,
                   struct qcow2_error *err)
{
  const struct q2_geometry *const geo = t->geo;
  const uint64_t table = q2_l1e_table (geo, t->l1[l1_index]);
  const size_t slice_size = q2_cache_slice_size (t->cache);
  const size_t in_table = l2_index << geo->entry_bits;
  const size_t skip = in_table & (slice_size - 1);
  size_t len, ahead;

  assert (l1_index < t->l1_entries && table != 0);
  len = q2_min (q2_min (count << geo->entry_bits, size), slice_size - skip);
  len = q2_align_down (len, UINT64_C (1) << geo->entry_bits);
  *ret_count = len >> geo->entry_bits;

  /* Version 1 has no alignment rule for tables. */
  if (table > INT64_MAX ||
      (geo->version > 1 && !q2_is_aligned (table, geo->table_align)))
    return q2_fail (err, QCOW2_ERR_CORRUPT, table,
                    "L1 entry %" PRIu64 " points to an L2 table at offset "
                    "0x%" PRIx64 ", where no table can be; check the image "
                    "with 'qemu-img check'", l1_index, table);
  if (table >= t->file_size) {
    memset (buf, 0, len);
    return 0;
  }
  ahead = q2_align_up (skip + (count << geo->entry_bits), slice_size);
  ahead = q2_min (ahead, geo->l2_table_size - (in_table - skip));
  return q2_cache_read (t->cache, io, table + in_table, skip, buf, len,
                        ahead, err);
}
