/* SPDX-License-Identifier: BSD-3-Clause */
/* live_use.c - one reference, in an image that is being written to.
 *
 * Owns      what becomes of it: a count, a tally, or a suspect.
 * Method    of a cluster with two uses the counts have only one, so it is a
 *           suspect, too; a tally has all of them.
 * Locks     none.
 */
#include "config.h"

#include "check/walk.h"

#include "base/assume.h"

static void
add_to_tally (struct q2_walk *w, uint64_t cluster, const struct q2_user *u)
{
  const size_t i = q2_suspects_find (w->live->suspects, cluster);
  struct q2_tally *t;

  if (i == SIZE_MAX)
    return;
  if (!q2_check (i < w->live->suspects->nr))
    return;
  t = &w->live->tallies[i];
  t->count = u->times > Q2_COUNTS_MAX - t->count ? Q2_COUNTS_MAX
    : t->count + u->times;
  t->uses |= 1u << u->use;
  t->flags |= u->flags;
  t->copied += (u->flags & Q2_COUNT_COPIED) != 0;
  t->plain += (u->flags & Q2_COUNT_PLAIN) != 0;
  q2_check (t->copied + t->plain <= t->count || t->count == Q2_COUNTS_MAX);
  if (u->flags != 0) {
    t->table_off = w->table_off;
    t->index = w->index;
    t->l1_index = w->l1_index;
  }
}

/* Half of the room is for what comparing finds. */
static void
suspect (struct q2_walk *w, uint64_t cluster)
{
  struct q2_suspects *const s = w->live->suspects;

  if (!w->counting && cluster >= w->window->begin &&
      (s->nr >= s->max / 2 || !q2_suspects_add (s, cluster)))
    w->skipped++;
}

enum q2_counts_result
q2_walk_live_use (struct q2_walk *w, uint64_t cluster,
                  const struct q2_user *u)
{
  enum q2_counts_result r;

  if (w->counting)
    add_to_tally (w, cluster, u);
  /* The second walk has an empty window: data is not counted. */
  r = q2_scope_add (w->window, w->counts, cluster, u->times, u->use, u->flags,
                    NULL);
  if (r != Q2_COUNTS_CONFLICT)
    return r;
  suspect (w, cluster);
  w->overlaps++;
  if (u->use == Q2_USE_META)
    w->skipped++;               /* what it refers to is not walked, perhaps */
  /* Without memory for that its entries are not walked. */
  if (u->use == Q2_USE_L2 &&
      q2_counts_turn (w->counts, cluster, Q2_USE_L2, u->flags) !=
      Q2_COUNTS_OK)
    w->skipped++;
  return Q2_COUNTS_OK;
}
