/* SPDX-License-Identifier: BSD-3-Clause */
/* check_scan.c - looks at all of an image, once.
 *
 * Owns      the windows of a pass, and in which order a window is looked at.
 * Method    a window counts all references (recount.c), then the refcount
 *           structure itself (check_table.c), compares the refcounts
 *           (compare.c) and the COPIED flags (flags.c).  It ends where memory
 *           does, and then another one begins there (scope.h); mostly there
 *           is one.  What is to be written is found by walking once more, in
 *           silence, unless one window was enough: then its counts are there.
 * Locks     none; see check.c.
 */
#include "config.h"

#include "check/check_job.h"

#include "format/l2e.h"
#include "meta/header_read.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

/* ---- The header -------------------------------------------------------- */

static void
report_header (void *opaque, const struct qcow2_error *err)
{
  struct q2_check *const c = opaque;
  const struct qcow2_finding like = {
    .kind = QCOW2_FINDING_HEADER, .severity = QCOW2_FINDING_CORRUPTION,
    .host_off = err->offset, .table_off = QCOW2_NO_OFFSET,
  };

  q2_find (&c->findings, &like, "%s", err->text);
}

static int
load_header (struct q2_check *c, struct qcow2_error *err)
{
  Q2_CLEANUP_FREE unsigned char *area = NULL;
  size_t len;

  area = q2_header_read (c->io, &len, err);
  if (area == NULL)
    return -1;
  if (q2_header_decode_faulty (area, len, &c->h, &c->geo, report_header, c,
                               err) == -1)
    return -1;
  /* Whatever those fields led to is not known. */
  c->findings.incomplete |= c->h.lost_snapshots || c->h.lost_bitmaps;
  return 0;
}

/* ---- Flags ------------------------------------------------------------- */

static int
report_flag (void *opaque, uint64_t host_off, uint64_t word,
             struct qcow2_error *err)
{
  struct q2_check *const c = opaque;
  const bool expected = word & Q2_ENTRY_COPIED;
  const struct qcow2_finding like = {
    .kind = QCOW2_FINDING_COPIED, .severity = QCOW2_FINDING_CORRUPTION,
    .host_off = host_off, .length = 8, .table_off = host_off,
    .expected = expected, .actual = !expected,
  };

  (void) err;
  c->r->info.wrong_flags++;
  q2_find (&c->findings, &like, "the COPIED flag of the entry at offset 0x%"
           PRIx64 " is %sset", host_off, expected ? "not " : "");
  return 0;
}

static int
check_flags (struct q2_check *c, struct qcow2_error *err)
{
  if (q2_recount_flags (&c->r->recount, c->io, &c->h, &c->geo, true,
                        report_flag, c, err) == -1)
    return q2_find_error (&c->findings, QCOW2_FINDING_UNREADABLE, err);
  return 0;
}

/* ---- A window ---------------------------------------------------------- */

/* A quarter of it is for clusters whose refcount is wrong. */
static uint64_t
memory_of (const struct q2_check *c)
{
  return c->options->memory ? c->options->memory : Q2_RECOUNT_MAX_BYTES;
}

/* What comes before the window is done; how much of the rest it will be able
 * to answer for is not known.
 */
static bool
tell_progress (void *opaque, unsigned percent)
{
  struct q2_check *const c = opaque;
  const uint64_t end = q2_max (c->used_end, c->begin + 1);
  const unsigned before = (unsigned) (c->begin * 100 / end);
  const unsigned now = before + (100 - before) * percent / 100;

  if (now > c->percent)
    c->percent = now;
  return c->options->progress (c->options->opaque, c->percent);
}

static int
count_references (struct q2_check *c, struct q2_repair_job *j,
                  struct q2_scope *w, struct q2_findings *findings,
                  struct qcow2_error *err)
{
  struct q2_recount *const recount = &c->r->recount;

  c->begin = w->begin;
  q2_recount_free (recount);
  if (q2_recount_check (recount, c->io, &c->h, &c->geo, findings, w,
                        memory_of (c) - memory_of (c) / 4,
                        c->options->progress ? tell_progress : NULL, c, err)
      == -1)
    return -1;
  j->counts = recount->counts;
  c->used_end = q2_max (c->used_end, q2_counts_end (j->counts));
  return 0;
}

static int
compare (struct q2_check *c, struct q2_repair_job *j, struct q2_scope *w,
         struct qcow2_error *err)
{
  struct q2_recount *const recount = &c->r->recount;

  if (!q2_assume (w->begin < w->stop && recount->odd == NULL, err))
    return -1;
  recount->stop = w->stop;
  recount->odd = q2_counts_new (memory_of (c) / 4, q2_budget_outermost
                                (q2_io_budget (c->io)), err);
  if (recount->odd == NULL || q2_repair_compare (j, err) == -1)
    return -1;
  if (!q2_assume (recount->stop <= w->stop && recount->stop > w->begin, err))
    return -1;
  w->stop = recount->stop;
  c->used_end = q2_max (c->used_end, q2_counts_end (j->counts));
  c->end = q2_max (c->end, q2_max (j->end, c->used_end));
  return check_flags (c, err);
}

