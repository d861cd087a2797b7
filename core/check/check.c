/* SPDX-License-Identifier: BSD-3-Clause */
/* check.c - checks an image, and repairs it.
 *
 * Owns      what a repair may do, and in which passes.
 * Method    A pass looks at everything (check_scan.c).  A repair writes what
 *           follows from that, and another pass says what has come of it.
 *           Refcounts are corrected in place (repair_write.c), or, if the
 *           table or a block of it cannot be used, all of them are written
 *           anew, behind everything else (rebuild.c).  So are they if the host
 *           cannot read a block, or the table: no old refcount is needed for
 *           that, since all references are known, and nothing is written over
 *           the block before the header names another table.  Else nothing is
 *           repaired then.
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

#include "check/check_job.h"
#include "check/rebuild.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

/* Of which the last one writes nothing: one corrects, one frees the refcount
 * table that has been replaced.
 */
#define MAX_PASSES 4

#define DEFAULT_MAX_FINDINGS 1000

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

enum plan {
  PLAN_NOTHING,
  PLAN_CORRECT,                 /* in place */
  PLAN_REBUILD,
};

/* There are none, or new blocks beside those in place would need free
 * clusters, which are only known in a window.
 */
static bool
cannot_correct (const struct q2_check *c)
{
  return c->no_table || c->r->dropped || c->r->nr_unread > 0 ||
    (c->windows > 1 && c->r->info.missing_blocks > 0);
}

/* Refcounts are written anew if there are none that could be corrected; what
 * was not counted would be free then, so without all references only those who
 * ask for it get that, and what may be in use keeps a refcount.
 */
static bool
must_rebuild (const struct q2_check *c, bool rebuilt)
{
  switch (c->options->repair) {
  case QCOW2_REPAIR_NONE:
  case QCOW2_REPAIR_LEAKS:
    break;
  case QCOW2_REPAIR_ALL:
    return !c->findings.incomplete && cannot_correct (c);
  case QCOW2_REPAIR_REBUILD:
    return !rebuilt;
  }
  return false;
}

/* The rest of the file may come back, and its entries name places where the
 * file would grow to: nothing new is put there.
 */
static bool
is_cut_off (const struct q2_check *c)
{
  return c->findings.nr_kind[QCOW2_FINDING_PAST_END] > 0;
}

/* Refcounts that are not known are not needed, but all else is. */
static bool
has_blind_spots (const struct q2_check *c)
{
  return c->findings.nr[QCOW2_FINDING_ERROR] > c->r->nr_unread;
}

static enum plan
make_plan (struct q2_check *c, bool rebuilt)
{
  struct q2_repair *const r = c->r;
  const struct q2_repair_info *const info = &r->info;
  const bool all = c->options->repair >= QCOW2_REPAIR_ALL;

  r->checked = true;
  r->never_raise = !all;
  r->never_lower = c->findings.incomplete;
  r->keep_flags = !all && corruptions_but_flags (&c->findings) > 0;
  if (r->never_lower)
    r->first_free = q2_repair_file_end (c->io, &c->geo);
  if (has_blind_spots (c))
    return PLAN_NOTHING;        /* what cannot be read cannot be judged */
  if (is_cut_off (c) &&
      (must_rebuild (c, rebuilt) || info->missing_blocks > 0))
    return PLAN_NOTHING;
  if (must_rebuild (c, rebuilt))
    return PLAN_REBUILD;
  if (cannot_correct (c))
    return PLAN_NOTHING;
  if (info->too_high > 0 && !r->never_lower)
    return PLAN_CORRECT;
  if (info->wrong_flags > 0 && !r->keep_flags)
    return PLAN_CORRECT;
  return all && (info->too_low > 0 || info->missing_blocks > 0 ||
                 has_stale (r)) ? PLAN_CORRECT : PLAN_NOTHING;
}

/* Each pass reads the file, but the header is changed as it is known. */
static int
check_header (const struct q2_check *c, struct qcow2_error *err)
{
  const struct q2_header h = q2_superblock_header (c->sb);

  if (h.refcount_table_offset == c->h.refcount_table_offset &&
      h.refcount_table_clusters == c->h.refcount_table_clusters)
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_IO, QCOW2_ADVICE_REOPEN, 48,
                         "the header is not what it was when the image was "
                         "opened, so nothing is repaired");
}

/* The flags are judged by what was counted, once the refcounts are that. */
static int
correct (struct q2_check *c, struct q2_repair_job *j, void *opaque,
         struct qcow2_error *err)
{
  struct q2_recount *const recount = &j->r->recount;

  (void) opaque;
  if (!q2_assume (j->r->checked, err))
    return -1;
  q2_counts_free (recount->odd);
  recount->odd = NULL;
  recount->flags_are_wrong = true;
  return q2_repair_write (j->r, c->io, c->sb, &c->geo, err);
}

static int
note_blocks (struct q2_check *c, struct q2_repair_job *j, void *opaque,
             struct qcow2_error *err)
{
  (void) c;
  return q2_rebuild_note (opaque, j, err);
}

static int
fill_blocks (struct q2_check *c, struct q2_repair_job *j, void *opaque,
             struct qcow2_error *err)
{
  (void) c;
  return q2_rebuild_fill (opaque, j, err);
}

/* Behind which cluster new refcounts go.  Where the blocks of a table are that
 * cannot be read is not known, so nothing in the file is written to: it may be
 * readable again if this is interrupted.
 */
