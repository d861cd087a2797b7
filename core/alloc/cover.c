/* SPDX-License-Identifier: BSD-3-Clause */
/* cover.c - refcount blocks and tables that are missing.
 *
 * Owns      where those are put.
 * Method    a block of refcounts that is missing is put into the first free
 *           cluster of those it is to cover, so that it covers itself, and so
 *           does a larger refcount table with its blocks: nothing else has to
 *           be allocated for that.
 * Locks     claim_lock is the caller's, so nobody else does the same;
 *           space.lock while the refcounts in memory change.
 */
#include "config.h"

#include "alloc/space_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>

/* Make sure that the clusters can be used for tables: nothing else is there,
 * they are in the file, and all of them is written, as zeros, so that what a
 * commit writes there later has its room (ORDER-10).
 */
static int
prepare_clusters (struct q2_space *s, const struct q2_io *io,
                  uint64_t cluster, uint64_t nr, struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;
  const uint64_t host_off = cluster << bits;

  if (q2_overlap_check (s->overlap, host_off, nr << bits, Q2_META_NONE, err)
      == -1 ||
      q2_io_grow (io, (cluster + nr) << bits, err) == -1)
    return -1;
  q2_mutex_lock (&s->lock);
  s->never_used = q2_max (s->never_used, cluster + nr);
  q2_mutex_unlock (&s->lock);
  return q2_io_write_zeros (io, nr << bits, host_off, QCOW2_IO_REFCOUNT, err);
}

/* How large a refcount table has to become to cover 'cluster', with blocks
 * for that and for the table itself put there, and to have entries for 'more'
 * clusters behind that:
 *
 *    cluster
 *    v
 *    | block | block | table | table | table | more ...
 *      covers the clusters from here on, itself among them
 */
struct growth {
  uint64_t first_block, blocks; /* that are new */
  uint64_t table_clusters;
};

/* With some room for more, but for no more than a file that cannot grow has:
 * it may have been made just as large as it has to be.
 */
static uint64_t
table_with_room (const struct q2_space *s, const struct q2_io *io)
{
  const uint64_t table = s->rc.table_clusters;
  const uint64_t blocks =
    q2_ceil_shift (q2_io_end (io),
                   s->geo->cluster_bits + s->geo->refblock_bits);

  return io->host->ops->grow != NULL ? table + table / 2 + 1
    : q2_min (table + table / 2 + 1,
              q2_ceil_shift (blocks * 8, s->geo->cluster_bits));
}

static struct growth
plan_growth (const struct q2_space *s, const struct q2_io *io,
             uint64_t cluster, uint64_t more)
{
  const unsigned bits = s->geo->refblock_bits;
  const uint64_t per_cluster = s->geo->cluster_size / 8;
  struct growth g = {
    .first_block = cluster >> bits, .blocks = 1,
    .table_clusters = q2_max (1, table_with_room (s, io)),
  };

  for (;;) {
    const uint64_t last = cluster + g.blocks + g.table_clusters - 1;
    const uint64_t blocks = (last >> bits) - g.first_block + 1;
    const uint64_t clusters =
      q2_max (g.table_clusters,
              (((last + more) >> bits) + per_cluster) / per_cluster);

    if (blocks == g.blocks && clusters == g.table_clusters)
      return g;
    g.blocks = blocks;
    g.table_clusters = clusters;
  }
}

static int
fail_too_large (uint64_t cluster, unsigned bits, struct qcow2_error *err)
{
  return q2_fail (err, QCOW2_ERR_NO_SPACE, cluster << bits,
                  "no space left: a refcount table that covers offset 0x%"
                  PRIx64 " would be larger than the format allows",
                  cluster << bits);
}

