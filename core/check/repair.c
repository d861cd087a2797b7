/* SPDX-License-Identifier: BSD-3-Clause */
/* repair.c - finds out what is wrong with an image that was not closed.
 *
 * Owns      the scan, and what is logged about it.
 * Method    count everything (recount.c), then compare that with every
 *           refcount (compare.c).  Correcting them is for later, see
 *           repair_write.c; until then the counts are kept, one byte for each
 *           cluster that is in use.
 * Locks     none; the image is not in use yet.
 * Spec      "Reference counts".
 */
#include "config.h"

#include "check/repair_job.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define SECONDS_BETWEEN_LINES 5

/* ---- The refcount table ------------------------------------------------ */

int
q2_repair_read_table (struct q2_repair_job *j, uint64_t table_off,
                      uint64_t bytes, struct qcow2_error *err)
{
  struct q2_repair *const r = j->r;
  const uint64_t size = q2_align_up (q2_io_size (j->io), 8);
  const uint64_t inside =
    table_off < size ? q2_min (bytes, size - table_off) : 0;

  if (!q2_assume (r->blocks == NULL && q2_is_aligned (bytes, 512), err))
    return -1;
  r->nr_blocks = bytes / 8;
  r->blocks = calloc (r->nr_blocks, sizeof *r->blocks);
  if (r->blocks == NULL)
    return q2_fail_nomem (err, "the refcount table");
  if (q2_io_read (j->io, r->blocks, inside, table_off, QCOW2_IO_REFCOUNT, err)
      == -1)
    return -1;
  for (uint64_t i = 0; i < inside / 8; ++i)
    r->blocks[i] = load_be64 (&r->blocks[i]);
  return 0;
}

static int
load_table (struct q2_repair_job *j, const struct q2_header *h,
            struct qcow2_error *err)
{
  struct q2_repair *const r = j->r;
  const uint64_t bytes =
    (uint64_t) h->refcount_table_clusters << j->geo->cluster_bits;

  if (q2_repair_read_table (j, h->refcount_table_offset, bytes, err) == -1)
    return -1;
  for (uint64_t i = 0; i < r->nr_blocks; ++i)
    r->blocks[i] &= ~UINT64_C (511);
  return 0;
}

/* ---- The scan ---------------------------------------------------------- */

/* Fail if there is a count that refcounts cannot express. */
static int
check_width (const struct q2_repair_job *j, struct qcow2_error *err)
{
  const unsigned width = 1u << j->geo->refcount_order;
  const uint64_t max = q2_repair_max_count (j);
  uint64_t cluster;

  for (cluster = q2_counts_next_used (j->counts, 0);
       cluster != UINT64_MAX;
       cluster = q2_counts_next_used (j->counts, cluster + 1)) {
    const uint32_t count = q2_counts_get (j->counts, cluster).count;
    const uint64_t host_off = cluster << j->geo->cluster_bits;

    if (q2_work_do (&j->r->recount.work, 1, err) == -1)
      return -1;
    if (count > max)
      return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR,
                             host_off,
                             "the cluster at offset 0x%" PRIx64 " has %u "
                             "users, more than refcounts of %u bits can tell",
                             host_off, count, width);
  }
  return 0;
}

static int
count_flag (void *opaque, uint64_t host_off, uint64_t word,
            struct qcow2_error *err)
{
  struct q2_repair *const r = opaque;

  (void) host_off;
  (void) word;
  (void) err;
  r->info.wrong_flags++;
  return 0;
}

struct log {
  qcow2_log_fn fn;
  void *opaque;
  uint64_t last;                /* when a line was logged, us */
};

static bool
log_progress (void *opaque, unsigned percent)
{
  struct log *const log = opaque;
  const uint64_t now = q2_meter_now ();
  char text[100];

  if (log->fn == NULL ||
      now - log->last < SECONDS_BETWEEN_LINES * UINT64_C (1000000))
    return true;
  log->last = now;
  snprintf (text, sizeof text, "the image was not closed cleanly: %u %% of "
            "its tables have been scanned", percent);
  log->fn (log->opaque, QCOW2_LOG_WARNING, text, QCOW2_ADVICE_NONE);
  return true;
}

