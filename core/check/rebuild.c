/* SPDX-License-Identifier: BSD-3-Clause */
/* rebuild.c - a new refcount table and new refcount blocks.
 *
 * Owns      where they go, what they have, and the switch.
 * Method    the table, then its blocks, behind all that is in use, so that
 *           nothing that exists is written to.  Their own refcounts are among
 *           what they have, those of the old table and the old blocks are not.
 *           When all of that is durable one write of 12 bytes of the header
 *           names the new table.  A crash leaves the old refcounts, with a
 *           longer file, or the new ones.
 *           While references may have been missed no refcount becomes lower,
 *           and where the old ones are not known each cluster of the file has
 *           one: space is lost, and nothing else.
 * Locks     none; see check.c.
 * Spec      "Reference counts".
 */
#include "config.h"

#include "check/rebuild.h"

#include "format/refcount_bits.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/plant.h"

#include <stdlib.h>
#include <string.h>

#define MAX_BLOCKS (Q2_MAX_REFCOUNT_TABLE_BYTES / 8)
#define NEEDED UINT64_C (1)     /* in the place of a block's offset */

int
q2_rebuild_init (struct q2_rebuild *rb, const struct q2_geometry *geo,
                 bool keep, struct qcow2_error *err)
{
  *rb = (struct q2_rebuild) {
    .keep = keep, .blocks = calloc (MAX_BLOCKS, sizeof *rb->blocks),
    .buf = q2_buffer_alloc (geo->cluster_size),
    .buf_size = geo->cluster_size,
  };
  if (rb->blocks != NULL && rb->buf != NULL)
    return 0;
  q2_rebuild_free (rb);
  return q2_fail_nomem (err, "a new refcount table");
}

void
q2_rebuild_free (struct q2_rebuild *rb)
{
  free (rb->blocks);
  q2_buffer_free (rb->buf, rb->buf_size);
  *rb = (struct q2_rebuild) { 0 };
}

/* ---- Which blocks are needed ------------------------------------------ */

/* All of them are going to be written, which is work, too. */
static int
need_block (struct q2_rebuild *rb, struct q2_repair_job *j, uint64_t idx,
            struct qcow2_error *err)
{
  if (idx >= MAX_BLOCKS)
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                           QCOW2_NO_OFFSET,
                           "the image uses offsets for which there would "
                           "have to be a refcount table larger than 8 MiB");
  rb->nr_blocks = q2_max (rb->nr_blocks, idx + 1);
  if (rb->blocks[idx] != 0)
    return 0;
  rb->blocks[idx] = NEEDED;
  return q2_work_do (&j->r->recount.work, j->geo->cluster_size / 8, err);
}

/* Whether there are old refcounts, and the host can read them. */
static bool
has_known (const struct q2_repair_job *j, uint64_t idx)
{
  return q2_repair_has_block (j, idx) && !q2_repair_is_unread (j, idx);
}

/* Whether some cluster has an old refcount that has to be kept. */
static int
needs_old (struct q2_rebuild *rb, struct q2_repair_job *j, uint64_t idx,
           struct qcow2_error *err)
{
  const uint64_t size = j->geo->cluster_size;

  if (rb->blocks[idx] != 0)
    return 0;
  if (!has_known (j, idx))
    return need_block (rb, j, idx, err);
  if (q2_repair_is_hole (j, idx))
    return 0;
  if (q2_work_do (&j->r->recount.work, size / 8, err) == -1 ||
      q2_repair_read_block (j, idx, err) == -1)
    return -1;
  if (q2_all_are (j->buf, 0, size))
    return 0;
  return need_block (rb, j, idx, err);
}

int
q2_rebuild_note (struct q2_rebuild *rb, struct q2_repair_job *j,
                 struct qcow2_error *err)
{
  const unsigned bits = j->geo->refblock_bits;
  const struct q2_recount *const recount = &j->r->recount;
  const uint64_t stop = q2_min (recount->stop,
                                q2_repair_file_end (j->io, j->geo));