/* Something could be read for a window in front of this one. */
static void
report_skipped (struct q2_check *c)
{
  const struct qcow2_finding like = {
    .kind = QCOW2_FINDING_UNREADABLE, .severity = QCOW2_FINDING_ERROR,
    .host_off = QCOW2_NO_OFFSET, .table_off = QCOW2_NO_OFFSET,
  };

  q2_find (&c->findings, &like, "a table that could be read before cannot be "
           "read any more");
}

static int
scan_first (struct q2_check *c, struct q2_repair_job *j, struct q2_scope *w,
            struct qcow2_error *err)
{
  if (count_references (c, j, w, &c->findings, err) == -1 ||
      q2_check_take_table (c, j, w, err) == -1)
    return -1;
  c->allocated = c->r->recount.allocated;
  c->compressed = c->r->recount.compressed;
  return compare (c, j, w, err);
}

static int
scan_windows (struct q2_check *c, struct q2_repair_job *j,
              struct q2_scope *w, struct qcow2_error *err)
{
  if (scan_first (c, j, w, err) == -1)
    return -1;
  c->skipped = c->r->recount.skipped;
  for (c->windows = 1; w->stop != UINT64_MAX; c->windows++) {
    *j = (struct q2_repair_job) {
      .r = c->r, .io = c->io, .geo = &c->geo, .buf = c->buf,
      .findings = &c->findings,
    };
    if (q2_scope_next (w, err) == -1 ||
        count_references (c, j, w, &c->findings, err) == -1 ||
        q2_check_count_table (c, j, w, err) == -1)
      return -1;
    if (c->r->recount.skipped > c->skipped)
      report_skipped (c);
    c->skipped = q2_max (c->skipped, c->r->recount.skipped);
    if (compare (c, j, w, err) == -1)
      return -1;
  }
  return 0;
}

/* ---- A pass ------------------------------------------------------------ */

void
q2_check_end_scan (struct q2_check *c)
{
  q2_repair_free (c->r);
  q2_buffer_free (c->buf, c->geo.cluster_size);
  c->r = NULL;
  c->buf = NULL;
}

int
q2_check_scan (struct q2_check *c, struct qcow2_error *err)
{
  struct q2_check_places places;
  struct q2_scope w;
  struct q2_repair_job j = {
    .io = c->io, .geo = &c->geo, .findings = &c->findings,
  };
  int r;

  if (load_header (c, err) == -1)
    return -1;
  c->end = c->used_end = 0;
  c->percent = 0;
  c->buf = j.buf = q2_buffer_alloc (c->geo.cluster_size);
  c->r = j.r = calloc (1, sizeof *c->r);
  if (c->buf == NULL || c->r == NULL)
    return q2_fail_nomem (err, "checking the image");
  if (q2_check_load_table (c, &j, &places, err) == -1)
    return -1;
  q2_scope_init (&w, &places.watch);
  r = scan_windows (c, &j, &w, err);
  q2_scope_free (&w);
  q2_check_free_places (&places);
  return r;
}

/* ---- Once more --------------------------------------------------------- */

/* What is kept, of a refcount structure that leaves. */
static void
forget_refcounts (struct q2_check *c, struct q2_repair_job *j)
{
  const uint64_t table = c->h.refcount_table_offset >> c->geo.cluster_bits;

  if (!c->no_table)
    for (uint64_t i = 0; i < c->h.refcount_table_clusters; ++i)
      q2_counts_clear (j->counts, table + i);
  for (uint64_t i = 0; i < c->r->nr_blocks; ++i)
    if (q2_repair_has_block (j, i))
      q2_counts_clear (j->counts, c->r->blocks[i] >> c->geo.cluster_bits);
}

static int
walk_again (struct q2_check *c, bool but_refcounts, struct q2_scope *w,
            struct q2_repair_job *j, struct qcow2_error *err)
{
  struct q2_findings silent = { .fn = NULL };

  if (count_references (c, j, w, &silent, err) == -1 ||
      (!but_refcounts && q2_check_count_table (c, j, w, err) == -1))
    return -1;
  c->r->recount.stop = w->stop;
  if (c->r->recount.skipped <= c->skipped)
    return 0;
  return q2_fail (err, QCOW2_ERR_IO, QCOW2_NO_OFFSET, "a table that could be "
                  "read before cannot be read any more");
}

int
q2_check_each_window (struct q2_check *c, bool but_refcounts,
                      q2_check_window_fn fn, void *opaque,
                      struct qcow2_error *err)
{
  struct q2_repair_job j = {
    .r = c->r, .counts = c->r->recount.counts, .io = c->io, .geo = &c->geo,
    .buf = c->buf,
  };
  struct q2_scope w;
  int r = 0;

  if (c->windows == 1) {
    if (but_refcounts)
      forget_refcounts (c, &j);
    return fn (c, &j, opaque, err);
  }
  q2_scope_init (&w, NULL);
  w.silent = true;
  for (;;) {
    r = walk_again (c, but_refcounts, &w, &j, err);
    if (r == 0)
      r = fn (c, &j, opaque, err);
    if (r == -1 || w.stop == UINT64_MAX)
      break;
    r = q2_scope_next (&w, err);
    if (r == -1)
      break;
  }
  q2_scope_free (&w);
  return r;
}
