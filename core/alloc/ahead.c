/* SPDX-License-Identifier: BSD-3-Clause */
/* ahead.c - refcounts that are raised in the file before there is need.
 *
 * Owns      which clusters that is true of: they are "covered".  Which of
 *           them are chosen is in gather.c, and what a set is in covered.c.
 * Method    a commit that writes refcounts writes 1 for some free clusters
 *           where the next ones will be handed out, too; in memory they stay
 *           0.  When that is durable, an entry may name one of them without a
 *           flush between its refcount and itself (ORDER-1): raising it from
 *           0 to 1 changes nothing in the file.  All others that are raised
 *           are "urgent".
 *
 *             in memory   | 1 1 1 0 0 0 0 1 1 0 0 0 0 0 0 ...
 *             in the file | 1 1 1 1 1 0 0 1 1 1 1 1 1 0 0 ...
 *                             a window      cursor
 *
 *           As long as they are covered each of them is written as 1, or as
 *           what it is if that is more; so which of the writes to its slice
 *           a crash leaves does not matter.  Clusters that are covered no
 *           more are written as they are.  All of them lie in one slice,
 *           which is pinned: read anew it would say that they are in use.
 *
 *           While a commit runs, those that it covers are not yet covered,
 *           and those that it covers no more are not any longer.  One that is
 *           raised then is urgent only if the commit fails ('later').
 * Locks     space.lock is the caller's.
 * Model     tests/models/commit.py.
 */
#include "config.h"

#include "alloc/refcounts_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/plant.h"

static uint64_t
slice_of (const struct q2_refcounts *rc, const struct q2_cover *c)
{
  return c->nr == 0 ? Q2_AHEAD_NO_SLICE
    : q2_align_down (q2_refcount_place (rc, c->first),
                     q2_cache_slice_size (rc->cache));
}

/* Some cluster of the set is free, and not in 'but'. */
static bool
has_free (struct q2_refcounts *rc, const struct q2_cover *c,
          const struct q2_cover *but)
{
  struct q2_refcount_run run;
  struct q2_need ignored;

  if (q2_cover_is_part (c, but))
    return false;
  if (!q2_refcounts_copy_locked (rc, c->first, c->nr, &run, &ignored))
    return true;                /* not that anybody knew */
  for (uint64_t i = 0; i < run.nr; ++i)
    if (q2_cover_has (c, c->first + i) && !q2_cover_has (but, c->first + i) &&
        q2_refcount_run_get (&run, i) == 0)
      return true;
  return false;
}

void
q2_ahead_begin_locked (struct q2_refcounts *rc, struct q2_cover *next)
{
  const struct q2_ahead *const a = &rc->ahead;

  /* Written as they are. */
  if (has_free (rc, &a->covered, next))
    q2_check (q2_cache_touch (rc->cache, slice_of (rc, &a->covered)));
  /* Its slice may not be in memory, or not have its room in the file yet. */
  if (has_free (rc, next, &a->covered) &&
      !q2_cache_touch (rc->cache, slice_of (rc, next)))
    q2_cover_keep (next, &a->covered);
}

/* Covered clusters that are 'from' are written as 'to': free ones as 1. */
static void
cover (const struct q2_refcounts *rc, const struct q2_cover *c,
       struct q2_dirty *d, uint64_t from, uint64_t to)
{
  const size_t slice_size = q2_cache_slice_size (rc->cache);
  const unsigned order = rc->geo->refcount_order;
  const uint64_t slice = slice_of (rc, c);

  for (size_t i = 0; i < d->nr; ++i) {
    unsigned char *const bytes = d->bytes + i * slice_size;

    for (uint64_t n = 0; d->host_off[i] == slice && n < c->nr; ++n)
      if (q2_cover_has (c, c->first + n) &&
          q2_refcount_get (bytes, order, n) == from)
        q2_refcount_set (bytes, order, n, to);
  }
}

static void
pin (struct q2_refcounts *rc, const struct q2_cover *c)
{
  struct q2_ahead *const a = &rc->ahead;
  const uint64_t slice = slice_of (rc, c);

  if (a->pinned == slice)
    return;
  if (a->pinned != Q2_AHEAD_NO_SLICE)
    q2_check (q2_cache_pin (rc->cache, a->pinned, false));
  if (slice != Q2_AHEAD_NO_SLICE)
    q2_check (q2_cache_pin (rc->cache, slice, true));
  a->pinned = slice;
}

void
q2_ahead_gather_locked (struct q2_refcounts *rc, const struct q2_cover *next,
                        struct q2_refcounts_dirty *d)
{
  struct q2_ahead *const a = &rc->ahead;

  if (!Q2_PLANTED (Q2_PLANT_COVER_FREED))
    cover (rc, next, &d->slices, 0, 1);
  if (Q2_PLANTED (Q2_PLANT_COVER_TAKEN) && next->nr == 0)
    cover (rc, &a->covered, &d->slices, 1, 0);
  d->urgent = a->urgent && !Q2_PLANTED (Q2_PLANT_COVER_ALL);
  a->urgent = a->later = false;
  q2_cover_keep (&a->covered, next);
  q2_cover_copy (&a->next, next);
  /* What is covered no more is written now, or again if that fails. */
  pin (rc, next);
}

void
q2_ahead_end_locked (struct q2_refcounts *rc,
                     const struct q2_refcounts_dirty *d, bool durable)
{
  struct q2_ahead *const a = &rc->ahead;

  a->failing = !durable;
  if (durable || Q2_PLANTED (Q2_PLANT_COVER_EARLY))
    q2_cover_copy (&a->covered, &a->next);
  if (!durable && !Q2_PLANTED (Q2_PLANT_FORGET_FLAGS))
    a->urgent |= a->later || d->urgent;
  a->next.nr = 0;
  a->later = false;
  pin (rc, &a->covered);
}

bool
q2_ahead_is_any_locked (struct q2_refcounts *rc)
{
  static const struct q2_cover none;    /* all zero */

  return has_free (rc, &rc->ahead.covered, &none) ||
    has_free (rc, &rc->ahead.next, &none);
}
