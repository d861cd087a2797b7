/* SPDX-License-Identifier: BSD-3-Clause */
/* budget.c - how much memory and work an image may cost.
 *
 * Owns      the counters of memory in use, and the number of turns.
 * Method    a budget is a counter with a bound.  Taking from it takes from all
 *           above it: the image's, then the server's.  If one of them has not
 *           enough, the bytes taken from those below are given back.
 * Locks     none: each counter is an atomic.  It exceeds its bound only by the
 *           'least' of q2_budget_take_some.
 * Does not  allocate anything but the server's budget and its turns.
 */
#include "config.h"

#include "base/assume.h"
#include "base/budget.h"

#include "base/bits.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

/* Much longer than it takes to do Q2_WORK_LOOK steps. */
#define LEASE_MS 2000

void
q2_budget_init (struct qcow2_budget *b, struct qcow2_budget *parent,
                uint64_t max, const char *whose, const char *remedy)
{
  b->parent = parent;
  b->max = max;
  atomic_init (&b->used, 0);
  b->whose = whose;
  b->remedy = remedy;
  b->abandoned = NULL;
  b->opaque = NULL;
  b->turns = NULL;
}

static unsigned
count_turns (void)
{
  const long cpus = sysconf (_SC_NPROCESSORS_ONLN);

  return cpus < 2 ? 2 : cpus > 64 ? 64 : (unsigned) cpus;
}

struct qcow2_budget *
qcow2_budget_new (uint64_t max_bytes, const char *remedy,
                  qcow2_abandoned_fn abandoned, void *opaque)
{
  struct qcow2_budget *const b = malloc (sizeof *b);

  if (b == NULL)
    return NULL;
  q2_budget_init (b, NULL, max_bytes, "all open images", remedy);
  b->abandoned = abandoned;
  b->opaque = opaque;
  b->turns = q2_turns_new (count_turns (), LEASE_MS);
  if (b->turns != NULL)
    return b;
  free (b);
  return NULL;
}

void
qcow2_budget_free (struct qcow2_budget *b)
{
  if (b == NULL)
    return;
  q2_turns_free (b->turns);
  free (b);
}

bool
qcow2_budget_take (struct qcow2_budget *b, uint64_t bytes)
{
  return q2_budget_try (b, bytes);
}

void
qcow2_budget_give (struct qcow2_budget *b, uint64_t bytes)
{
  q2_budget_give (b, bytes);
}

uint64_t
qcow2_budget_used (const struct qcow2_budget *b)
{
  return atomic_load_explicit (&b->used, memory_order_relaxed);
}

/* ---- Memory ------------------------------------------------------------ */

static bool
take_from_one (struct qcow2_budget *b, uint64_t bytes)
{
  uint64_t used = atomic_load_explicit (&b->used, memory_order_relaxed);

  do
    if (used > b->max || bytes > b->max - used)
      return false;
  while (!atomic_compare_exchange_weak (&b->used, &used, used + bytes));
  return true;
}

/* The budget that has too little, or NULL if the bytes have been taken. */
static const struct qcow2_budget *
take (struct qcow2_budget *budget, uint64_t bytes)
{
  struct qcow2_budget *b;

  for (b = budget; b != NULL; b = b->parent)
    if (!take_from_one (b, bytes))
      break;
  if (b == NULL)
    return NULL;
  for (struct qcow2_budget *below = budget; below != b;
       below = below->parent)
    atomic_fetch_sub (&below->used, bytes);
  return b;
}

bool
q2_budget_try (struct qcow2_budget *b, uint64_t bytes)
{
  return take (b, bytes) == NULL;
}

int
q2_budget_take (struct qcow2_budget *budget, uint64_t bytes,
                const char *what, struct qcow2_error *err)
{
  const struct qcow2_budget *const b = take (budget, bytes);

  if (b == NULL)
    return 0;
  return q2_fail (err, QCOW2_ERR_NOMEM, QCOW2_NO_OFFSET,
                  "no memory for %s: that takes %" PRIu64 " KiB, and %s may "
                  "use %" PRIu64 " KiB, of which %" PRIu64 " KiB are in "
                  "use; %s", what, (bytes + 1023) >> 10, b->whose,
                  b->max >> 10, atomic_load (&b->used) >> 10, b->remedy);
}

uint64_t
q2_budget_left (const struct qcow2_budget *b)
{
  uint64_t left = UINT64_MAX;

  for (; b != NULL; b = b->parent) {
    const uint64_t used = atomic_load_explicit (&b->used,
                                                memory_order_relaxed);

    left = q2_min (left, used < b->max ? b->max - used : 0);
  }
  return left;
}

/* Caches share the first half of every budget; the second half is for memory
 * that cannot shrink.  Each cache gets no more than half of the rest.
 */
static uint64_t
left_for_caches (const struct qcow2_budget *b)
{
  uint64_t left = UINT64_MAX;

  for (; b != NULL; b = b->parent) {
    const uint64_t used = atomic_load_explicit (&b->used,
                                                memory_order_relaxed);

    left = q2_min (left, used < b->max / 2 ? (b->max / 2 - used) / 2 : 0);
  }
  return left;
}

uint64_t
q2_budget_take_some (struct qcow2_budget *budget, uint64_t least,
                     uint64_t most)
{
  uint64_t bytes = q2_min (most, left_for_caches (budget));

  for (; bytes > least; bytes /= 2)
    if (q2_budget_try (budget, bytes))
      return bytes;
  for (struct qcow2_budget *b = budget; b != NULL; b = b->parent)
    atomic_fetch_add (&b->used, least);
  return least;
}

void
q2_budget_give (struct qcow2_budget *b, uint64_t bytes)
{
  for (; b != NULL; b = b->parent) {
    const uint64_t before = atomic_fetch_sub (&b->used, bytes);

    q2_check (before >= bytes);
  }
}

bool
q2_budget_is_abandoned (const struct qcow2_budget *b)
{
  b = q2_budget_outermost_const (b);
  return b != NULL && b->abandoned != NULL && b->abandoned (b->opaque);
}

/* ---- Work -------------------------------------------------------------- */

/* Short work, which never gets to its second look, needs no turn. */
static bool
has_turn (struct q2_work *w)
{
  const struct qcow2_budget *const b = q2_budget_outermost_const (w->budget);

  return b == NULL || b->turns == NULL ||
    q2_turns_take (b->turns, &w->turn, b->abandoned, b->opaque);
}

int
q2_work_ask (struct q2_work *w, uint64_t steps, struct qcow2_error *err)
{
  const bool first = w->look == 0;

  if (w->done > w->max || steps > w->max - w->done)
    return q2_fail_advise (err, QCOW2_ERR_UNSUPPORTED, QCOW2_ADVICE_CHECK,
                           QCOW2_NO_OFFSET,
                           "%s takes more work than so small a file can have "
                           "need of", w->what);
  w->done += steps;
  if (w->done < w->look)
    return 0;
  w->look = w->done + Q2_WORK_LOOK;
  if (!q2_budget_is_abandoned (w->budget) && (first || has_turn (w)))
    return 0;
  return q2_fail (err, QCOW2_ERR_ABANDONED, QCOW2_NO_OFFSET,
                  "%s was given up, because nobody waits for it any more",
                  w->what);
}
