/* SPDX-License-Identifier: BSD-3-Clause */
/* live_judge.c - what is wrong with suspects, in an image that is being
 * written to.
 *
 * Owns      verdicts, what is said of them, and their repair.
 * Method    check/live.h says why a tally is exact if nobody has touched the
 *           suspect.  A refcount is lowered in the moment in which that is
 *           seen (write/watch.c).  If that leaves a cluster of the disk with
 *           one user its entry gets the COPIED flag, as any writer would give
 *           it, when the refcount is durable; in between the image has the
 *           dirty bit, as while a snapshot is deleted, so a crash leaves no
 *           entry that contradicts a refcount which anybody believes.  What
 *           cannot get the flag keeps its refcount: where there is no such
 *           bit, in version 2; in an L2 table that is not the disk's own; and
 *           such a table itself, since it may be written to as a table of the
 *           disk only from the next opening on.
 * Locks     those of write/watch.c; and to change an entry those of a writer.
 */
#include "config.h"

#include "edit/live.h"

#include "write/owning.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#include <inttypes.h>

/* ---- Verdicts ----------------------------------------------------------- */

static uint64_t
count_of (const struct q2_live_job *j, size_t i)
{
  const uint64_t max =
    UINT64_MAX >> (64 - (1u << j->geo.refcount_order));

  return q2_min (j->tallies[i].count, max);
}

/* The flag of the one entry that is left can be set.  A table that is the
 * disk's own stays that until somebody edits the image; one that is not may
 * become it at any moment, when a request copies it.
 */
static bool
can_own (const struct q2_live_job *j, const struct q2_tally *t)
{
  return j->check.header->version >= 3 && t->l1_index != UINT64_MAX &&
    t->uses == 1u << Q2_USE_DATA &&
    (q2_tables_l1_entry (j->w->tables, t->l1_index) & Q2_ENTRY_COPIED);
}

static bool
may_lower (const struct q2_live_job *j, size_t i)
{
  const struct q2_tally *const t = &j->tallies[i];

  /* The mark is set for those that could be owned when judging began. */
  return j->repair &&
    (count_of (j, i) != 1 || t->plain == 0 ||
     (can_own (j, t) &&
      (j->w->miscounted || Q2_PLANTED (Q2_PLANT_OWN_UNMARKED))));
}

/* Refcounts that are read together. */
static uint64_t
slice_of (const struct q2_live_job *j, size_t i)
{
  const unsigned bytes_bits = j->geo.cluster_bits < 12 ? j->geo.cluster_bits
    : 12;
  const unsigned bits = bytes_bits + 3 - j->geo.refcount_order;

  return j->suspects.clusters[i] >> bits;
}

/* Its block has been told, or nobody knows what is wrong. */
static void
note_unread (const struct q2_live_job *j, size_t i, struct q2_verdict *v)
{
  v->unread = j->check.unread_block ==
    (j->suspects.clusters[i] >> j->geo.refblock_bits) + 1;
  v->known = v->unread && !q2_suspects_is_touched (&j->suspects, i);
}

/* Its references are known nevertheless.  A repair was begun because all could
 * be read.
 */
static int
judge_unread (struct q2_live_job *j, size_t i, struct q2_verdict *v,
              struct qcow2_error *err)
{
  if (j->repair || !q2_is_unread_refcount (err))
    return -1;
  j->unread_slice = slice_of (j, i) + 1;
  note_unread (j, i, v);
  return 0;
}

static int
judge (struct q2_live_job *j, size_t i, struct qcow2_error *err)
{
  const struct q2_leak leak = {
    .suspects = &j->suspects, .i = i, .count = count_of (j, i),
  };
  struct q2_verdict *const v = &j->verdicts[i];
  bool same;

  *v = (struct q2_verdict) { .known = false };
  /* Failing takes long, and changes wait for it. */
  if (!j->repair && j->unread_slice == slice_of (j, i) + 1) {
    note_unread (j, i, v);
    return 0;
  }
  if (q2_writer_judge (j->w, &j->io, &leak, false, &v->refcount, &v->known,
                       err) == -1)
    return judge_unread (j, i, v, err);
  v->repaired = v->refcount;
  if (!q2_assume (leak.count <= UINT32_MAX, err))
    return -1;
  if (!v->known || v->refcount <= leak.count || !may_lower (j, i))
    return 0;
  if (q2_writer_judge (j->w, &j->io, &leak, true, &v->repaired, &same, err)
      == -1)
    return -1;
  /* Others have changed it since it was looked at. */
  if (!same)
    *v = (struct q2_verdict) { .known = false };
  /* LIVE-2; or it is something that nobody counted, and stays. */
  return !same || q2_assume (v->repaired == leak.count ||
                             v->repaired == v->refcount, err) ? 0 : -1;
}

