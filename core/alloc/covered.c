/* SPDX-License-Identifier: BSD-3-Clause */
/* covered.c - sets of clusters whose refcounts are raised ahead of need.
 *
 * Owns      nothing.
 * Method    see ahead.c.  A set is a bit for each cluster of one slice.
 * Locks     space.lock is the caller's.
 */
#include "config.h"

#include "alloc/refcounts_impl.h"

#include "base/assume.h"
#include "base/plant.h"

#include <string.h>

bool
q2_cover_has (const struct q2_cover *c, uint64_t cluster)
{
  const uint64_t i = cluster - c->first;

  return cluster >= c->first && i < c->nr && (c->bits[i / 8] >> i % 8 & 1);
}

void
q2_cover_add (struct q2_cover *c, uint64_t cluster)
{
  const uint64_t i = cluster - c->first;

  if (q2_check (cluster >= c->first && i < c->nr))
    c->bits[i / 8] |= (unsigned char) (1u << i % 8);
}

bool
q2_cover_is_part (const struct q2_cover *a, const struct q2_cover *b)
{
  if (a->nr > 0 && a->first == b->first && a->nr == b->nr) {
    for (uint64_t i = 0; i < (a->nr + 7) / 8; ++i)
      if (a->bits[i] & ~b->bits[i])
        return false;
    return true;
  }
  return a->nr == 0;
}

void
q2_cover_copy (struct q2_cover *a, const struct q2_cover *b)
{
  a->first = b->first;
  a->nr = b->nr;
  memcpy (a->bits, b->bits, (a->nr + 7) / 8);
}

void
q2_cover_keep (struct q2_cover *a, const struct q2_cover *b)
{
  if (a->first != b->first || a->nr != b->nr)
    a->nr = 0;
  for (uint64_t i = 0; i < (a->nr + 7) / 8; ++i)
    a->bits[i] &= b->bits[i];
}

bool
q2_ahead_note_locked (struct q2_refcounts *rc, uint64_t cluster,
                      uint64_t old, uint64_t new)
{
  struct q2_ahead *const a = &rc->ahead;
  const bool first = old == 0 && new == 1;

  if (new <= old)
    return new == old;
  if (first &&
      (q2_cover_has (&a->covered, cluster) ||
       (Q2_PLANTED (Q2_PLANT_COVER_EARLY) &&
        q2_cover_has (&a->next, cluster))))
    return true;
  if (first && q2_cover_has (&a->next, cluster))
    a->later = true;
  else
    a->urgent = true;
  return false;
}
