/* SPDX-License-Identifier: BSD-3-Clause */
/* budget.h - how much memory and work an image may cost.
 *
 * Memory: a server has one struct qcow2_budget, each of its images has one
 * below that, and views share their image's.  A structure that grows with the
 * requests of an image or a client takes bytes from the budget before it
 * allocates them, and gives them back after freeing them.  Structures bounded
 * by a small constant are not accounted.
 *
 * Work: struct q2_work is one piece of work whose size an image decides, such
 * as reading all of its tables.  It has a bound, and ends early when no client
 * waits for it any more.  If it takes long it goes on only while it has one of
 * the server's turns (turns.h).  There are as many turns as CPUs, and at least
 * two.
 *
 * Locks: none but those of the turns; counters are atomics.
 */
#ifndef QCOW2_BASE_BUDGET_H
#define QCOW2_BASE_BUDGET_H

#include "base/turns.h"

struct qcow2_budget {
  struct qcow2_budget *parent;  /* or NULL; outlives this one */
  uint64_t max;                 /* bytes; constant */
  _Atomic uint64_t used;
  const char *whose;            /* "this image": for messages; constant */
  const char *remedy;           /* "which is what ... allows"; constant */
  /* Set in the outermost budget only; see qcow2_budget_new. */
  qcow2_abandoned_fn abandoned; /* or NULL */
  void *opaque;
  struct q2_turns *turns;       /* of long work; or NULL: no bound */
};

/* A budget of 'max' bytes below 'parent', which may be NULL.  The texts must
 * outlive it.  It needs no destructor, but all bytes must be given back before
 * it goes away.
 */
extern void q2_budget_init (struct qcow2_budget *budget,
                            struct qcow2_budget *parent, uint64_t max,
                            const char *whose, const char *remedy)
  __attribute__ ((__nonnull__ (1, 4, 5)));

/* Take 'bytes' from this budget and all above it, or from none.  A NULL budget
 * has no bound.  q2_budget_take fails with QCOW2_ERR_NOMEM; its message names
 * 'what', the budget, and the remedy.
 */
extern bool q2_budget_try (struct qcow2_budget *budget, uint64_t bytes)
  __attribute__ ((__warn_unused_result__));
extern int q2_budget_take (struct qcow2_budget *budget, uint64_t bytes,
                           const char *what, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (3, 4), __warn_unused_result__));

/* For caches, which shrink rather than fail: take at most 'most' bytes, and at
 * most half of what caches may still take; caches get half of the budget.
 * Takes at least 'least', even if that exceeds the bound: it must be small and
 * needed.  Returns the number of bytes taken.
 */
extern uint64_t q2_budget_take_some (struct qcow2_budget *budget,
                                     uint64_t least, uint64_t most)
  __attribute__ ((__warn_unused_result__));

/* Give back bytes that were taken. */
extern void q2_budget_give (struct qcow2_budget *budget, uint64_t bytes);

/* Bytes that can still be taken. */
extern uint64_t q2_budget_left (const struct qcow2_budget *budget);

/* The server's budget, for uses too large for any image's; 'b' may be NULL. */
static inline struct qcow2_budget *
q2_budget_outermost (struct qcow2_budget *b)
{
  while (b != NULL && b->parent != NULL)
    b = b->parent;
  return b;
}

static inline const struct qcow2_budget *
q2_budget_outermost_const (const struct qcow2_budget *b)
{
  while (b != NULL && b->parent != NULL)
    b = b->parent;
  return b;
}

/* True if no client waits any more for the work of this thread. */
extern bool q2_budget_is_abandoned (const struct qcow2_budget *budget);

/* ---- Work -------------------------------------------------------------- */

/* A piece of work of one thread.  A step takes a few nanoseconds: looking at a
 * table entry, counting a cluster, reading a few bytes.
 */
struct q2_work {
  const struct qcow2_budget *budget;    /* or NULL: never abandoned */
  const char *what;             /* "counting ...": begins the message */
  uint64_t max, done;           /* steps */
  uint64_t look;                /* when to ask whether a client waits */
  uint64_t turn;                /* 0: none */
};

static inline struct q2_work
q2_work_begin (const struct qcow2_budget *budget, uint64_t max,
               const char *what)
{
  return (struct q2_work) { .budget = budget, .what = what, .max = max };
}

/* Account for 'steps' before doing them.  Fails with QCOW2_ERR_UNSUPPORTED if
 * the work exceeds its bound, or with QCOW2_ERR_ABANDONED.  Call it at least
 * every Q2_WORK_LOOK steps, with no lock held: it may wait for a turn
 * (turns.h).
 */
#define Q2_WORK_LOOK (UINT64_C (1) << 22)
extern int q2_work_ask (struct q2_work *work, uint64_t steps,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

static inline int
q2_work_do (struct q2_work *work, uint64_t steps, struct qcow2_error *err)
{
  if (steps <= work->max - work->done && steps < work->look - work->done) {
    work->done += steps;
    return 0;
  }
  return q2_work_ask (work, steps, err);
}

/* Call it at the end, also after a failure: others need the turn. */
static inline void
q2_work_end (struct q2_work *work)
{
  if (work->turn != 0)
    q2_turns_give (q2_budget_outermost_const (work->budget)->turns,
                   &work->turn);
}

/* Raise the bound: a large image may cost more than a small one. */
static inline void
q2_work_allow (struct q2_work *work, uint64_t steps)
{
  work->max = steps > UINT64_MAX / 2 - work->max ? UINT64_MAX / 2
    : work->max + steps;
}

#endif /* QCOW2_BASE_BUDGET_H */