/* Entries may become alone; only then is the header written to. */
bool
q2_live_may_own (const struct q2_live_job *j)
{
  for (size_t i = 0; j->repair && i < j->suspects.nr; ++i)
    if (count_of (j, i) == 1 && j->tallies[i].plain > 0 &&
        can_own (j, &j->tallies[i]) &&
        !q2_suspects_is_touched (&j->suspects, i))
      return true;
  return false;
}

/* What was decompressed of streams in clusters that a repair frees: views and
 * clients have read them before they were leaked, and others may get their
 * place.  Nobody reads them any more, since nothing refers to them.
 */
static int
forget_decompressed (const struct q2_live_job *j, struct qcow2_error *err)
{
  struct q2_clusters *const cache = j->w->reader->clusters;
  struct q2_frees clusters = { .nr = 0 };

  if (!j->repair || q2_clusters_is_empty (cache))
    return 0;
  if (!q2_frees_reserve (&clusters, j->suspects.nr))
    return q2_fail_nomem (err, "a list of clusters");
  for (size_t i = 0; i < j->suspects.nr; ++i)   /* each once, in order */
    q2_frees_add (&clusters, j->suspects.clusters[i], 1);
  q2_clusters_drop (cache, &clusters, j->geo.cluster_bits);
  q2_frees_destroy (&clusters);
  return 0;
}

int
q2_live_judge (struct q2_live_job *j, struct qcow2_error *err)
{
  j->unread_slice = 0;
  if (forget_decompressed (j, err) == -1)
    return -1;
  for (size_t i = 0; i < j->suspects.nr; ++i)
    if (judge (j, i, err) == -1)
      return -1;
  return 0;
}

/* ---- Reports ------------------------------------------------------------ */

static void
report_overlap (struct q2_live_job *j, uint64_t host_off)
{
  const struct qcow2_finding like = {
    .kind = QCOW2_FINDING_OVERLAP, .severity = QCOW2_FINDING_CORRUPTION,
    .host_off = host_off, .length = j->geo.cluster_size,
    .table_off = QCOW2_NO_OFFSET,
  };

  j->findings.incomplete = true;
  q2_find (&j->findings, &like, "the cluster at offset 0x%" PRIx64 " has two "
           "uses that exclude each other", host_off);
}

static void
report_refcount (struct q2_live_job *j, uint64_t host_off, uint64_t count,
                 uint64_t refcount)
{
  struct qcow2_finding like = {
    .kind = QCOW2_FINDING_REFCOUNT, .host_off = host_off,
    .severity = refcount < count ? QCOW2_FINDING_CORRUPTION
      : QCOW2_FINDING_LEAK,
    .length = j->geo.cluster_size, .table_off = QCOW2_NO_OFFSET,
    .expected = count, .actual = refcount,
  };

  if (refcount > count && host_off >= q2_io_size (&j->io))
    like.severity = QCOW2_FINDING_WARNING;
  q2_find (&j->findings, &like, "the cluster at offset 0x%" PRIx64 " has "
           "%" PRIu64 " users, but its refcount is %" PRIu64, host_off, count,
           refcount);
}

