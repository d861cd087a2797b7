/* SPDX-License-Identifier: BSD-3-Clause */
/* check.c - checks an image, and repairs it.
 *
 * Owns      the passes of a check, and what a repair may do.
 * Method    A pass decodes the header, counts all references (recount.c), then
 *           counts the refcount structure itself (check_table.c), compares the
 *           refcounts (compare.c) and the COPIED flags (flags.c).  A repair
 *           writes what follows from that (repair_write.c), and another pass
 *           says what has come of it.
 *           No dirty bit is needed: blocks are corrected in place, each
 *           refcount to what was counted, so in every order it is at least the
 *           number of references, unless it was not before; flags are written
 *           when that is durable; and a refcount table that is replaced stays
 *           counted until the next pass finds that nobody uses it any more.
 *           When references have been missed nothing is lowered and nothing
 *           new is put in front of the end of the file.
 *           Memory: as for recount.c, with a bound of the caller's.
 * Locks     none; nobody writes to the image meanwhile.
 */
#include "config.h"

#include "check/check.h"

#include "format/l2e.h"
#include "meta/header_read.h"

#include "base/bits.h"
#include "base/buffer.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdlib.h>

/* Of which the last one writes nothing: one corrects, one frees the refcount
 * table that has been replaced.
 */
#define MAX_PASSES 4

#define DEFAULT_MAX_FINDINGS 1000

struct check {
  const struct q2_io *io;
  struct q2_superblock *sb;     /* through which the header is written */
  const struct qcow2_check_options *options;
  struct q2_findings findings;
  struct q2_header h;
  struct q2_geometry geo;
  struct q2_repair *r;
  unsigned char *buf;           /* a cluster */
  uint64_t end;                 /* clusters */
  bool no_table;                /* of refcounts */
};

/* ---- The header -------------------------------------------------------- */

static void
report_header (void *opaque, const struct qcow2_error *err)
{
  struct check *const c = opaque;
  const struct qcow2_finding like = {
    .kind = QCOW2_FINDING_HEADER, .severity = QCOW2_FINDING_CORRUPTION,
    .host_off = err->offset, .table_off = QCOW2_NO_OFFSET,
  };

  q2_find (&c->findings, &like, "%s", err->text);
}

static int
load_header (struct check *c, struct qcow2_error *err)
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

/* ---- A pass ------------------------------------------------------------ */

static int
report_flag (void *opaque, uint64_t host_off, uint64_t word,
             struct qcow2_error *err)
{
  struct check *const c = opaque;
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
check_flags (struct check *c, struct qcow2_error *err)
{
  struct q2_recount *const recount = &c->r->recount;

  if (q2_recount_flags (recount, c->io, &c->h, &c->geo, report_flag, c, err)
      == -1)
    return q2_find_error (&c->findings, QCOW2_FINDING_UNREADABLE, err);
  return 0;
}

static int
scan (struct check *c, struct q2_repair_job *j, struct qcow2_error *err)
{
  const uint64_t memory =
    c->options->memory ? c->options->memory : Q2_RECOUNT_MAX_BYTES;
  struct q2_recount *const recount = &c->r->recount;
  int r;

  if (q2_recount_check (recount, c->io, &c->h, &c->geo, &c->findings, memory,
                        c->options->progress, c->options->opaque, err) == -1)
    return -1;
  j->counts = recount->counts;
  recount->odd = q2_counts_new (memory, q2_budget_outermost
                                (q2_io_budget (c->io)), err);
  if (recount->odd == NULL)
    return -1;
  r = q2_check_refcount_table (j, &c->h, err);
  if (r == -1)
    return -1;
  c->no_table = r == 1;
  if (q2_repair_compare (j, err) == -1)
    return -1;
  c->end = q2_max (j->end, q2_counts_end (j->counts));
  return check_flags (c, err);
}

static void
free_pass (struct check *c)
{
  q2_repair_free (c->r);
  q2_buffer_free (c->buf, c->geo.cluster_size);
  c->r = NULL;
  c->buf = NULL;
}

/* Find out what is wrong, now. */
static int
begin_pass (struct check *c, struct qcow2_error *err)
{
  struct q2_repair_job j = {
    .io = c->io, .geo = &c->geo, .findings = &c->findings,
  };

  if (load_header (c, err) == -1)
    return -1;
  c->buf = j.buf = q2_buffer_alloc (c->geo.cluster_size);
  c->r = j.r = calloc (1, sizeof *c->r);
  if (c->buf == NULL || c->r == NULL)
    return q2_fail_nomem (err, "checking the image");
  return scan (c, &j, err);
}

/* ---- A repair ---------------------------------------------------------- */

static uint64_t
corruptions_but_flags (const struct q2_findings *f)
{
  return f->nr[QCOW2_FINDING_CORRUPTION] - f->nr_kind[QCOW2_FINDING_COPIED];
}

static bool
has_stale (const struct q2_repair *r)
{
  for (uint64_t i = 0; r->stale != NULL && i < r->nr_blocks; ++i)
    if (r->stale[i])
      return true;
  return false;
}

/* Decide what may be written.  False: there is nothing. */
static bool
plan (struct check *c)
{
  struct q2_repair *const r = c->r;
  const struct q2_repair_info *const info = &r->info;
  const bool all = c->options->repair == QCOW2_REPAIR_ALL;

  r->checked = true;
  r->never_raise = !all;
  r->never_lower = c->findings.incomplete;
  r->keep_flags = !all && corruptions_but_flags (&c->findings) > 0;
  if (r->never_lower)
    r->first_free = q2_ceil_shift (q2_io_size (c->io), c->geo.cluster_bits);
  if (c->findings.nr[QCOW2_FINDING_ERROR] > 0)
    return false;               /* what cannot be read cannot be judged */
  /* Refcounts anew, with references missing, would free their targets. */
  if ((c->no_table || r->dropped) && (r->never_lower || !all))
    return false;
  if (info->too_high > 0 && !r->never_lower)
    return true;
  if (info->wrong_flags > 0 && !r->keep_flags)
    return true;
  return all && (c->no_table || info->too_low > 0 ||
                 info->missing_blocks > 0 || has_stale (r));
}

/* The flags are judged by what was counted, once the refcounts are that. */
static int
write_repair (struct check *c, struct qcow2_error *err)
{
  struct q2_recount *const recount = &c->r->recount;
  const struct q2_header *const h = q2_superblock_header (c->sb);

  /* Each pass reads the file, but the header is changed as it is known. */
  if (h->refcount_table_offset != c->h.refcount_table_offset ||
      h->refcount_table_clusters != c->h.refcount_table_clusters)
    return q2_fail_advise (err, QCOW2_ERR_IO, QCOW2_ADVICE_REOPEN, 48,
                           "the header is not what it was when the image was "
                           "opened, so nothing is repaired");
  q2_counts_free (recount->odd);
  recount->odd = NULL;
  recount->flags_are_wrong = true;
  return q2_repair_write (c->r, c->io, c->sb, &c->geo, err);
}

/* Nothing is wrong any more, so nothing says so. */
static int
clear_marks (struct check *c, struct qcow2_error *err)
{
  const uint64_t marks = Q2_INCOMPAT_DIRTY | Q2_INCOMPAT_CORRUPT;
  struct q2_superblock_edit edit;
  bool durable;

  if (c->h.version < 3 || !(c->h.incompatible & marks) ||
      c->options->repair != QCOW2_REPAIR_ALL || c->findings.incomplete ||
      c->findings.nr[QCOW2_FINDING_CORRUPTION] > 0 ||
      c->findings.nr[QCOW2_FINDING_ERROR] > 0)
    return 0;
  if (q2_superblock_begin (c->sb, &edit, err) == -1)
    return -1;
  edit.header->incompatible &= ~marks;
  durable = q2_superblock_write (&edit, c->io, Q2_SPAN_FEATURES, err) == 0 &&
    q2_io_flush (c->io, err) == 0;
  q2_superblock_end (&edit, durable);
  return durable ? 0 : -1;
}

/* ---- All passes -------------------------------------------------------- */

static uint64_t
gone (uint64_t before, uint64_t after)
{
  return before > after ? before - after : 0;
}

/* What the last pass has found, and 'before' the first. */
static void
fill_result (const struct check *c, const struct q2_findings *before,
             struct qcow2_check_result *ret)
{
  const uint64_t *const nr = c->findings.nr;
  uint64_t found = 0;

