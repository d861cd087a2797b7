/* SPDX-License-Identifier: BSD-3-Clause */
/* walk_use.c - counts one reference to clusters.
 *
 * Owns      what may be referred to: what lies in the file, begins at a
 *           cluster, and is not used for something else.
 * Method    a fault ends the count, with an error, or, in a check, becomes a
 *           finding; then what is faulty is not counted.  Of two uses that
 *           exclude each other an L2 table is the one that stays: its entries
 *           refer to data, which must not look free.
 * Locks     none; see recount.c.
 */
#include "config.h"

#include "check/walk.h"

#include "format/l2e.h"

#include "base/assume.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#define L1_RESERVED UINT64_C (0x7f000000000001ff)
#define MAX_HOST_OFF (UINT64_C (1) << 56)

/* ---- Faults ------------------------------------------------------------ */

int
q2_walk_fault (struct q2_walk *w, enum qcow2_finding_kind kind,
               enum qcow2_advice advice, uint64_t host_off, uint64_t len,
               struct qcow2_error *err, const char *fmt, ...)
{
  const struct qcow2_finding like = {
    .kind = kind, .severity = QCOW2_FINDING_CORRUPTION,
    .host_off = host_off, .length = len, .table_off = w->table_off,
    .index = w->index,
  };
  char text[sizeof err->text];
  va_list args;

  va_start (args, fmt);
  vsnprintf (text, sizeof text, fmt, args);
  va_end (args);
  if (w->findings == NULL)
    return q2_fail_advise (err, QCOW2_ERR_CORRUPT, advice, host_off, "%s",
                           text);
  /* Nobody knows what was meant, or it is used by somebody else, too; or the
   * bytes may come back, as those past the end of a file that was cut off.
   */
  if (kind != QCOW2_FINDING_RESERVED && kind != QCOW2_FINDING_ENTRY &&
      kind != QCOW2_FINDING_SHORT_SNAPSHOT && kind != QCOW2_FINDING_COPIED)
    w->findings->incomplete = true;
  if (w->silent)
    return 0;
  if (w->table_off == QCOW2_NO_OFFSET)
    q2_find (w->findings, &like, "%s", text);
  else
    q2_find (w->findings, &like, "%s (entry %" PRIu64 " of the table at "
             "offset 0x%" PRIx64 ")", text, w->index, w->table_off);
  return 0;
}

int
q2_walk_skip (struct q2_walk *w, enum qcow2_finding_kind kind,
              struct qcow2_error *err)
{
  struct q2_findings ignored = { 0 };

  if (w->findings == NULL ||
      q2_find_error (w->silent ? &ignored : w->findings, kind, err) == -1)
    return -1;
  w->findings->incomplete = true;
  w->skipped++;
  /* Failing takes long. */
  return w->progress == NULL || w->progress (w->opaque, w->percent) ? 0
    : q2_fail (err, QCOW2_ERR_CANCELLED, QCOW2_NO_OFFSET,
               "the check was cancelled");
}

/* In an image that nobody writes to flags.c looks for it. */
int
q2_walk_stray_flag (struct q2_walk *w, struct qcow2_error *err)
{
  w->flags_are_wrong = true;
  if (w->live == NULL)
    return 0;
  return q2_walk_fault (w, QCOW2_FINDING_COPIED, QCOW2_ADVICE_REPAIR,
                        w->table_off, 8, err, "the COPIED flag is set where "
                        "nothing can be written in place");
}

/* ---- One cluster ------------------------------------------------------- */

static const char *
use_name (enum q2_use use)
{
  switch (use) {
  case Q2_USE_NONE: return "nothing";
  case Q2_USE_DATA: return "data";
  case Q2_USE_L2:   return "an L2 table";
  case Q2_USE_META: return "other metadata";
  }
  return "something";
}

static int
fail_full (const struct q2_walk *w, uint64_t host_off,
           struct qcow2_error *err)
{
  struct qcow2_budget *const budget = q2_budget_outermost
    (q2_io_budget (w->io));
  const uint64_t usual = 64 << 10;

