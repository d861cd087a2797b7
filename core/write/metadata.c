/* SPDX-License-Identifier: BSD-3-Clause */
/* metadata.c - where the metadata of an image is, for the overlap check.
 *
 * Owns      filling the set of meta/overlap.h when an image is going to be
 *           written to; refcount blocks are added by alloc/space.c.
 * Method    everything that the header and the L1 table in memory point to,
 *           and the tables of snapshots.  What has to be looked for in those
 *           tables is found by protect.c.
 * Locks     none: the set is not in use yet.
 */
#include "config.h"

#include "write/writer.h"

#include "meta/snapshots.h"

#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>

/* A sane image does not come near this; one that lies could keep us busy for
 * hours.
 */
#define MAX_SNAPSHOT_CLUSTERS (UINT64_C (4) << 20)

struct adding {
  struct q2_writer *w;
  uint64_t clusters;            /* of snapshots, so far */
};

static int
fail_l2_table (uint64_t table, struct qcow2_error *err)
{
  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR, table,
                         "the L2 table at offset 0x%" PRIx64 " is not "
                         "aligned, not in the file, or used twice", table);
}

static bool
is_l2_table (struct q2_writer *w, uint64_t table)
{
  const enum q2_meta_class class = q2_overlap_class (w->overlap, table);

  return class == Q2_META_L2 || class == Q2_META_SHARED_L2;
}

/* A table that is going to be written to must be in the file, or a commit
 * would have to make the file grow, and be no other entry's.
 */
static int
add_l2_table (struct q2_writer *w, const struct q2_io *io, uint64_t table,
              struct qcow2_error *err)
{
  const uint64_t size = w->geo->cluster_size;

  if (!q2_is_aligned (table, size) || table >= q2_io_size (io) ||
      is_l2_table (w, table))
    return fail_l2_table (table, err);
  if (q2_overlap_add (w->overlap, table, size, Q2_META_L2, err) == -1)
    return -1;
  return q2_io_grow (io, table + size, err);
}

/* One that is not the disk's to change is copied, not written to; but what a
 * guest wrote there would become its entries.
 */
static int
add_shared_table (struct q2_writer *w, uint64_t table,
                  struct qcow2_error *err)
{
  const uint64_t size = w->geo->cluster_size;

  /* What it reads as is an error for those who do. */
  if (!q2_is_aligned (table, size))
    return 0;
  if (is_l2_table (w, table))
    return fail_l2_table (table, err);
  return q2_overlap_add (w->overlap, table, size, Q2_META_SHARED_L2, err);
}

static int
add_l2_tables (struct q2_writer *w, const struct q2_io *io,
               struct qcow2_error *err)
{
  const struct q2_geometry *const geo = w->geo;

  for (uint64_t i = 0; i < geo->l1_needed; ++i) {
    const uint64_t l1e = q2_tables_l1_entry (w->tables, i);
    const uint64_t table = q2_l1e_table (geo, l1e);

    if (table == 0)
      continue;
    if ((l1e & Q2_ENTRY_COPIED ? add_l2_table (w, io, table, err)
         : add_shared_table (w, table, err)) == -1)
      return -1;
  }
  return 0;
}

/* ---- Snapshots ------------------------------------------------------ */

static int
add_snapshot (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
              struct qcow2_error *err)
{
  struct adding *const a = opaque;
  const uint64_t bytes = (uint64_t) s->l1_entries * 8;

  if (q2_snapshot_check_l1 (a->w->geo, s, host_off, err) == -1)
    return -1;
  a->clusters += (bytes >> a->w->geo->cluster_bits) + 1;
  if (a->clusters > MAX_SNAPSHOT_CLUSTERS)
    return q2_fail_advise (err, QCOW2_ERR_UNSUPPORTED,
                           QCOW2_ADVICE_FEWER_SNAPSHOTS, host_off,
                           "the snapshots of the image have L1 tables of more "
                           "than %" PRIu64 " clusters",
                           MAX_SNAPSHOT_CLUSTERS);
  return q2_overlap_add (a->w->overlap, s->l1_offset, bytes,
                         Q2_META_INACTIVE_L1, err);
}

static int
add_snapshots (struct q2_writer *w, const struct q2_io *io,
               struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (w);
  struct adding a = { w, 0 };
  uint64_t bytes;

  if (h.nr_snapshots == 0)
    return 0;
  if (q2_snapshots_walk (io, &h, w->geo, add_snapshot, &a, &bytes, err) == -1)
    return -1;
  return q2_overlap_add (w->overlap, h.snapshots_offset, bytes,
                         Q2_META_SNAPSHOT_TABLE, err);
}

int
q2_writer_add_metadata (struct q2_writer *w, const struct q2_io *io,
                        struct qcow2_error *err)
{
  const struct q2_header h = q2_writer_header (w);
  struct q2_overlap *const o = w->overlap;

  if (q2_overlap_add (o, 0, w->geo->cluster_size, Q2_META_HEADER, err) == -1
      || q2_overlap_add (o, h.l1_offset, (uint64_t) h.l1_entries * 8,
                         Q2_META_L1, err) == -1 ||
      q2_overlap_add (o, h.refcount_table_offset,
                      (uint64_t) h.refcount_table_clusters <<
                      w->geo->cluster_bits, Q2_META_REFCOUNT_TABLE, err)
      == -1 ||
      q2_overlap_add (o, h.luks_offset, h.luks_bytes,
                      Q2_META_ENCRYPTION_HEADER, err) == -1 ||
      add_l2_tables (w, io, err) == -1)
    return -1;
  return add_snapshots (w, io, err);
}
