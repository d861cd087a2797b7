/* SPDX-License-Identifier: BSD-3-Clause */
/* repair_write.c - corrects the refcounts of an image that was not closed.
 *
 * Owns      the order in which they are corrected, and where new refcount
 *           blocks and a new refcount table go.
 * Method    Until the very last step the dirty bit is set, so nobody relies
 *           on a refcount; what must hold all the time is only what a scan
 *           needs: every table is complete before something points to it, and
 *           nothing is written where the scan has found something.
 *             1. refcount blocks that exist, in place; missing ones, and a
 *                larger refcount table if the old one is too small, in
 *                clusters that nobody uses; flush
 *             2. entries of the refcount table for the new blocks, or the
 *                header's pointer to the new table, 12 bytes of one sector;
 *                flush
 *             3. COPIED flags; flush
 *             4. the dirty bit; flush
 * Locks     none; the image is not in use yet.
 * Spec      "Reference counts", dirty bit in "Header".
 */
#include "config.h"

#include "check/repair_job.h"

#include "format/l2e.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/plant.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

/* ---- Finding room ------------------------------------------------------ */

/* What is new, and so is not linked yet. */
struct plan {
  uint64_t table_off;           /* 0: the table stays */
  uint64_t table_clusters;
  bool *is_new;                 /* by index of a block */
};

static uint64_t
blocks_for (const struct q2_repair_job *j, uint64_t clusters)
{
  return q2_ceil_shift (clusters, j->geo->refblock_bits);
}

/* How many clusters a refcount table needs that has room for everything in
 * use, for the blocks that are missing and for itself, even if all that is
 * new goes to the end of the file; 0 if the present one will do.
 */
static uint64_t
size_new_table (const struct q2_repair_job *j)
{
  const uint64_t end = q2_max (q2_counts_end (j->counts), j->cursor);
  const uint64_t missing = j->r->info.missing_blocks;
  uint64_t last = 0, new_end = end, table = 0;

  while (new_end != last) {
    const uint64_t blocks = blocks_for (j, new_end);

    last = new_end;
    if (blocks > j->r->nr_blocks)
      table = q2_ceil_shift (blocks * 8, j->geo->cluster_bits);
    new_end = end + missing + (blocks - blocks_for (j, end)) + table;
  }
  return table;
}

static int
fail_add (enum q2_counts_result result, struct qcow2_error *err)
{
  if (!q2_assume (result == Q2_COUNTS_FULL || result == Q2_COUNTS_NOMEM, err))
    return -1;
  return q2_fail_nomem (err, "placing refcount blocks");
}

/* 'n' clusters next to each other that nobody uses: the first one. */
static int
place (struct q2_repair_job *j, uint64_t n, uint64_t *ret_cluster,
       struct qcow2_error *err)
{
  uint64_t cluster;

  if (!q2_assume (n > 0 && !j->r->never_raise, err))
    return -1;
  j->cursor = q2_counts_next_free (j->counts, j->cursor);
  cluster = j->cursor;
  for (;;) {
    const uint64_t next = q2_counts_next_used (j->counts, cluster);

    if (next - cluster >= n)
      break;
    cluster = q2_counts_next_free (j->counts, next);
  }
  if (!q2_assume (cluster > 0 && cluster >= j->r->first_free, err))
    return -1;
  *ret_cluster = cluster;
  for (uint64_t i = 0; i < n; ++i) {
    const enum q2_counts_result r =
      q2_counts_add (j->counts, cluster + i, 1, Q2_USE_META, 0, NULL);

    if (r != Q2_COUNTS_OK)
      return fail_add (r, err);
  }
  return 0;
}

static int
place_table (struct q2_repair_job *j, struct plan *plan,
             struct qcow2_error *err)
{
  struct q2_repair *const r = j->r;
  const uint64_t clusters = size_new_table (j);
  const uint64_t bytes = clusters << j->geo->cluster_bits;
  uint64_t *blocks, cluster;