  for (uint64_t c = q2_counts_next_used (j->counts, recount->begin);
       c < recount->stop;
       c = q2_counts_next_used (j->counts, ((c >> bits) + 1) << bits))
    if (need_block (rb, j, c >> bits, err) == -1)
      return -1;
  if (!rb->keep)
    return 0;
  for (uint64_t c = recount->begin; c < stop;
       c = ((c >> bits) + 1) << bits)
    if (c >> bits < MAX_BLOCKS ? needs_old (rb, j, c >> bits, err) == -1
        : need_block (rb, j, c >> bits, err) == -1)
      return -1;
  return 0;
}

/* ---- Room ------------------------------------------------------------- */

static uint64_t
count_needed (const struct q2_rebuild *rb)
{
  uint64_t n = 0;

  for (uint64_t i = 0; i < rb->nr_blocks; ++i)
    n += rb->blocks[i] != 0;
  return n;
}

/* What is new needs blocks, too, and they a longer table. */
static int
find_size (struct q2_rebuild *rb, struct q2_repair_job *j,
           struct qcow2_error *err)
{
  uint64_t before;

  do {
    before = rb->end;
    rb->table_clusters = q2_ceil_shift (rb->nr_blocks * 8,
                                        j->geo->cluster_bits);
    rb->end = rb->first + rb->table_clusters + count_needed (rb);
    for (uint64_t c = rb->first; c < rb->end; ++c)
      if (need_block (rb, j, q2_repair_block_of (j, c), err) == -1)
        return -1;
  } while (rb->end != before);
  return 0;
}

/* Where so many clusters have room, from 'first' on, beside what is said to be
 * a refcount table or block, and perhaps cannot be.
 */
static uint64_t
find_gap (const struct q2_repair *r, uint64_t first, uint64_t nr)
{
  for (size_t i = 0; i < r->nr_named && r->named[i] < first + nr; ++i)
    if (r->named[i] >= first)
      first = r->named[i] + 1;
  return first;
}

static int
find_room (struct q2_rebuild *rb, struct q2_repair_job *j, uint64_t first,
           struct qcow2_error *err)
{
  rb->first = first;
  for (;;) {
    rb->end = 0;
    if (find_size (rb, j, err) == -1 ||
        q2_work_do (&j->r->recount.work, j->r->nr_named + 1, err) == -1)
      return -1;
    first = find_gap (j->r, rb->first, rb->end - rb->first);
    if (first == rb->first)
      return 0;
    rb->first = first;
  }
}

int
q2_rebuild_place (struct q2_rebuild *rb, struct q2_repair_job *j,
                  uint64_t end, struct qcow2_error *err)
{
  const unsigned bits = j->geo->cluster_bits;
  uint64_t next;

  if (rb->keep)
    end = q2_max (end, q2_repair_file_end (j->io, j->geo));
  if (find_room (rb, j, end, err) == -1)
    return -1;
  if (!q2_assume (rb->first >= end && rb->table_clusters << bits <=
                  Q2_MAX_REFCOUNT_TABLE_BYTES, err))
    return -1;
  next = (rb->first + rb->table_clusters) << bits;
  for (uint64_t i = 0; i < rb->nr_blocks; ++i)
    if (rb->blocks[i] != 0) {
      rb->blocks[i] = next;
      next += j->geo->cluster_size;
      if (Q2_PLANTED (Q2_PLANT_REBUILD_IN_PLACE) && q2_repair_has_block (j, i))
        rb->blocks[i] = j->r->blocks[i];
    }
  if (!q2_assume (next == rb->end << bits, err))
    return -1;
  return rb->end << bits > q2_io_size (j->io)
    ? q2_io_grow (j->io, rb->end << bits, err) : 0;
}

/* ---- Writing ---------------------------------------------------------- */

static uint64_t
new_value (const struct q2_rebuild *rb, const struct q2_repair_job *j,
           uint64_t cluster, bool known)
{
  const uint64_t count = q2_repair_counted (j, cluster);
  const bool shared =
    q2_counts_get (j->counts, cluster).flags & Q2_COUNT_PLAIN;
  const uint64_t i = cluster & ((UINT64_C (1) << j->geo->refblock_bits) - 1);

  if (cluster >= rb->first && cluster < rb->end)
    return 1;
  if (!rb->keep || cluster >= q2_repair_file_end (j->io, j->geo))
    return count;
  if (known)
    return q2_max (count, q2_refcount_get (j->buf, j->geo->refcount_order,
                                           i));
  /* An entry says that somebody else has it, too, who was not found. */
  return q2_max (count, q2_min (shared ? 2 : 1, q2_repair_max_count (j)));
}

