/* SPDX-License-Identifier: BSD-3-Clause */
/* live.c - checking an image that is being written to.
 *
 * Owns      the two walks, and which clusters are suspects.
 * Method    see live.h.  Both walks meet everything that refers to clusters
 *           (recount.c); the first has counts of a window, and compares them
 *           with the refcounts, the second has tallies of the suspects, and
 *           counts of tables alone, because what a table of snapshots refers
 *           to has as many users as the table.
 * Locks     none; what is in memory guards itself (struct q2_live).
 * Does not  say that anything is wrong, but of entries that no writer ever
 *           makes, however they are read, and of refcounts that cannot be.
 */
#include "config.h"

#include "check/walk.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"

#define AT_ONCE 256u            /* refcounts */

/* ---- Comparing ---------------------------------------------------------- */

static bool
is_suspect (const struct q2_live_check *c, const struct q2_count *count,
            uint64_t refcount)
{
  const uint64_t max = UINT64_MAX >> (64 - (1u << c->geo->refcount_order));

  return refcount != q2_min (count->count, max) ||
    (count->flags & (refcount == 1 ? Q2_COUNT_PLAIN : Q2_COUNT_COPIED) &&
     count->use != Q2_USE_META);
}

/* The refcount of a cluster could not be read: nothing is said of those that
 * its block counts from there on.  The block is told once, whatever part of it
 * another window was about.
 */
static int
skip_block (struct q2_live_check *c, uint64_t cluster, uint64_t *ret_next,
            struct qcow2_error *err)
{
  const struct q2_live *const live = c->live;
  const uint64_t idx = cluster >> c->geo->refblock_bits;
  struct qcow2_error why = *err;
  uint64_t host_off, nr, table_off, clusters;

  if (!q2_is_unread_refcount (&why))
    return -1;
  *ret_next = (idx + 1) << c->geo->refblock_bits;
  if (c->unread_block == idx + 1)
    return 0;
  if (live->blocks (live->opaque, idx, 1, &host_off, &nr, &table_off,
                    &clusters, err) == -1)
    return -1;
  c->unread_block = idx + 1;
  q2_find_unread_block (c->findings, c->geo, idx,
                        nr > 0 ? host_off : why.offset, &why);
  return 0;
}

/* Up to AT_ONCE clusters from 'cluster' on; *ret_next is where to go on. */
static int
compare_some (struct q2_live_check *c, struct q2_counts *counts,
              uint64_t cluster, uint64_t *ret_next, struct qcow2_error *err)
{
  const struct q2_live *const live = c->live;
  uint64_t values[AT_ONCE], nr;

  if (live->refcounts (live->opaque, cluster,
                       q2_min (AT_ONCE, c->stop - cluster), values, &nr, err)
      == -1)
    return skip_block (c, cluster, ret_next, err);
  if (!q2_assume (nr > 0 && nr <= AT_ONCE, err))
    return -1;
  for (uint64_t i = 0; i < nr; ++i) {
    const struct q2_count count = q2_counts_get (counts, cluster + i);

    if (values[i] != 0)
      c->end = q2_max (c->end, cluster + i + 1);
    if (!is_suspect (c, &count, values[i]) ||
        q2_suspects_add (c->suspects, cluster + i))
      continue;
    c->stop = cluster + i;      /* the next window begins here */
    break;
  }
  *ret_next = cluster + nr;
  return 0;
}

static int
compare (struct q2_live_check *c, struct q2_walk *w, struct qcow2_error *err)
{
  uint64_t cluster = c->begin;

  while (cluster < c->stop) {
    cluster = q2_min (q2_counts_next_used (w->counts, cluster),
                      c->live->next_covered (c->live->opaque, cluster));
    if (cluster >= c->stop)
      break;
    q2_work_allow (&w->work, 2 * AT_ONCE);
    if (q2_work_do (&w->work, AT_ONCE, err) == -1 ||
        compare_some (c, w->counts, cluster, &cluster, err) == -1)
      return -1;
  }
  return 0;
}

/* ---- Both walks --------------------------------------------------------- */

static struct q2_walk
begin_walk (struct q2_live_check *c, struct q2_scope *window, bool counting)
{
  return (struct q2_walk) {
    .io = c->io, .h = c->header, .geo = c->geo, .findings = c->findings,
    .window = window, .max_bytes = c->memory, .live = c,
    .counting = counting, .l1_index = UINT64_MAX,
    .progress = c->progress, .opaque = c->opaque,
    .work = q2_work_begin (q2_budget_outermost (q2_io_budget (c->io)),
                           Q2_RECOUNT_BLIND_STEPS,
                           "counting the references to all clusters"),
  };
}

static void
end_walk (struct q2_live_check *c, struct q2_walk *w, struct q2_scope *window)
{
  c->skipped += w->skipped;
  q2_work_end (&w->work);
  q2_counts_free (w->counts);
  q2_scope_free (window);
}

int
q2_live_suspect (struct q2_live_check *c, struct qcow2_error *err)
{
  struct q2_scope window;
  struct q2_walk w;
  int r;

  q2_scope_init (&window, NULL);
  window.begin = c->begin;
  w = begin_walk (c, &window, false);
  c->stop = UINT64_MAX;
  r = q2_walk_image (&w, err);
  if (r == 0) {
    c->stop = window.stop;
    c->allocated = w.allocated;
    c->compressed = w.compressed;
    c->end = q2_max (c->end, q2_counts_end (w.counts));
    r = compare (c, &w, err);
  }
  end_walk (c, &w, &window);
  if (r == -1)
    return -1;
  q2_suspects_sort (c->suspects);
  while (c->suspects->nr > 0 &&
         c->suspects->clusters[c->suspects->nr - 1] >= c->stop)
    c->suspects->nr--;
  return 0;
}

int
q2_live_count (struct q2_live_check *c, struct qcow2_error *err)
{
  struct q2_scope window;
  struct q2_walk w;
  int r;

  for (size_t i = 0; i < c->suspects->nr; ++i)
    c->tallies[i] = (struct q2_tally) { .table_off = QCOW2_NO_OFFSET };
  q2_scope_init (&window, NULL);
  window.silent = true;
  window.stop = 0;
  w = begin_walk (c, &window, true);
  r = q2_walk_image (&w, err);
  end_walk (c, &w, &window);
  return r;
}