  if (q2_budget_take (budget, usual, "counting the references to all "
                      "clusters", err) == -1)
    return -1;
  /* Its own bound, or somebody has given something back meanwhile. */
  q2_budget_give (budget, usual);
  return q2_fail_advise (err, QCOW2_ERR_NOMEM, QCOW2_ADVICE_REPAIR, host_off,
                         "counting the references to all clusters takes more "
                         "than %" PRIu64 " KiB of memory%s",
                         w->max_bytes >> 10,
                         w->window ? ", even in parts" : "");
}

static int
use_twice (struct q2_walk *w, uint64_t cluster, const struct q2_user *u,
           enum q2_use old, struct qcow2_error *err)
{
  const uint64_t host_off = cluster << w->geo->cluster_bits;

  w->overlaps++;
  if (q2_walk_fault (w, QCOW2_FINDING_OVERLAP, QCOW2_ADVICE_REPAIR, host_off,
                     w->geo->cluster_size, err,
                     "the cluster at offset 0x%" PRIx64 " is used for %s and "
                     "for %s at once", host_off, use_name (old), u->what)
      == -1)
    return -1;
  return 0;
}

static int
note_result (struct q2_walk *w, uint64_t cluster, const struct q2_user *u,
             enum q2_counts_result result, enum q2_use old,
             struct qcow2_error *err)
{
  const uint64_t host_off = cluster << w->geo->cluster_bits;

  if (result == Q2_COUNTS_CONFLICT) {
    if (use_twice (w, cluster, u, old, err) == -1)
      return -1;
    result = u->use == Q2_USE_L2
      ? q2_counts_turn (w->counts, cluster, Q2_USE_L2, u->flags)
      : Q2_COUNTS_OK;
  }
  switch (result) {
  case Q2_COUNTS_OK:
    return 0;
  case Q2_COUNTS_CONFLICT:      /* turning knows none */
    break;
  case Q2_COUNTS_OVERFLOW:
    return q2_walk_fault (w, QCOW2_FINDING_TOO_MANY, QCOW2_ADVICE_REPAIR,
                          host_off, w->geo->cluster_size, err,
                          "the cluster at offset 0x%" PRIx64 " has more than "
                          "%u users", host_off, Q2_COUNTS_MAX);
  case Q2_COUNTS_FULL:
    return fail_full (w, host_off, err);
  case Q2_COUNTS_NOMEM:
    break;
  }
  return q2_fail_nomem (err, "counting references to clusters");
}

/* Memory is for counting before it is for reading ahead. */
static enum q2_counts_result
count (struct q2_walk *w, uint64_t cluster, const struct q2_user *u,
       enum q2_use *ret_old)
{
  enum q2_counts_result r;

  while ((r = q2_counts_add (w->counts, cluster, u->times, u->use, u->flags,
                             ret_old)) == Q2_COUNTS_FULL && w->fetch != NULL) {
    q2_fetch_free (w->fetch);
    w->fetch = NULL;
  }
  return r;
}

static int
use_cluster (struct q2_walk *w, uint64_t cluster, const struct q2_user *u,
             struct qcow2_error *err)
{
  const bool silent = w->silent;
  enum q2_use old = Q2_USE_NONE;
  enum q2_counts_result result;
  int r;

  if (w->live != NULL)
    result = q2_walk_live_use (w, cluster, u);
  else if (w->window == NULL)
    result = count (w, cluster, u, &old);
  else {
    w->silent = !q2_scope_tells (w->window, cluster);
    result = q2_scope_add (w->window, w->counts, cluster, u->times, u->use,
                            u->flags, &old);
  }
  r = result == Q2_COUNTS_OK ? 0
    : note_result (w, cluster, u, result, old, err);
  w->silent = silent;
  return r;
}

/* ---- Ranges ------------------------------------------------------------ */

/* Only the last cluster of a file may be cut short.  The L1 table of a disk
 * that was never written to may be all missing, if it begins where the file
 * ends.
 */
