/* SPDX-License-Identifier: BSD-3-Clause */
/* metadata.c - where the metadata of an image is, for the overlap check.
 *
 * Owns      filling the set of meta/overlap.h when an image is going to be
 *           written to; refcount blocks are added by alloc/space.c.
 * Method    everything that the header and the L1 table in memory point to,
 *           and the tables of snapshots; the L2 tables of snapshots have to
 *           be looked for in the file, so only if all was asked for.
 * Locks     none: the set is not in use yet.
 */
#include "config.h"

#include "engine/writer.h"

#include "meta/snapshots.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

/* A sane image does not come near this; one that lies could keep us busy for
 * hours.
 */
#define MAX_SNAPSHOT_CLUSTERS (UINT64_C (4) << 20)

struct adding {
  struct q2_writer *w;
  const struct q2_io *io;
  uint64_t clusters;            /* of snapshots, so far */
};

/* A table that is going to be written to must be in the file, or a commit
 * would have to make the file grow, and be no other entry's.
 */
static int
add_l2_table (struct q2_writer *w, const struct q2_io *io, uint64_t table,
              struct qcow2_error *err)
{
  const uint64_t size = w->geo->cluster_size;

  if (!q2_is_aligned (table, size) || table >= q2_io_size (io) ||
      q2_overlap_class (w->overlap, table) == Q2_META_L2)
    return q2_fail (err, QCOW2_ERR_CORRUPT, table,
                    "there is an L2 table at offset 0x%" PRIx64 " that is "
                    "not aligned, not in the file, or used twice; repair the "
                    "image with 'qemu-img check -r all'", table);
  if (q2_overlap_add (w->overlap, table, size, Q2_META_L2, err) == -1)
    return -1;
  return q2_io_grow (io, table + size, err);
}

static int
add_l2_tables (struct q2_writer *w, const struct q2_io *io,
               struct qcow2_error *err)
{
  const struct q2_geometry *const geo = w->geo;

  for (uint64_t i = 0; i < geo->l1_needed; ++i) {
    const uint64_t l1e = q2_tables_l1_entry (w->tables, i);
    const uint64_t table = q2_l1e_table (geo, l1e);

    /* One that is shared is not written to but copied. */
    if (table != 0 && (l1e & Q2_ENTRY_COPIED) &&
        add_l2_table (w, io, table, err) == -1)
      return -1;
  }
  return 0;
}

/* ---- Snapshots ------------------------------------------------------ */

static int
add_inactive_l2 (struct adding *a, const struct q2_snapshot *s,
                 struct qcow2_error *err)
{
  const struct q2_geometry *const geo = a->w->geo;
  const uint64_t bytes = (uint64_t) s->l1_entries * 8;
  Q2_CLEANUP_FREE unsigned char *l1 = malloc (bytes + 1);

  if (l1 == NULL)
    return q2_fail_nomem (err, "the L1 table of a snapshot");
  if (q2_io_read (a->io, l1, bytes, s->l1_offset, QCOW2_IO_L1, err) == -1)
    return -1;
  for (uint32_t i = 0; i < s->l1_entries; ++i) {
    const uint64_t table =
      q2_l1e_table (geo, load_be64 (l1 + 8 * (size_t) i));

    if (table != 0 && q2_is_aligned (table, geo->cluster_size) &&
        q2_overlap_add (a->w->overlap, table, geo->cluster_size,
                        Q2_META_INACTIVE_L2, err) == -1)
      return -1;
  }
  return 0;
}

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
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, host_off,
                    "the snapshots of the image have L1 tables of more than "
                    "%" PRIu64 " clusters; serve it with 'nbdkit -r', or "
                    "delete snapshots", MAX_SNAPSHOT_CLUSTERS);
  if (q2_overlap_add (a->w->overlap, s->l1_offset, bytes,
                      Q2_META_INACTIVE_L1, err) == -1)
    return -1;
  return a->w->overlap_check == QCOW2_OVERLAP_ALL
    ? add_inactive_l2 (a, s, err) : 0;
}

static int
add_snapshots (struct q2_writer *w, const struct q2_io *io,
               struct qcow2_error *err)
{
  struct adding a = { w, io, 0 };
  uint64_t bytes;

  if (w->header.nr_snapshots == 0)
    return 0;
  if (q2_snapshots_walk (io, &w->header, w->geo, add_snapshot, &a, &bytes,
                         err) == -1)
    return -1;
  return q2_overlap_add (w->overlap, w->header.snapshots_offset, bytes,
                         Q2_META_SNAPSHOT_TABLE, err);
}

int
q2_writer_add_metadata (struct q2_writer *w, const struct q2_io *io,
                        struct qcow2_error *err)
{
  const struct q2_header *const h = &w->header;
  struct q2_overlap *const o = w->overlap;

  if (q2_overlap_add (o, 0, w->geo->cluster_size, Q2_META_HEADER, err) == -1
      || q2_overlap_add (o, h->l1_offset, (uint64_t) h->l1_entries * 8,
                         Q2_META_L1, err) == -1 ||
      q2_overlap_add (o, h->refcount_table_offset,
                      (uint64_t) h->refcount_table_clusters <<
                      w->geo->cluster_bits, Q2_META_REFCOUNT_TABLE, err)
      == -1 ||
      q2_overlap_add (o, h->luks_offset, h->luks_bytes,
                      Q2_META_ENCRYPTION_HEADER, err) == -1 ||
      add_l2_tables (w, io, err) == -1)
    return -1;
  return add_snapshots (w, io, err);
}
