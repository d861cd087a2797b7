/* SPDX-License-Identifier: BSD-3-Clause */
/* compare.c - compares the refcounts of an image with what was counted.
 *
 * Owns      what a refcount should be, and reporting those that are not.
 * Method    each refcount block is read and corrected in memory, which tells
 *           how much there is to do; doing it is for later (repair_write.c).
 *           Blocks that are holes have counts of 0, so only clusters in use
 *           are looked at.
 * Locks     none; the image does not change meanwhile.
 * Spec      "Reference counts".
 */
#include "config.h"

#include "check/repair_job.h"

#include "format/refcount_bits.h"

#include "base/bits.h"

#include <inttypes.h>

/* Larger tables of refcount blocks are asked for holes: no block of a sound
 * image is one, but a sparse file can claim a million of them.
 */
#define FEW_BLOCKS 1024

/* ---- One refcount ------------------------------------------------------ */

static uint64_t
counted (const struct q2_repair_job *j, uint64_t cluster)
{
  const uint64_t count = q2_counts_get (j->counts, cluster).count;

  /* More than that only in a check, which has said so. */
  return q2_min (count, q2_repair_max_count (j));
}

/* What becomes of a refcount. */
static uint64_t
corrected (const struct q2_repair_job *j, uint64_t old, uint64_t count)
{
  if (old > count ? j->r->never_lower : j->r->never_raise)
    return old;
  return count;
}

/* Flags are judged by the refcounts that the image has. */
static void
note_odd (const struct q2_repair_job *j, uint64_t cluster, uint64_t old,
          uint64_t count)
{
  if (j->r->recount.odd == NULL || (old == 1) == (count == 1))
    return;
  /* Without memory the flag is judged by what was counted. */
  if (q2_counts_add (j->r->recount.odd, cluster, 1, Q2_USE_DATA, 0, NULL)
      == Q2_COUNTS_OK)
    j->r->recount.flags_are_wrong = true;
}

/* A refcount that is not what was counted. */
static void
note_difference (struct q2_repair_job *j, uint64_t cluster, uint64_t old,
                 uint64_t count)
{
  const uint64_t host_off = cluster << j->geo->cluster_bits;
  struct qcow2_finding like = {
    .kind = QCOW2_FINDING_REFCOUNT, .host_off = host_off,
    .severity = old < count ? QCOW2_FINDING_CORRUPTION : QCOW2_FINDING_LEAK,
    .length = j->geo->cluster_size, .table_off = QCOW2_NO_OFFSET,
    .expected = count, .actual = old,
  };

  j->too_high += old > count;
  j->too_low += old < count;
  if (j->findings == NULL)
    return;
  note_odd (j, cluster, old, count);
  /* No space is lost that the file does not have. */
  if (old > count && host_off >= q2_io_size (j->io))
    like.severity = QCOW2_FINDING_WARNING;
  q2_find (j->findings, &like, "the cluster at offset 0x%" PRIx64 " has "
           "%" PRIu64 " users, but its refcount is %" PRIu64, host_off, count,
           old);
}

/* ---- Blocks ------------------------------------------------------------ */

bool
q2_repair_correct_block (struct q2_repair_job *j, uint64_t idx)
{
  const unsigned order = j->geo->refcount_order;
  const uint64_t first = idx << j->geo->refblock_bits;
  const uint64_t n = UINT64_C (1) << j->geo->refblock_bits;
  const uint64_t file_end = q2_ceil_shift (q2_io_size (j->io),
                                           j->geo->cluster_bits);
  bool changed = false;

  for (uint64_t i = 0; i < n; ++i) {
    const uint64_t old = q2_refcount_get (j->buf, order, i);
    const uint64_t count = counted (j, first + i);

    if (old != 0 && first + i < file_end)
      j->end = q2_max (j->end, first + i + 1);
    if (old == count)
      continue;
    note_difference (j, first + i, old, count);
    if (corrected (j, old, count) == old)
      continue;
    changed = true;
    q2_refcount_set (j->buf, order, i, count);
  }
  return changed;
}

int
q2_repair_read_block (struct q2_repair_job *j, uint64_t idx,
                      struct qcow2_error *err)
{
  return q2_io_read (j->io, j->buf, j->geo->cluster_size, j->r->blocks[idx],
                     QCOW2_IO_REFCOUNT, err);
}

