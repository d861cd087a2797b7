/* SPDX-License-Identifier: BSD-3-Clause */
/* workers.h - a bounded pool of threads that grows on demand.
 *
 * There are two kinds of work.  A batch is part of a request: its caller takes
 * part in it and returns when all of it is done, so it needs no worker to make
 * progress.  A job is background work that may outlive the request that
 * submitted it.  Batches come first.
 *
 * Threads are created when there is work and none is idle, up to the limit,
 * and end after a few idle seconds.  If a thread cannot be created, fewer
 * threads do the batches.  Jobs are refused when there is no thread at all.
 */
#ifndef QCOW2_BASE_WORKERS_H
#define QCOW2_BASE_WORKERS_H

#include "qcow2.h"

struct q2_workers;

/* Creates no thread yet. */
extern struct q2_workers *q2_workers_new (unsigned max_threads,
                                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Runs the jobs still queued, waits for all threads and joins them, so that
 * the code they execute may be unloaded afterwards.  NULL is allowed.
 */
extern void q2_workers_free (struct q2_workers *workers);

/* Call fn (arg, i) exactly once for every i < count, on the calling thread and
 * at most 'parallel' - 1 others, and return when all calls have.  Workers may
 * call it, too.
 */
typedef void (*q2_batch_fn) (void *arg, size_t i);
extern void q2_workers_batch (struct q2_workers *workers, q2_batch_fn fn,
                              void *arg, size_t count, unsigned parallel)
  __attribute__ ((__nonnull__ (1, 2)));

/* Call job->fn (job) on some worker, later.  The job belongs to the pool until
 * then; fn may free it.  Returns false, and does not keep the job, if there is
 * no thread, too many jobs are waiting, or the pool is being freed.
 */
struct q2_job {
  struct q2_job *next;          /* the pool's */
  struct q2_job_group *group;   /* optional (NULL) */
  void (*fn) (struct q2_job *job);
};
extern bool q2_workers_submit (struct q2_workers *workers,
                               struct q2_job *job)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Jobs that use an object which is freed before the pool is.  Initialized by
 * zeros.
 */
struct q2_job_group {
  unsigned nr;                  /* not ended yet; the pool's */
};

/* Wait until all jobs of the group have ended.  No thread may submit one to
 * the group meanwhile.
 */
extern void q2_workers_wait (struct q2_workers *workers,
                             const struct q2_job_group *group)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_BASE_WORKERS_H */