/* What the job's window has of a block. */
static int
fill_block (struct q2_rebuild *rb, struct q2_repair_job *j, uint64_t idx,
            struct qcow2_error *err)
{
  const uint64_t first = idx << j->geo->refblock_bits;
  const uint64_t end = (idx + 1) << j->geo->refblock_bits;
  const bool known = rb->keep && has_known (j, idx);
  const struct q2_recount *const recount = &j->r->recount;

  /* EDIT-8: all that is new lies where it was placed. */
  if (!q2_assume (Q2_PLANTED (Q2_PLANT_REBUILD_IN_PLACE) ||
                  (rb->blocks[idx] >= rb->first << j->geo->cluster_bits &&
                   rb->blocks[idx] < rb->end << j->geo->cluster_bits), err))
    return -1;
  if (known && q2_repair_read_block (j, idx, err) == -1)
    return -1;
  if (recount->begin <= first)
    memset (rb->buf, 0, rb->buf_size);
  else if (q2_io_read (j->io, rb->buf, rb->buf_size, rb->blocks[idx],
                       QCOW2_IO_REFCOUNT, err) == -1)
    return -1;
  for (uint64_t c = q2_max (first, recount->begin);
       c < q2_min (end, recount->stop); ++c)
    q2_refcount_set (rb->buf, j->geo->refcount_order, c - first,
                     new_value (rb, j, c, known));
  return q2_io_write (j->io, rb->buf, rb->buf_size, rb->blocks[idx],
                      QCOW2_IO_REFCOUNT, err);
}

int
q2_rebuild_fill (struct q2_rebuild *rb, struct q2_repair_job *j,
                 struct qcow2_error *err)
{
  const struct q2_recount *const recount = &j->r->recount;

  for (uint64_t i = q2_repair_block_of (j, recount->begin);
       i < rb->nr_blocks && i << j->geo->refblock_bits < recount->stop; ++i)
    if (rb->blocks[i] != 0 && fill_block (rb, j, i, err) == -1)
      return -1;
  return 0;
}

static int
write_table (const struct q2_rebuild *rb, const struct q2_repair_job *j,
             struct qcow2_error *err)
{
  const uint64_t per_cluster = rb->buf_size / 8;

  if (!q2_assume (rb->nr_blocks <= rb->table_clusters * per_cluster &&
                  rb->table_clusters * per_cluster <= MAX_BLOCKS, err))
    return -1;
  for (uint64_t c = 0; c < rb->table_clusters; ++c) {
    for (uint64_t i = 0; i < per_cluster; ++i)
      store_be64 (rb->buf + 8 * i, rb->blocks[c * per_cluster + i]);
    if (q2_io_write (j->io, rb->buf, rb->buf_size,
                     (rb->first + c) << j->geo->cluster_bits,
                     QCOW2_IO_REFCOUNT, err) == -1)
      return -1;
  }
  return 0;
}

int
q2_rebuild_switch (struct q2_rebuild *rb, struct q2_repair_job *j,
                   struct q2_superblock *sb, struct qcow2_error *err)
{
  struct q2_superblock_edit edit;
  bool durable;

  if (write_table (rb, j, err) == -1 ||
      (!Q2_PLANTED (Q2_PLANT_EARLY_SWITCH) &&
       q2_io_flush (j->io, err) == -1))
    return -1;
  q2_superblock_begin (sb, &edit);
  edit.header.refcount_table_offset = rb->first << j->geo->cluster_bits;
  edit.header.refcount_table_clusters = (uint32_t) rb->table_clusters;
  durable =
    q2_superblock_write (&edit, j->io, Q2_SPAN_REFCOUNT_TABLE, err) == 0 &&
    q2_io_flush (j->io, err) == 0;
  q2_superblock_end (&edit, durable);
  return durable ? 0 : -1;
}
