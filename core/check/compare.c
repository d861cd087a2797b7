/* SPDX-License-Identifier: BSD-3-Clause */
/* compare.c - compares the refcounts of an image with what was counted.
 *
 * Owns      what a refcount should be, and reporting those that are not.
 * Method    each refcount block is read and corrected in memory, which tells
 *           how much there is to do; doing it is for later (repair_write.c).
 *           Blocks that are holes have counts of 0, so only clusters in use
 *           are looked at.  A check goes on after a block that the host cannot
 *           read, and says nothing about what it counts.
 * Locks     none; the image does not change meanwhile.
 * Spec      "Reference counts".
 */
#include "config.h"

#include "check/repair_job.h"

#include "format/refcount_bits.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>

/* Larger tables of refcount blocks are asked for holes: no block of a sound
 * image is one, but a sparse file can claim a million of them.
 */
#define FEW_BLOCKS 1024

/* ---- One refcount ------------------------------------------------------ */

/* What becomes of a refcount. */
static uint64_t
corrected (const struct q2_repair_job *j, uint64_t old, uint64_t count)
{
  if (old > count ? j->r->never_lower : j->r->never_raise)
    return old;
  return count;
}

/* Flags are judged by the refcounts that the image has.  False: there is no
 * memory left to note that, so the window ends here, and the next one will.
 */
static bool
note_odd (const struct q2_repair_job *j, uint64_t cluster, uint64_t old,
          uint64_t count)
{
  struct q2_recount *const recount = &j->r->recount;

  if (recount->odd == NULL || (old == 1) == (count == 1))
    return true;
  if (q2_counts_add (recount->odd, cluster, 1, Q2_USE_DATA, 0, NULL)
      == Q2_COUNTS_OK)
    recount->flags_are_wrong = true;
  else if (cluster > recount->begin) {
    recount->stop = cluster;
    return false;
  }
  return true;                  /* the flag is judged by what was counted */
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

  if (j->findings != NULL && !note_odd (j, cluster, old, count))
    return;
  j->too_high += old > count;
  j->too_low += old < count;
  if (j->findings == NULL)
    return;
  like.unsure = old > count &&
    (j->findings->incomplete || j->r->recount.begin > 0 ||
     j->r->recount.stop != UINT64_MAX);
  /* No space is lost that the file does not have. */
  if (old > count && host_off >= q2_io_size (j->io))
    like.severity = QCOW2_FINDING_WARNING;
  q2_find (j->findings, &like, "the cluster at offset 0x%" PRIx64 " has "
           "%" PRIu64 " users, but its refcount is %" PRIu64, host_off, count,
           old);
}

/* ---- Blocks ------------------------------------------------------------ */

/* How many refcounts of j->buf from 'i' on, at most 'max', are 'value'. */
static uint64_t
count_equal (const struct q2_repair_job *j, uint64_t i, uint64_t max,
             uint64_t value)
{
  const unsigned order = j->geo->refcount_order;
  uint64_t n = 0;

  if (order == 4) {             /* nearly all images */
    unsigned char two[2];

    store_be16 (two, (uint16_t) value);
    while (n < max && memcmp (j->buf + 2 * (i + n), two, 2) == 0)
      ++n;
  }
  else
    while (n < max && q2_refcount_get (j->buf, order, i + n) == value)
      ++n;
  return n;
}

/* Clusters that follow each other, and should have the same refcount. */
struct alike {
  uint64_t end, value;
};

/* The first cluster of [c, end) whose refcount, in j->buf from 'first' on, is
 * not what was counted, or 'end'.  'a' has what was found out before about the
 * clusters from 'c' on.
 */
static uint64_t
skip_equal (struct q2_repair_job *j, uint64_t first, uint64_t c, uint64_t end,
            struct alike *a)
{
  const uint64_t file_end = q2_repair_file_end (j->io, j->geo);

  while (c < end) {
    uint64_t max, n;

    if (c >= a->end) {
      struct q2_count counted;

      a->end = c + q2_counts_get_run (j->counts, c, end - c, &counted);
      a->value = q2_min (counted.count, q2_repair_max_count (j));
    }
    max = q2_min (a->end, end) - c;
    n = count_equal (j, c - first, max, a->value);
    if (n > 0 && a->value > 0 && c < file_end)
      j->end = q2_max (j->end, q2_min (c + n, file_end));
    c += n;
    if (n < max)
      break;
  }
  return c;
}