static uint64_t
end_of_old (const struct q2_check *c)
{
  return c->r->table_unread
    ? q2_max (c->used_end, q2_repair_file_end (c->io, &c->geo)) : c->used_end;
}

static int
rebuild (struct q2_check *c, struct qcow2_error *err)
{
  struct q2_repair_job j = {
    .r = c->r, .io = c->io, .geo = &c->geo, .buf = c->buf,
  };
  struct q2_rebuild rb;
  int r = -1;

  if (!q2_assume (c->options->repair >= QCOW2_REPAIR_ALL, err))
    return -1;
  if (q2_rebuild_init (&rb, &c->geo, c->findings.incomplete, err) == -1)
    return -1;
  if (q2_check_each_window (c, true, note_blocks, &rb, err) == 0 &&
      q2_rebuild_place (&rb, &j, end_of_old (c), err) == 0 &&
      q2_check_each_window (c, true, fill_blocks, &rb, err) == 0 &&
      q2_rebuild_switch (&rb, &j, c->sb, err) == 0)
    r = 0;
  c->rebuilt_at = rb.first << c->geo.cluster_bits;
  q2_rebuild_free (&rb);
  return r;
}

/* Nothing is wrong any more that a write could make worse, so nothing says so.
 */
static int
clear_marks (struct q2_check *c, struct qcow2_error *err)
{
  const uint64_t marks = Q2_INCOMPAT_DIRTY | Q2_INCOMPAT_CORRUPT;
  struct q2_superblock_edit edit;
  bool durable;

  if (c->h.version < 3 || !(c->h.incompatible & marks) ||
      c->options->repair < QCOW2_REPAIR_ALL || c->findings.incomplete ||
      c->findings.nr[QCOW2_FINDING_CORRUPTION] >
      c->findings.nr_kind[QCOW2_FINDING_SHORT_SNAPSHOT] ||
      c->findings.nr[QCOW2_FINDING_ERROR] > 0)
    return 0;
  q2_superblock_begin (c->sb, &edit);
  edit.header.incompatible &= ~marks;
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
fill_result (const struct q2_check *c, const struct q2_findings *before,
             bool rebuilt, struct qcow2_check_result *ret)
{
  const uint64_t *const nr = c->findings.nr;
  uint64_t found = 0;

  for (unsigned i = 0; i < QCOW2_NR_SEVERITIES; ++i)
    found += before->nr[i];
  q2_check (found >= before->passed);
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
    .allocated_clusters = c->allocated,
    .compressed_clusters = c->compressed,
    .image_end = q2_max (c->end, end_of_old (c)) << c->geo.cluster_bits,
    .incomplete = c->findings.incomplete,
    .short_snapshots = c->findings.nr_kind[QCOW2_FINDING_SHORT_SNAPSHOT],
    .refcounts_unusable = c->no_table || c->r->dropped ||
      c->r->nr_unread > 0,
    .rebuilt = rebuilt, .rebuilt_at = c->rebuilt_at,
    .windows = c->windows,
  };
}

static int
write_repair (struct q2_check *c, enum plan plan, struct qcow2_error *err)
{
  /* What cannot be read cannot be judged. */
  if (!q2_assume (plan != PLAN_NOTHING && !has_blind_spots (c) &&
                  c->options->repair != QCOW2_REPAIR_NONE &&
                  (plan == PLAN_REBUILD || c->r->nr_unread == 0), err) ||
      check_header (c, err) == -1)
    return -1;
  return plan == PLAN_REBUILD ? rebuild (c, err)
    : q2_check_each_window (c, false, correct, NULL, err);
}

static int
run_passes (struct q2_check *c, struct q2_findings *before,
            bool *ret_rebuilt, struct qcow2_error *err)
{
  const bool repair = c->options->repair != QCOW2_REPAIR_NONE;

  *ret_rebuilt = false;
  for (unsigned pass = 1; ; ++pass) {
    enum plan plan = PLAN_NOTHING;

    if (q2_check_scan (c, err) == -1)
      return -1;
    if (pass == 1)
      *before = c->findings;
    if (repair && pass < MAX_PASSES)
      plan = make_plan (c, *ret_rebuilt);
    if (plan == PLAN_NOTHING)
      return repair ? clear_marks (c, err) : 0;
    if (write_repair (c, plan, err) == -1)
      return -1;
    *ret_rebuilt |= plan == PLAN_REBUILD;
    q2_check_end_scan (c);
    c->findings = (struct q2_findings) { 0 };   /* only counted from now on */
  }
}

int
q2_check_image (const struct q2_io *io, struct q2_superblock *sb,
                const struct qcow2_check_options *options,
                struct qcow2_check_result *ret_result,
                struct qcow2_error *err)
{
  const struct q2_io patient = q2_io_patient (io);
  struct q2_check c = {
    .io = &patient, .sb = sb, .options = options,
    .findings = {
      .fn = options->finding, .opaque = options->opaque,
      .max_passed = options->max_findings ? options->max_findings
        : DEFAULT_MAX_FINDINGS,
    },
  };
  struct q2_findings before;
  bool rebuilt;
  int r;

  r = run_passes (&c, &before, &rebuilt, err);
  if (r == 0)
    fill_result (&c, &before, rebuilt, ret_result);
  q2_check_end_scan (&c);
  return r;
}