static void
log_result (const struct log *log, const struct q2_repair_info *info)
{
  char text[300];

  if (log->fn == NULL)
    return;
  if (info->too_high + info->too_low + info->missing_blocks +
      info->wrong_flags == 0)
    snprintf (text, sizeof text, "the image was not closed cleanly, but the "
              "refcounts of its %" PRIu64 " clusters in use are right",
              info->clusters);
  else
    snprintf (text, sizeof text, "the image was not closed cleanly: %" PRIu64
              " refcounts are too low, %" PRIu64 " are too high, %" PRIu64
              " refcount blocks are missing and %" PRIu64 " COPIED flags "
              "are wrong; this is going to be corrected before the first "
              "write", info->too_low, info->too_high, info->missing_blocks,
              info->wrong_flags);
  log->fn (log->opaque, QCOW2_LOG_WARNING, text, QCOW2_ADVICE_NONE);
}

static int
scan_once (struct q2_repair_job *j, const struct q2_header *h,
           bool believe_holes, struct log *log, struct qcow2_error *err)
{
  struct q2_repair *const r = j->r;

  if ((believe_holes
       ? q2_recount (&r->recount, j->io, h, j->geo, log_progress, log, err)
       : q2_recount_all (&r->recount, j->io, h, j->geo, r->recount.paid,
                         log_progress, log, err)) == -1)
    return -1;
  j->counts = r->recount.counts;
  if (check_width (j, err) == -1 || load_table (j, h, err) == -1 ||
      q2_repair_compare (j, err) == -1 ||
      q2_recount_flags (&r->recount, j->io, h, j->geo, false, count_flag, r,
                        err)
      == -1)
    return -1;
  r->info.l2_tables = r->recount.l2_tables;
  r->info.clusters = q2_counts_total (j->counts, Q2_USE_DATA) +
    q2_counts_total (j->counts, Q2_USE_L2) +
    q2_counts_total (j->counts, Q2_USE_META);
  return 0;
}

/* A host that calls a hole what is none would make us free what is in use, or
 * give the active disk alone what a snapshot has too.  So before a count goes
 * down, or an entry is said to be the only one, every table is read.
 */
static bool
needs_certainty (const struct q2_repair *r)
{
  return r->recount.hole_bytes > 0 &&
    r->info.too_high + r->info.wrong_flags > 0;
}

static int
scan (struct q2_repair_job *j, const struct q2_header *h, struct log *log,
      struct qcow2_error *err)
{
  struct q2_repair *const r = j->r;

  if (scan_once (j, h, true, log, err) == -1)
    return -1;
  if (!needs_certainty (r))
    return 0;
  q2_recount_free (&r->recount);
  free (r->blocks);
  r->blocks = NULL;
  r->info = (struct q2_repair_info) { 0 };
  j->counts = NULL;
  j->too_high = j->too_low = 0;
  return scan_once (j, h, false, log, err);
}

struct q2_repair *
q2_repair_scan (const struct q2_io *io, const struct q2_header *h,
                const struct q2_geometry *geo,
                qcow2_log_fn log_fn, void *log_opaque, struct qcow2_error *err)
{
  struct q2_repair *const r = calloc (1, sizeof *r);
  struct log log = { log_fn, log_opaque, q2_meter_now () };
  const struct q2_io patient = q2_io_patient (io);
  struct q2_repair_job j = {
    .r = r, .io = &patient, .geo = geo,
    .buf = q2_buffer_alloc (geo->cluster_size)
  };
  int result = -1;

  if (r == NULL || j.buf == NULL)
    q2_fail_nomem (err, "scanning the image");
  else
    result = scan (&j, h, &log, err);
  if (r != NULL)
    q2_work_end (&r->recount.work);
  q2_buffer_free (j.buf, geo->cluster_size);
  if (result == -1) {
    q2_repair_free (r);
    return NULL;
  }
  log_result (&log, &r->info);
  return r;
}

void
q2_repair_free (struct q2_repair *r)
{
  if (r == NULL)
    return;
  q2_recount_free (&r->recount);
  free (r->stale);
  free (r->unread);
  free (r->named);
  free (r->blocks);
  free (r);
}

const struct q2_repair_info *
q2_repair_get_info (const struct q2_repair *r)
{
  return &r->info;
}