static bool
is_past_end (struct q2_walk *w, uint64_t host_off, uint64_t len,
             const struct q2_user *u)
{
  if (w->live != NULL)          /* it grows */
    w->file_size = q2_io_size (w->io);
  return u->may_be_missing ? host_off > w->file_size
    : host_off >= w->file_size ||
      host_off + len >= w->file_size + w->geo->cluster_size;
}

int
q2_walk_use_bytes (struct q2_walk *w, uint64_t host_off, uint64_t len,
                   const struct q2_user *u, struct qcow2_error *err)
{
  const unsigned bits = w->geo->cluster_bits;
  const uint64_t last = (host_off + len - 1) >> bits;

  if (!q2_assume (len > 0 && u->times > 0, err))
    return -1;
  if (host_off >= MAX_HOST_OFF || len > MAX_HOST_OFF - host_off)
    return q2_walk_fault (w, QCOW2_FINDING_PAST_END, QCOW2_ADVICE_REPAIR,
                          host_off, len, err, "%s at offset 0x%" PRIx64
                          " would lie past the largest offset, 2^56",
                          u->what, host_off);
  if (is_past_end (w, host_off, len, u))
    return q2_walk_fault (w, QCOW2_FINDING_PAST_END, QCOW2_ADVICE_COMPLETE,
                          host_off, len, err, "%s at offset 0x%" PRIx64
                          " would lie past the end of the file", u->what,
                          host_off);
  for (uint64_t cluster = host_off >> bits; cluster <= last; ++cluster)
    if (q2_work_do (&w->work, Q2_RECOUNT_CLUSTER, err) == -1 ||
        use_cluster (w, cluster, u, err) == -1)
      return -1;
  return 0;
}

int
q2_walk_use_clusters (struct q2_walk *w, uint64_t host_off, uint64_t len,
                      const struct q2_user *u, struct qcow2_error *err)
{
  if (!q2_is_aligned (host_off, w->geo->cluster_size))
    return q2_walk_fault (w, QCOW2_FINDING_MISALIGNED, QCOW2_ADVICE_REPAIR,
                          host_off, len, err,
                          "%s is said to lie at offset 0x%" PRIx64 ", which "
                          "is not a multiple of the cluster size", u->what,
                          host_off);
  return len == 0 ? 0 : q2_walk_use_bytes (w, host_off, len, u, err);
}

int
q2_walk_use_table (struct q2_walk *w, uint64_t host_off, uint64_t len,
                   const char *what, struct qcow2_error *err)
{
  const struct q2_user u = {
    .what = what, .use = Q2_USE_META, .times = 1,
    /* Disks that were never written to may lack theirs. */
    .may_be_missing = host_off == w->h->l1_offset,
  };

  return q2_walk_use_clusters (w, host_off, len, &u, err);
}

/* ---- An L1 entry ------------------------------------------------------- */

/* Only a check asks. */
int
q2_walk_reserved (struct q2_walk *w, uint64_t entry, uint64_t reserved,
                  const char *what, struct qcow2_error *err)
{
  if (w->findings == NULL || (entry & reserved) == 0)
    return 0;
  return q2_walk_fault (w, QCOW2_FINDING_RESERVED, QCOW2_ADVICE_REPAIR,
                        w->table_off + 8 * w->index, 8, err,
                        "reserved bits 0x%" PRIx64 " are set in an entry of "
                        "%s", entry & reserved, what);
}

int
q2_walk_use_l1_entry (struct q2_walk *w, uint64_t entry, bool active,
                      struct qcow2_error *err)
{
  const uint64_t host_off = q2_l1e_table (w->geo, entry);
  const unsigned flag =
    entry & Q2_ENTRY_COPIED ? Q2_COUNT_COPIED : Q2_COUNT_PLAIN;
  const struct q2_user u = {
    .what = "an L2 table", .use = Q2_USE_L2, .times = 1,
    .flags = active ? flag : 0,
  };

  if (q2_walk_reserved (w, entry, L1_RESERVED, "an L1 table", err) == -1)
    return -1;
  if (host_off == 0)
    return active && (entry & Q2_ENTRY_COPIED)
      ? q2_walk_stray_flag (w, err) : 0;
  return q2_walk_use_clusters (w, host_off, w->geo->cluster_size, &u, err);
}