  if (clusters == 0)
    return 0;
  if (bytes > Q2_MAX_REFCOUNT_TABLE_BYTES)
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                           QCOW2_NO_OFFSET,
                           "the image uses offsets for which there would "
                           "have to be a refcount table larger than 8 MiB");
  if (place (j, clusters, &cluster, err) == -1 ||
      !q2_assume (bytes >= r->nr_blocks * 8, err))
    return -1;
  blocks = realloc (r->blocks, bytes);
  if (blocks == NULL)
    return q2_fail_nomem (err, "a larger refcount table");
  r->blocks = blocks;
  memset (blocks + r->nr_blocks, 0, bytes - r->nr_blocks * 8);
  r->nr_blocks = bytes / 8;
  plan->table_off = cluster << j->geo->cluster_bits;
  plan->table_clusters = clusters;
  return 0;
}

/* A new block's own cluster may be one that has no refcount yet, in front of
 * where we are or behind: so it is done when nothing is left from the start.
 */
static int
place_blocks (struct q2_repair_job *j, struct plan *plan,
              struct qcow2_error *err)
{
  uint64_t uncovered = 0;

  plan->is_new = calloc (j->r->nr_blocks, sizeof *plan->is_new);
  if (plan->is_new == NULL)
    return q2_fail_nomem (err, "missing refcount blocks");
  while ((uncovered = q2_repair_next_uncovered (j, uncovered)) != UINT64_MAX ||
         (uncovered = q2_repair_next_uncovered (j, 0)) != UINT64_MAX) {
    const uint64_t idx = q2_repair_block_of (j, uncovered);
    uint64_t cluster;

    if (!q2_assume (idx < j->r->nr_blocks && !plan->is_new[idx], err))
      return -1;
    if (place (j, 1, &cluster, err) == -1)
      return -1;
    j->r->blocks[idx] = cluster << j->geo->cluster_bits;
    plan->is_new[idx] = true;
  }
  return 0;
}

/* The last thing that is in use must begin inside the file: what is new, or
 * the L1 table of a disk that was never written to.
 */
static int
make_room (const struct q2_repair_job *j, struct qcow2_error *err)
{
  const uint64_t end = q2_counts_end (j->counts);
  const unsigned bits = j->geo->cluster_bits;

  if ((end - 1) << bits < q2_io_size (j->io))
    return 0;
  return q2_io_grow (j->io, end << bits, err);
}

/* ---- Writing ----------------------------------------------------------- */

static int
write_bytes (struct q2_repair_job *j, const void *buf, uint64_t count,
             uint64_t host_off, enum qcow2_io_class class,
             struct qcow2_error *err)
{
  j->unflushed = true;
  return q2_io_write (j->io, buf, count, host_off, class, err);
}

static int
flush (struct q2_repair_job *j, struct qcow2_error *err)
{
  if (!j->unflushed)
    return 0;
  if (q2_io_flush (j->io, err) == -1)
    return -1;
  j->unflushed = false;
  return 0;
}

/* Whether any of the clusters that a block counts is in use. */
static bool
has_users (const struct q2_repair_job *j, uint64_t idx)
{
  return q2_counts_next_used (j->counts, idx << j->geo->refblock_bits) <
    (idx + 1) << j->geo->refblock_bits;
}

static bool
is_in_window (const struct q2_repair_job *j, uint64_t idx)
{
  return idx << j->geo->refblock_bits < j->r->recount.stop &&
    (idx + 1) << j->geo->refblock_bits > j->r->recount.begin;
}

static int
write_blocks (struct q2_repair_job *j, const struct plan *plan,
              struct qcow2_error *err)
{
  for (uint64_t idx = 0; idx < j->r->nr_blocks; ++idx) {
    bool changed;

    if (!q2_repair_has_block (j, idx) || !is_in_window (j, idx))
      continue;
    if (!plan->is_new[idx] && !has_users (j, idx) &&
        q2_repair_is_hole (j, idx))
      continue;                 /* nothing, as it should be */
    if (plan->is_new[idx])
      memset (j->buf, 0, j->geo->cluster_size);
    else if (q2_repair_read_block (j, idx, err) == -1)
      return -1;
    changed = q2_repair_correct_block (j, idx);
    if ((changed || plan->is_new[idx]) &&
        write_bytes (j, j->buf, j->geo->cluster_size, j->r->blocks[idx],
                     QCOW2_IO_REFCOUNT, err) == -1)
      return -1;
  }
  return 0;
}