bool
q2_repair_correct_block (struct q2_repair_job *j, uint64_t idx)
{
  const unsigned order = j->geo->refcount_order;
  const struct q2_recount *const recount = &j->r->recount;
  const uint64_t first = idx << j->geo->refblock_bits;
  const uint64_t end = (idx + 1) << j->geo->refblock_bits;
  const uint64_t file_end = q2_repair_file_end (j->io, j->geo);
  struct alike alike = { 0, 0 };
  bool changed = false;

  for (uint64_t c = q2_max (first, recount->begin);
       (c = skip_equal (j, first, c, q2_min (end, recount->stop), &alike)) <
         q2_min (end, recount->stop); ++c) {
    const uint64_t old = q2_refcount_get (j->buf, order, c - first);
    const uint64_t count = q2_repair_counted (j, c);

    if (old != 0 && c < file_end)
      j->end = q2_max (j->end, c + 1);
    note_difference (j, c, old, count);
    if (corrected (j, old, count) == old)
      continue;
    q2_check (old > count ? !j->r->never_lower : !j->r->never_raise);
    changed = true;
    q2_refcount_set (j->buf, order, c - first, count);
  }
  return changed;
}

int
q2_repair_read_block (struct q2_repair_job *j, uint64_t idx,
                      struct qcow2_error *err)
{
  if (!q2_assume (q2_repair_has_block (j, idx), err))
    return -1;
  if (j->fetch != NULL &&
      q2_fetch_copy (j->fetch, j->buf, j->geo->cluster_size,
                     j->r->blocks[idx]))
    return 0;
  return q2_io_read (j->io, j->buf, j->geo->cluster_size, j->r->blocks[idx],
                     QCOW2_IO_REFCOUNT, err);
}

/* Whether the host is asked for holes. */
static bool
asks (const struct q2_repair_job *j)
{
  return j->r->nr_blocks > FEW_BLOCKS && j->io->host->ops->extents != NULL;
}

bool
q2_repair_is_hole (const struct q2_repair_job *j, uint64_t idx)
{
  const uint64_t host_off = j->r->blocks[idx];
  const uint64_t size = j->geo->cluster_size;
  const uint64_t end = host_off + size;
  const enum q2_fetched fetched =
    j->fetch ? q2_fetch_find (j->fetch, host_off, size) : Q2_FETCHED_NOT;
  uint64_t start, stop;

  if (!asks (j))
    return false;
  if (fetched != Q2_FETCHED_NOT)
    return fetched == Q2_FETCHED_HOLE;
  q2_io_next_data (j->io, host_off, end, &start, &stop);
  return start == end;
}

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

/* Clusters from 'cluster' on of a block that says 0 of all of them, or does
 * not exist.
 */
static bool
compare_with_zero (struct q2_repair_job *j, uint64_t idx)
{
  const struct q2_recount *const recount = &j->r->recount;
  const uint64_t end = (idx + 1) << j->geo->refblock_bits;
  uint64_t cluster =
    q2_counts_next_used (j->counts, q2_max (idx << j->geo->refblock_bits,
                                            recount->begin));
  const bool changes = cluster < q2_min (end, recount->stop);

  for (; cluster < q2_min (end, recount->stop);
       cluster = q2_counts_next_used (j->counts, cluster + 1))
    note_difference (j, cluster, 0, q2_repair_counted (j, cluster));
  return changes;
}

/* ---- All of them ------------------------------------------------------- */

/* A block that does not exist.  A check says what is missing for each cluster,
 * a scan only how many blocks.
 */
static int
compare_missing (struct q2_repair_job *j, uint64_t idx,
                 struct qcow2_error *err)
{
  const uint64_t too_low = j->too_low;

  if (q2_work_do (&j->r->recount.work, Q2_RECOUNT_CLUSTER, err) == -1)
    return -1;
  if (idx >= j->r->missing_end) {
    j->r->info.missing_blocks++;
    j->r->missing_end = idx + 1;
  }
  if (j->findings)
    compare_with_zero (j, idx);
  j->too_low = too_low;
  return 0;
}

/* The host cannot read a block.  All references are known nevertheless, but
 * no refcount of that block is, and a repair leaves it alone: see check.c.
 */
