/* SPDX-License-Identifier: BSD-3-Clause */
/* gather.c - what a commit takes of refcounts.
 *
 * Owns      the choice of the clusters that are covered (ahead.c).
 * Method    those that will be handed out next: where the search goes on, and
 *           in what is reserved.
 * Locks     space.lock.
 */
#include "config.h"

#include "alloc/space_impl.h"

#include "alloc/refcounts_impl.h"

#include "base/bits.h"

#include <string.h>

/* A crash leaks the free clusters of two sets at most, the one that is covered
 * and the one that is about to be: docs/ORDERING.md and the man page have that
 * number.
 */
#define AHEAD_BYTES (UINT64_C (8) << 20)
#define AHEAD_CLUSTERS 256

static uint64_t
per_slice (const struct q2_refcounts *rc)
{
  return ((uint64_t) q2_cache_slice_size (rc->cache) << 3) >>
    rc->geo->refcount_order;
}

struct choice {
  const struct q2_space *s;
  const struct q2_refcount_run *counts; /* of the slice */
  struct q2_cover *set;
  uint64_t end;                 /* none from here on */
};

/* Up to 'most' free clusters of [from, end) that are not in the set; returns
 * how many.
 */
static uint64_t
add_some (const struct choice *c, uint64_t from, uint64_t end, uint64_t most)
{
  const uint64_t last = q2_min (end, c->end);
  uint64_t n = 0;

  for (uint64_t i = q2_max (from, c->set->first); i < last && n < most; ++i)
    if (!q2_cover_has (c->set, i) &&
        q2_refcount_run_get (c->counts, i - c->set->first) == 0) {
      q2_cover_add (c->set, i);
      ++n;
    }
  return n;
}

/* Whoever fills a window goes on behind what was taken last, mostly; or else
 * before.
 */
static uint64_t
add_window (const struct choice *c, const struct q2_space_window *w,
            uint64_t most)
{
  uint64_t next = 0, i, n;

  for (i = 0; (i = q2_space_next_taken (w, i, true)) < w->size; ++i)
    next = i + 1;
  n = add_some (c, w->start + next, w->start + w->size, most);
  return n + add_some (c, w->start, w->start + next, most - n);
}

/* So many: half of them where the search goes on, of each window its share of
 * the others.
 */
static void
choose (const struct choice *c, uint64_t most)
{
  const struct q2_space *const s = c->s;
  const uint64_t share = q2_max (most / 2 / Q2_SPACE_WINDOWS, 1);
  uint64_t n = add_some (c, s->cursor, c->end, most / 2 + 1);

  for (size_t i = 0; i < Q2_SPACE_WINDOWS; ++i)
    if (s->windows[i].left > 0)
      n += add_window (c, &s->windows[i], q2_min (share, most - n));
  (void) add_some (c, s->cursor, c->end, most - n);
}

static void
choose_locked (struct q2_space *s, const struct q2_io *io,
               struct q2_cover *ret)
{
  struct q2_refcounts *const rc = &s->rc;
  const unsigned bits = s->geo->cluster_bits;
  const uint64_t most =
    q2_max (q2_min (AHEAD_BYTES >> bits, AHEAD_CLUSTERS), 1);
  struct q2_refcount_run counts;
  struct q2_need ignored;
  struct choice c = { .s = s, .counts = &counts, .set = ret };

  q2_mutex_check_held (&s->lock);
  ret->first = q2_align_down (s->cursor, per_slice (rc));
  ret->nr = per_slice (rc);
  memset (ret->bits, 0, sizeof ret->bits);
  /* Not behind the end of the file: a crash would leave holes there, which
   * the next writer passes over.
   */
  c.end = q2_min (ret->first + ret->nr, q2_io_size (io) >> bits);
  if (q2_refcounts_is_uncovered_locked (rc, ret->first) ||
      !q2_refcounts_copy_locked (rc, ret->first, ret->nr, &counts, &ignored)) {
    q2_cover_copy (ret, &rc->ahead.covered);
    return;
  }
  /* As long as half of them are left, nothing has to be written. */
  choose (&c, most / 2);
  if (q2_cover_is_part (ret, &rc->ahead.covered))
    q2_cover_copy (ret, &rc->ahead.covered);
  else
    choose (&c, most - most / 2);
}

int
q2_space_gather (struct q2_space *s, const struct q2_io *io,
                 enum q2_ahead_way way, struct q2_refcounts_dirty *d,
                 struct qcow2_error *err)
{
  struct q2_cover next;
  int r;

  next.first = next.nr = 0;     /* and not its bits: most are empty */
  q2_mutex_lock (&s->lock);
  if (way == Q2_AHEAD_KEEP || (way == Q2_AHEAD_MORE && s->rc.ahead.failing))
    q2_cover_copy (&next, &s->rc.ahead.covered);
  else if (way == Q2_AHEAD_MORE)
    choose_locked (s, io, &next);
  r = q2_refcounts_gather_locked (&s->rc, &next, d, err);
  q2_mutex_unlock (&s->lock);
  return r;
}