static int
write_new_table (struct q2_repair_job *j, const struct plan *plan,
                 struct qcow2_error *err)
{
  const uint64_t per_cluster = j->geo->cluster_size / 8;

  if (!q2_assume (plan->table_clusters == 0 || plan->table_clusters *
                  per_cluster == j->r->nr_blocks, err))
    return -1;
  for (uint64_t c = 0; c < plan->table_clusters; ++c) {
    for (uint64_t i = 0; i < per_cluster; ++i)
      store_be64 (j->buf + 8 * i, j->r->blocks[c * per_cluster + i]);
    if (write_bytes (j, j->buf, j->geo->cluster_size,
                     plan->table_off + (c << j->geo->cluster_bits),
                     QCOW2_IO_REFCOUNT, err) == -1)
      return -1;
  }
  return 0;
}

/* Write what was edited, durably, and end the edit. */
static int
write_header (struct q2_repair_job *j, struct q2_superblock_edit *edit,
              enum q2_header_span span, struct qcow2_error *err)
{
  int r = -1;

  /* What it names, or says of the rest, is durable. */
  if (q2_assume (!j->unflushed, err))
    r = q2_superblock_write (edit, j->io, span, err);
  j->unflushed = true;
  if (r == 0)
    r = flush (j, err);
  q2_superblock_end (edit, r == 0);
  return r;
}

static int
link_new_table (struct q2_repair_job *j, const struct plan *plan,
                struct q2_superblock *sb, struct qcow2_error *err)
{
  struct q2_superblock_edit edit;

  q2_superblock_begin (sb, &edit);
  edit.header.refcount_table_offset = plan->table_off;
  edit.header.refcount_table_clusters = (uint32_t) plan->table_clusters;
  return write_header (j, &edit, Q2_SPAN_REFCOUNT_TABLE, err);
}

static int
link_new_blocks (struct q2_repair_job *j, const struct plan *plan,
                 const struct q2_header *h, struct qcow2_error *err)
{
  if (!q2_assume (!j->unflushed, err))
    return -1;
  for (uint64_t idx = 0; idx < j->r->nr_blocks; ++idx) {
    unsigned char entry[8];

    if (!plan->is_new[idx] &&
        (j->r->never_raise || j->r->stale == NULL || !j->r->stale[idx]))
      continue;
    store_be64 (entry, j->r->blocks[idx]);
    if (write_bytes (j, entry, sizeof entry,
                     h->refcount_table_offset + 8 * idx, QCOW2_IO_REFCOUNT,
                     err) == -1)
      return -1;
  }
  return flush (j, err);
}

/* Only when all that is new has been placed, so that nothing of it has been
 * placed there.  Without the dirty bit the old table is in use until the new
 * one is linked, and stays counted: the next pass of the check finds it.
 */
static void
free_old_table (struct q2_repair_job *j, const struct q2_header *h)
{
  const uint64_t first = h->refcount_table_offset >> j->geo->cluster_bits;

  if (j->r->checked && !Q2_PLANTED (Q2_PLANT_FREE_TABLE_EARLY))
    return;
  for (uint64_t i = 0; i < h->refcount_table_clusters; ++i)
    q2_counts_clear (j->counts, first + i);
}

static int
write_refcounts (struct q2_repair_job *j, struct plan *plan,
                 struct q2_superblock *sb, struct qcow2_error *err)
{
  const struct q2_header h = q2_superblock_header (sb);