  for (unsigned i = 0; i < QCOW2_NR_SEVERITIES; ++i)
    found += before->nr[i];
  *ret = (struct qcow2_check_result) {
    .corruptions = nr[QCOW2_FINDING_CORRUPTION],
    .leaks = nr[QCOW2_FINDING_LEAK],
    .warnings = nr[QCOW2_FINDING_WARNING],
    .check_errors = nr[QCOW2_FINDING_ERROR],
    .corruptions_fixed = gone (before->nr[QCOW2_FINDING_CORRUPTION],
                               nr[QCOW2_FINDING_CORRUPTION]),
    .leaks_fixed = gone (before->nr[QCOW2_FINDING_LEAK],
                         nr[QCOW2_FINDING_LEAK]),
    .findings_left_out = found - before->passed,
    .total_clusters = q2_ceil_shift (c->h.virtual_size, c->geo.cluster_bits),
    .allocated_clusters = c->r->recount.allocated,
    .compressed_clusters = c->r->recount.compressed,
    .image_end = c->end << c->geo.cluster_bits,
    .incomplete = c->findings.incomplete,
  };
}

static int
run_passes (struct check *c, struct q2_findings *before,
            struct qcow2_error *err)
{
  const bool repair = c->options->repair != QCOW2_REPAIR_NONE;

  for (unsigned pass = 1; ; ++pass) {
    if (begin_pass (c, err) == -1)
      return -1;
    if (pass == 1)
      *before = c->findings;
    if (!repair || pass == MAX_PASSES || !plan (c))
      return repair ? clear_marks (c, err) : 0;
    if (write_repair (c, err) == -1)
      return -1;
    free_pass (c);
    c->findings = (struct q2_findings) { 0 };   /* only counted from now on */
  }
}

int
q2_check_image (const struct q2_io *io, struct q2_superblock *sb,
                const struct qcow2_check_options *options,
                struct qcow2_check_result *ret_result,
                struct qcow2_error *err)
{
  struct check c = {
    .io = io, .sb = sb, .options = options,
    .findings = {
      .fn = options->finding, .opaque = options->opaque,
      .max_passed = options->max_findings ? options->max_findings
        : DEFAULT_MAX_FINDINGS,
    },
  };
  struct q2_findings before;
  const int r = run_passes (&c, &before, err);

  if (r == 0)
    fill_result (&c, &before, ret_result);
  free_pass (&c);
  return r;
}