bool
q2_repair_is_hole (const struct q2_repair_job *j, uint64_t idx)
{
  const uint64_t host_off = j->r->blocks[idx];
  const uint64_t end = host_off + j->geo->cluster_size;
  uint64_t start, stop;

  if (j->r->nr_blocks <= FEW_BLOCKS || j->io->host->ops->extents == NULL)
    return false;
  q2_io_next_data (j->io, host_off, end, &start, &stop);
  return start == end;
}

/* The first cluster >= 'cluster' that is used but has no refcount. */
uint64_t
q2_repair_next_uncovered (const struct q2_repair_job *j, uint64_t cluster)
{
  for (;;) {
    uint64_t idx;

    cluster = q2_counts_next_used (j->counts, cluster);
    idx = q2_repair_block_of (j, cluster);
    if (cluster == UINT64_MAX || !q2_repair_has_block (j, idx))
      return cluster;
    cluster = (idx + 1) << j->geo->refblock_bits;
  }
}

/* Clusters of a block that says 0 of all of them, or does not exist. */
static bool
compare_with_zero (struct q2_repair_job *j, uint64_t idx)
{
  const uint64_t end = (idx + 1) << j->geo->refblock_bits;
  uint64_t cluster = q2_counts_next_used (j->counts,
                                          idx << j->geo->refblock_bits);
  const bool changes = cluster < end;

  for (; cluster < end;
       cluster = q2_counts_next_used (j->counts, cluster + 1))
    note_difference (j, cluster, 0, counted (j, cluster));
  return changes;
}

/* ---- All of them ------------------------------------------------------- */

/* A check says what is missing for each cluster, a scan only how many blocks.
 */
static int
count_missing_blocks (struct q2_repair_job *j, struct qcow2_error *err)
{
  const uint64_t too_low = j->too_low;
  uint64_t cluster = q2_repair_next_uncovered (j, 0);

  while (cluster != UINT64_MAX) {
    const uint64_t idx = q2_repair_block_of (j, cluster);

    if (q2_work_do (&j->r->recount.work, Q2_RECOUNT_CLUSTER, err) == -1)
      return -1;
    j->r->info.missing_blocks++;
    if (j->findings)
      compare_with_zero (j, idx);
    cluster = q2_repair_next_uncovered (j,
                                        (idx + 1) << j->geo->refblock_bits);
  }
  j->too_low = too_low;
  return 0;
}

static int
compare_block (struct q2_repair_job *j, uint64_t idx, struct qcow2_error *err)
{
  struct q2_work *const work = &j->r->recount.work;
  const uint64_t entries = UINT64_C (1) << j->geo->refblock_bits;
  const uint64_t size = j->geo->cluster_size;

  if (q2_work_do (work, Q2_RECOUNT_CLUSTER, err) == -1)
    return -1;
  if (q2_repair_is_hole (j, idx))
    return compare_with_zero (j, idx) ? q2_work_do (work, size / 8, err) : 0;
  if (j->io->host->ops->extents != NULL)
    q2_work_allow (work, size * Q2_RECOUNT_PAID_BYTE);
  if (q2_work_do (work, entries, err) == -1)
    return -1;
  if (q2_repair_read_block (j, idx, err) == -1) {
    if (j->findings == NULL ||
        q2_find_error (j->findings, QCOW2_FINDING_UNREADABLE, err) == -1)
      return -1;
    j->findings->incomplete = true;
    return 0;
  }
  q2_repair_correct_block (j, idx);     /* to know how much there is to do */
  return 0;
}

int
q2_repair_compare (struct q2_repair_job *j, struct qcow2_error *err)
{
  for (uint64_t idx = 0; idx < j->r->nr_blocks; ++idx)
    if (q2_repair_has_block (j, idx) && compare_block (j, idx, err) == -1)
      return -1;
  if (count_missing_blocks (j, err) == -1)
    return -1;
  j->r->info.too_high = j->too_high;
  j->r->info.too_low = j->too_low;
  /* All of them are going to be written. */
  return q2_work_do (&j->r->recount.work,
                     q2_min (j->r->info.missing_blocks, UINT32_MAX) *
                     (j->geo->cluster_size / 8), err);
}