static void
report_flags (struct q2_live_job *j, uint64_t host_off,
              const struct q2_tally *t, uint64_t refcount)
{
  const uint32_t wrong = q2_tally_wrong_flags (t, refcount);
  const struct qcow2_finding like = {
    .kind = QCOW2_FINDING_COPIED, .severity = QCOW2_FINDING_CORRUPTION,
    .host_off = host_off, .length = j->geo.cluster_size,
    .table_off = t->table_off, .index = t->index,
    .expected = refcount == 1, .actual = refcount != 1,
  };

  for (uint32_t n = 0; n < wrong; ++n)
    q2_find (&j->findings, &like, "the COPIED flag of an entry for the "
             "cluster at offset 0x%" PRIx64 " is %sset (entry %" PRIu64 " of "
             "the table at offset 0x%" PRIx64 ")", host_off,
             refcount == 1 ? "not " : "", t->index, t->table_off);
  j->flags_wrong += wrong;
}

static void
note_left (struct q2_live_job *j, size_t i, uint32_t flags)
{
  const uint64_t host_off = j->suspects.clusters[i] << j->geo.cluster_bits;

  j->flags_left += flags;
  if (j->verdicts[i].refcount <= count_of (j, i))
    return;
  if (host_off < q2_io_size (&j->io))
    j->leaks_left++;
  else
    j->warnings_left++;
}

static void
note_repair (struct q2_live_job *j, size_t i)
{
  const struct q2_verdict *const v = &j->verdicts[i];
  const uint64_t host_off = j->suspects.clusters[i] << j->geo.cluster_bits;
  const uint32_t before = q2_tally_wrong_flags (&j->tallies[i], v->refcount);
  const uint32_t after = q2_tally_wrong_flags (&j->tallies[i], v->repaired);

  q2_check (j->repair && v->known);
  if (v->repaired == v->refcount) {
    note_left (j, i, before);
    return;
  }
  if (host_off < q2_io_size (&j->io))
    j->leaks_fixed++;
  else
    j->warnings_fixed++;
  j->flags_fixed += before > after ? before - after : 0;
}

void
q2_live_report (struct q2_live_job *j)
{
  /* A reference may not have been seen, or what is let go still counts: then
   * too many is no leak.
   */
  const bool blind = j->check.skipped > 0 || j->undrained;

  for (size_t i = 0; i < j->suspects.nr; ++i) {
    const struct q2_tally *const t = &j->tallies[i];
    const struct q2_verdict *const v = &j->verdicts[i];
    const uint64_t host_off = j->suspects.clusters[i] << j->geo.cluster_bits;

    if (!v->known)
      continue;
    if (j->repair) {
      note_repair (j, i);
      continue;
    }
    if (q2_tally_overlaps (t))
      report_overlap (j, host_off);
    if (v->unread)
      continue;                 /* its block has been told */
    if (v->refcount < count_of (j, i) ||
        (v->refcount > count_of (j, i) && !blind))
      report_refcount (j, host_off, count_of (j, i), v->refcount);
    j->undecided += j->undrained && v->refcount > count_of (j, i);
    report_flags (j, host_off, t, v->refcount);
  }
}

/* ---- Flags -------------------------------------------------------------- */

static int
own (struct q2_live_job *j, size_t i, struct qcow2_error *err)
{
  const struct q2_tally *const t = &j->tallies[i];
  struct q2_owning o = { .w = j->w, .io = &j->io };

  if (!q2_assume (j->w->geo->version < 3 || j->w->miscounted ||
                  Q2_PLANTED (Q2_PLANT_OWN_UNMARKED), err) ||
      !q2_assume (t->l1_index < j->geo.l1_needed, err))
    return -1;
  return q2_owning_entries (&o, (t->l1_index << j->geo.l2_bits) + t->index, 1,
                            err);
}

int
q2_live_own (struct q2_live_job *j, struct qcow2_error *err)
{
  bool durable = Q2_PLANTED (Q2_PLANT_OWN_EARLY);

  for (size_t i = 0; i < j->suspects.nr; ++i) {
    const struct q2_verdict *const v = &j->verdicts[i];

    if (!v->known || v->repaired == v->refcount || v->repaired != 1 ||
        j->tallies[i].plain == 0)
      continue;
    if (!durable && q2_writer_commit (j->w, &j->io, err) == -1)
      return -1;
    durable = true;
    if (own (j, i, err) == -1)
      return -1;
  }
  return 0;
}
