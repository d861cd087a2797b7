/* SPDX-License-Identifier: BSD-3-Clause */
/* budget.h - how much memory and work an image may cost.
 *
 * Memory: a server has one struct qcow2_budget, each of its images one below
 * that, and views share their image's.  Whatever grows with what an image or a
 * client asks for takes its bytes from there before it allocates them, and
 * gives them back after freeing them.  What is bounded by a small constant is
 * not accounted.
 *
 * Work: struct q2_work is one piece of work whose size an image decides, such
 * as reading all of its tables.  It has a bound, and it ends early when nobody
 * waits for it any more.  If it takes long it goes on only while it has one of
 * the server's turns, of which there are as many as CPUs, and at least two.
 *
 * Locks: none, but for those of the turns; atomics.
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
  /* Of the outermost one; see qcow2_budget_new. */
  qcow2_abandoned_fn abandoned; /* or NULL */
  void *opaque;
  struct q2_turns *turns;       /* of long work; or NULL: no bound */
};

/* A budget of 'max' bytes below 'parent', which may be NULL.  The texts must
 * stay.  There is nothing to destroy; everything must have been given back.
 */
extern void q2_budget_init (struct qcow2_budget *budget,
                            struct qcow2_budget *parent, uint64_t max,
                            const char *whose, const char *remedy)
  __attribute__ ((__nonnull__ (1, 4, 5)));

/* Take 'bytes' from this budget and all above it, or from none; 'b' may be
 * NULL, which has no bound.  The second one fails with QCOW2_ERR_NOMEM, and
 * says what for, whose bound it is, and which parameter raises it.
 */
extern bool q2_budget_try (struct qcow2_budget *budget, uint64_t bytes)
  __attribute__ ((__warn_unused_result__));
extern int q2_budget_take (struct qcow2_budget *budget, uint64_t bytes,
                           const char *what, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (3, 4), __warn_unused_result__));

/* For caches, which shrink rather than fail: take as much as there is, but
 * not more than 'most', and leave at least as much as is taken for those that
 * come later, and half of the budget for what is no cache.  Takes 'least' in
 * any case, even if that exceeds the bound, so it must be small and needed.
 * Returns what was taken.
 */
extern uint64_t q2_budget_take_some (struct qcow2_budget *budget,
                                     uint64_t least, uint64_t most)
  __attribute__ ((__warn_unused_result__));

/* Give back what was taken. */
extern void q2_budget_give (struct qcow2_budget *budget, uint64_t bytes);

/* Bytes that can still be taken. */
extern uint64_t q2_budget_left (const struct qcow2_budget *budget);

/* The server's, for what is too large for any image's; 'b' may be NULL. */
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

/* Whether whoever asked for what this thread is doing does not wait for it any
 * more.
 */
extern bool q2_budget_is_abandoned (const struct qcow2_budget *budget);

/* ---- Work -------------------------------------------------------------- */

/* One thread's.  A step is a few nanoseconds: a table entry looked at, a
 * cluster counted, a few bytes read.
 */
struct q2_work {
  const struct qcow2_budget *budget;    /* or NULL: nobody can abandon it */
  const char *what;             /* "counting ...": begins the message */
  uint64_t max, done;           /* steps */
  uint64_t look;                /* when to ask whether somebody waits */
  uint64_t turn;                /* 0: none */
};

static inline struct q2_work
q2_work_begin (const struct qcow2_budget *budget, uint64_t max,
               const char *what)
{
  return (struct q2_work) { .budget = budget, .what = what, .max = max };
}

/* Fails with QCOW2_ERR_UNSUPPORTED if that is more than is allowed, or with
 * QCOW2_ERR_ABANDONED; to be called before the work is done, often enough: at
 * least for every Q2_WORK_LOOK steps, and with no lock held.  From the second
 * of these on it may wait, as turns.h says.
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

/* To be called at the end, whatever came of it: others may have its turn. */
static inline void
q2_work_end (struct q2_work *work)
{
  if (work->turn != 0)
    q2_turns_give (q2_budget_outermost_const (work->budget)->turns,
                   &work->turn);
}

/* What was read pays for more: an image that is large may cost more. */
static inline void
q2_work_allow (struct q2_work *work, uint64_t steps)
{
  work->max = steps > UINT64_MAX / 2 - work->max ? UINT64_MAX / 2
    : work->max + steps;
}

#endif /* QCOW2_BASE_BUDGET_H */