static int
grow_table (struct q2_space *s, const struct q2_io *io, uint64_t cluster,
            uint64_t more, struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;
  const struct growth g = plan_growth (s, io, cluster, more);
  const uint64_t used = g.blocks + g.table_clusters;
  const uint64_t table_off = (cluster + g.blocks) << bits;
  int r;

  if (g.table_clusters << bits > Q2_MAX_REFCOUNT_TABLE_BYTES)
    return fail_too_large (cluster, bits, err);
  /* It is larger, and the new blocks count themselves, and it. */
  if (!q2_assume (g.table_clusters > s->rc.table_clusters, err) ||
      !q2_assume ((cluster + used - 1) >> s->geo->refblock_bits <
                  g.first_block + g.blocks, err))
    return -1;
  if (prepare_clusters (s, io, cluster, used, err) == -1 ||
      q2_overlap_add (s->overlap, cluster << bits, g.blocks << bits,
                      Q2_META_REFCOUNT_BLOCK, err) == -1 ||
      q2_overlap_add (s->overlap, table_off, g.table_clusters << bits,
                      Q2_META_REFCOUNT_TABLE, err) == -1)
    return -1;
  q2_mutex_lock (&s->lock);
  if (!q2_refcounts_has_room_locked (&s->rc, used))
    r = Q2_SPACE_COMMIT_FIRST;
  else {
    r = q2_refcounts_move_table_locked (&s->rc, table_off,
                                        (uint32_t) g.table_clusters, err);
    if (r == 0)
      q2_refcounts_cover_locked (&s->rc, g.first_block, g.blocks,
                                 cluster << bits, cluster, used);
  }
  q2_mutex_unlock (&s->lock);
  if (r != 0)
    q2_overlap_remove (s->overlap, cluster << bits, used << bits);
  return r;
}

/* How many blocks are missing, one after the other, from the one of 'cluster'
 * on, of those that cover it, themselves put there, and 'more' clusters.
 */
static uint64_t
count_missing (const struct q2_space *s, uint64_t cluster, uint64_t more)
{
  const unsigned bits = s->geo->refblock_bits;
  const uint64_t first = cluster >> bits;
  uint64_t want = 1, nr = 1, last;

  while ((last = (cluster + want + more - 1) >> bits) - first + 1 > want)
    want = last - first + 1;
  while (nr < want && first + nr < s->rc.table_entries &&
         s->rc.table[first + nr] == 0)
    ++nr;
  return nr;
}

/* The entries that are going to name new blocks can be written. */
static int
make_solid_entries (struct q2_space *s, const struct q2_io *io,
                    uint64_t first_block, uint64_t nr,
                    struct qcow2_error *err)
{
  for (uint64_t i = 0; i < nr; ++i) {
    if (q2_refcounts_make_solid_entry (&s->rc, io, first_block + i, err)
        == -1)
      return -1;
  }
  return 0;
}

int
q2_space_cover_run (struct q2_space *s, const struct q2_io *io,
                    uint64_t cluster, uint64_t more, struct qcow2_error *err)
{
  const unsigned bits = s->geo->cluster_bits;
  const uint64_t block = cluster >> s->geo->refblock_bits;
  uint64_t nr;
  int r = 0;

  /* Only the thread that holds claim_lock changes the table. */
  if ((cluster + more) >> s->geo->refblock_bits >= s->rc.table_entries)
    return grow_table (s, io, cluster, more, err);
  if (!q2_assume (s->rc.table[block] == 0, err))
    return -1;
  nr = count_missing (s, cluster, more);
  if (!q2_assume (block + nr <= s->rc.table_entries, err))
    return -1;
  if (make_solid_entries (s, io, block, nr, err) == -1 ||
      prepare_clusters (s, io, cluster, nr, err) == -1 ||
      q2_overlap_add (s->overlap, cluster << bits, nr << bits,
                      Q2_META_REFCOUNT_BLOCK, err) == -1)
    return -1;
  q2_mutex_lock (&s->lock);
  if (!q2_refcounts_has_room_locked (&s->rc, nr))
    r = Q2_SPACE_COMMIT_FIRST;
  else
    q2_refcounts_cover_locked (&s->rc, block, nr, cluster << bits, cluster,
                               nr);
  q2_mutex_unlock (&s->lock);
  if (r != 0)
    q2_overlap_remove (s->overlap, cluster << bits, nr << bits);
  return r;
}

int
q2_space_cover (struct q2_space *s, const struct q2_io *io, uint64_t cluster,
                struct qcow2_error *err)
{
  return q2_space_cover_run (s, io, cluster, 0, err);
}