static int
take_unread (struct q2_repair_job *j, uint64_t idx, struct qcow2_error *err)
{
  if (q2_is_medium_fault (err)) {
    q2_find_unread_block (j->findings, j->geo, idx, j->r->blocks[idx], err);
    if (j->findings == NULL || !q2_assume (j->r->unread != NULL, err))
      return -1;
    j->r->unread[idx] = true;
    j->r->nr_unread++;
    return 0;
  }
  if (j->findings == NULL ||
      q2_find_error (j->findings, QCOW2_FINDING_UNREADABLE, err) == -1)
    return -1;
  j->findings->incomplete = true;
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
  if (q2_repair_is_unread (j, idx))     /* in a window before this one */
    return 0;
  if (q2_repair_is_hole (j, idx))
    return compare_with_zero (j, idx) ? q2_work_do (work, size / 8, err) : 0;
  if (j->io->host->ops->extents != NULL)
    q2_work_allow (work, size * Q2_RECOUNT_PAID_BYTE);
  if (q2_work_do (work, entries, err) == -1)
    return -1;
  if (q2_repair_read_block (j, idx, err) == -1)
    return take_unread (j, idx, err);
  q2_repair_correct_block (j, idx);     /* to know how much there is to do */
  return 0;
}

/* The first cluster >= 'cluster' that is used, if the window has one. */
static uint64_t
next_used (const struct q2_repair_job *j, uint64_t cluster)
{
  const uint64_t next = q2_counts_next_used (j->counts, cluster);

  return next < j->r->recount.stop ? next : UINT64_MAX;
}

/* Blocks from 'idx' on, as far as the window reaches now. */
static void
fetch_blocks (struct q2_repair_job *j, uint64_t idx)
{
  const uint64_t end =
    q2_min (j->r->nr_blocks, q2_ceil_shift (j->r->recount.stop,
                                            j->geo->refblock_bits));

  q2_fetch_clear (j->fetch);
  for (; idx < end; ++idx)
    if (q2_repair_has_block (j, idx) && !q2_repair_is_unread (j, idx) &&
        !q2_fetch_add (j->fetch, j->r->blocks[idx]))
      break;
  j->fetched_end = idx;
  q2_fetch_run (j->fetch, asks (j), QCOW2_IO_REFCOUNT);
}

/* In ascending order, because the window may become shorter. */
static int
compare_all (struct q2_repair_job *j, struct qcow2_error *err)
{
  const struct q2_recount *const recount = &j->r->recount;
  const unsigned bits = j->geo->refblock_bits;
  uint64_t idx = q2_repair_block_of (j, recount->begin);
  uint64_t used = next_used (j, recount->begin);

  if (j->r->table_unread)       /* there is nothing to compare with */
    return 0;
  while (idx < j->r->nr_blocks && idx << bits < recount->stop) {
    if (used < idx << bits)
      used = next_used (j, idx << bits);
    if (j->fetch != NULL && idx >= j->fetched_end)
      fetch_blocks (j, idx);
    if (q2_repair_has_block (j, idx) ? compare_block (j, idx, err) == -1
        : used >> bits == idx && compare_missing (j, idx, err) == -1)
      return -1;
    ++idx;
  }
  while ((used = next_used (j, q2_max (recount->begin, idx << bits))) !=
         UINT64_MAX) {
    idx = used >> bits;
    if (compare_missing (j, idx++, err) == -1)
      return -1;
  }
  return 0;
}

int
q2_repair_compare (struct q2_repair_job *j, struct qcow2_error *err)
{
  const uint64_t missing = j->r->info.missing_blocks;
  int r;

  if (!q2_assume (j->counts != NULL && j->too_high + j->too_low == 0, err))
    return -1;
  j->fetched_end = 0;
  j->fetch = q2_fetch_new (j->io, j->geo->cluster_size);
  r = compare_all (j, err);
  q2_fetch_free (j->fetch);
  j->fetch = NULL;
  if (r == -1)
    return -1;
  if (!q2_assume (j->r->recount.begin < j->r->recount.stop, err))
    return -1;
  j->r->info.too_high += j->too_high;
  j->r->info.too_low += j->too_low;
  /* All of them are going to be written. */
  return q2_work_do (&j->r->recount.work,
                     q2_min (j->r->info.missing_blocks - missing, UINT32_MAX) *
                     (j->geo->cluster_size / 8), err);
}
