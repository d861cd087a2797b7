/* SPDX-License-Identifier: BSD-3-Clause */
/* beside.h - another thread takes steps between the operations of one.
 *
 * Before each operation on a host that the first thread does, the second one
 * may take a step, such as a guest's request, and the first one waits for it:
 * so the order is the same each time.  A step may have to wait for the first
 * thread, which then goes on after a while; the next step is taken when that
 * one has ended.
 *
 * One such pair of threads at a time; any number of hosts.
 */
#ifndef CRASH_BESIDE_H
#define CRASH_BESIDE_H

#include "host.h"
#include "unit.h"

struct beside {
  void (*step) (void *opaque, struct rng *rng); /* on the second thread */
  /* Before each operation of the first thread, and before the step.  Returns
   * the errno with which that is to fail, or 0.  NULL: none fails.
   */
  int (*before) (void *opaque, enum host_op_kind kind);
  void *opaque;
  unsigned percent;             /* of the operations have steps before them */
  long patience_us;             /* with a step; 0: 20 ms */

  struct rng rng, step_rng;
  pthread_t first, second;
  pthread_mutex_t lock;         /* of those below */
  pthread_cond_t changed;
  unsigned long begun, ended;   /* steps */
  bool on, stop;                /* 'on': the first thread is there */
};

/* The fields in front are the caller's.  The hosts of that pair are wrapped
 * when they are there, before they are reopened.
 */
extern void beside_init (struct beside *b, uint64_t seed);
extern void beside_wrap (struct host *h);
extern void beside_free (struct beside *b);

/* The caller is the first thread, from now until the end, when no step runs
 * any more.
 */
extern void beside_begin (struct beside *b);
extern void beside_end (struct beside *b);

/* That many steps, with nothing in between. */
extern void beside_steps (struct beside *b, unsigned nr);

#endif /* CRASH_BESIDE_H */