  if (j->r->never_raise) {      /* nothing new */
    plan->is_new = calloc (q2_max (j->r->nr_blocks, 1), sizeof *plan->is_new);
    if (plan->is_new == NULL)
      return q2_fail_nomem (err, "correcting refcounts");
  }
  else if (place_table (j, plan, err) == -1 ||
           place_blocks (j, plan, err) == -1 || make_room (j, err) == -1)
    return -1;
  if (plan->table_off)
    free_old_table (j, &h);
  if (write_blocks (j, plan, err) == -1 ||
      write_new_table (j, plan, err) == -1 || flush (j, err) == -1)
    return -1;
  return plan->table_off ? link_new_table (j, plan, sb, err)
    : link_new_blocks (j, plan, &h, err);
}

/* ---- COPIED flags ------------------------------------------------------ */

/* Entries next to each other are written at once. */
struct entries {
  struct q2_repair_job *j;
  uint64_t host_off;
  size_t len;
  unsigned char buf[4096];
};

static int
write_entries (struct entries *e, struct qcow2_error *err)
{
  const size_t len = e->len;

  if (!q2_assume (len % 8 == 0 && len <= sizeof e->buf, err))
    return -1;
  e->len = 0;
  return len == 0 ? 0 : write_bytes (e->j, e->buf, len, e->host_off,
                                     QCOW2_IO_L2, err);
}

static int
correct_flag (void *opaque, uint64_t host_off, uint64_t word,
              struct qcow2_error *err)
{
  struct entries *const e = opaque;

  /* What should have the flag may have users that were not found. */
  if (e->j->r->never_lower && (word & Q2_ENTRY_COPIED))
    return 0;
  if ((host_off != e->host_off + e->len || e->len == sizeof e->buf) &&
      write_entries (e, err) == -1)
    return -1;
  if (e->len == 0)
    e->host_off = host_off;
  store_be64 (e->buf + e->len, word);
  e->len += 8;
  return 0;
}

static int
write_flags (struct q2_repair_job *j, struct q2_superblock *sb,
             struct qcow2_error *err)
{
  const struct q2_header h = q2_superblock_header (sb);
  struct entries e = { .j = j };

  if (j->r->keep_flags)
    return 0;
  /* Step 3: refcounts come first. */
  if (!q2_assume (!j->unflushed, err))
    return -1;
  if (q2_recount_flags (&j->r->recount, j->io, &h, j->geo, false, correct_flag,
                        &e, err) == -1 ||
      write_entries (&e, err) == -1)
    return -1;
  return flush (j, err);
}

/* ---- All of it --------------------------------------------------------- */

static int
clear_dirty_bit (struct q2_repair_job *j, struct q2_superblock *sb,
                 struct qcow2_error *err)
{
  struct q2_superblock_edit edit;

  q2_superblock_begin (sb, &edit);
  edit.header.incompatible &= ~Q2_INCOMPAT_DIRTY;
  return write_header (j, &edit, Q2_SPAN_FEATURES, err);
}

int
q2_repair_write (struct q2_repair *r, const struct q2_io *io,
                 struct q2_superblock *sb, const struct q2_geometry *geo,
                 struct qcow2_error *err)
{
  const struct q2_io patient = q2_io_patient (io);
  struct q2_repair_job j = {
    .r = r, .counts = r->recount.counts, .io = &patient, .geo = geo,
    .buf = q2_buffer_alloc (geo->cluster_size), .cursor = r->first_free,
  };
  struct plan plan = { 0 };
  int result = -1;

  if (j.buf == NULL)
    return q2_fail_nomem (err, "repairing the image");
  if (q2_assume (r->checked || (q2_superblock_header (sb).incompatible &
                                Q2_INCOMPAT_DIRTY), err) &&
      write_refcounts (&j, &plan, sb, err) == 0 &&
      write_flags (&j, sb, err) == 0 &&
      (r->checked || clear_dirty_bit (&j, sb, err) == 0))
    result = 0;
  q2_work_end (&r->recount.work);
  free (plan.is_new);
  q2_buffer_free (j.buf, geo->cluster_size);
  return result;
}
