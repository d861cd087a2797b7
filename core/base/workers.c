/* SPDX-License-Identifier: BSD-3-Clause */
/* workers.c - the thread pool.
 *
 * Owns      its threads, the list of batches and the queue of jobs.
 * Method    a batch lives on its caller's stack, in the pool's list.  The
 *           caller and the workers that join take indexes from an atomic
 *           counter; when none is left the caller takes the batch off the list
 *           and waits for the workers that are still inside.  An idle worker
 *           waits on a condition of its own, in a stack, so that a call wakes
 *           only the thread that slept least, and the others time out.
 *           Threads are joined, never detached: after q2_workers_free none of
 *           them executes our code.  A thread that ends puts itself on a list,
 *           which the next spawn joins.
 * Locks     workers.lock guards everything but the batches' counters, and is
 *           not held while work is done.  It is held while a thread is
 *           created, so that threads > 0 implies that one of them looks at the
 *           queues again.  It also guards the groups of jobs.
 * Invariant while a job is queued, threads > 0.  A worker is removed from the
 *           idle stack by the thread that wakes it, or by itself when it ends.
 */
#include "config.h"

#include "base/assume.h"
#include "base/workers.h"

#include "base/bits.h"
#include "base/error.h"
#include "base/lock.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define IDLE_SECONDS 5
#define MAX_JOBS 256

struct worker {
  struct worker *next;          /* in idle or gone */
  struct q2_workers *pool;
  pthread_t thread;
  pthread_cond_t wake;
  bool woken;                   /* taken out of idle */
};

struct batch {
  struct batch *next;
  q2_batch_fn fn;
  void *arg;
  size_t count;
  atomic_size_t taken;          /* may end up beyond count */
  size_t helpers, max_helpers;  /* workers inside */
  pthread_cond_t left;          /* the last of them is out */
  bool broken;                  /* an assumption failed on a worker's thread */
  struct qcow2_error why;
};

struct q2_workers {
  unsigned max_threads;
  struct q2_mutex lock;
  pthread_cond_t empty;         /* threads is 0 */
  pthread_cond_t group_ended;   /* some group has no job any more */
  unsigned threads;             /* not counting those in gone */
  struct worker *idle, *gone;
  struct batch *batches;        /* oldest first */
  struct q2_job *jobs, **jobs_end;
  unsigned nr_jobs;
  bool closing;
};

struct q2_workers *
q2_workers_new (unsigned max_threads, struct qcow2_error *err)
{
  struct q2_workers *pool = calloc (1, sizeof *pool);

  if (pool == NULL) {
    q2_fail_nomem (err, "the worker threads");
    return NULL;
  }
  pool->max_threads = max_threads;
  pool->jobs_end = &pool->jobs;
  q2_mutex_init (&pool->lock, 2, "workers.lock");
  pthread_cond_init (&pool->empty, NULL);
  pthread_cond_init (&pool->group_ended, NULL);
  return pool;
}

/* ---- Batches -------------------------------------------------------- */

static void
take_part (struct batch *batch)
{
  size_t i;

  while ((i = atomic_fetch_add (&batch->taken, 1)) < batch->count)
    batch->fn (batch->arg, i);
}

/* The oldest batch that another worker may join. */
static struct batch *
open_batch_locked (const struct q2_workers *pool)
{
  struct batch *batch = pool->batches;

  q2_mutex_check_held (&pool->lock);
  while (batch && (batch->helpers == batch->max_helpers ||
                   atomic_load (&batch->taken) >= batch->count))
    batch = batch->next;
  return batch;
}

static void
help_locked (struct q2_workers *pool, struct batch *batch)
{
  struct qcow2_error why;
  bool broken;

  q2_mutex_check_held (&pool->lock);
  batch->helpers++;
  q2_mutex_unlock (&pool->lock);
  take_part (batch);
  broken = q2_check_end (&why) == -1;
  q2_mutex_lock (&pool->lock);
  if (broken) {
    batch->broken = true;
    batch->why = why;
  }
  if (--batch->helpers == 0)
    pthread_cond_signal (&batch->left);
}

/* ---- Threads -------------------------------------------------------- */

static void
run_job_locked (struct q2_workers *pool)
{
  struct q2_job *const job = pool->jobs;
  struct q2_job_group *const group = job->group;

  q2_mutex_check_held (&pool->lock);
  pool->jobs = job->next;
  if (pool->jobs == NULL)
    pool->jobs_end = &pool->jobs;
  pool->nr_jobs--;
  q2_mutex_unlock (&pool->lock);
  job->fn (job);
  q2_mutex_lock (&pool->lock);
  if (group != NULL && --group->nr == 0)
    pthread_cond_broadcast (&pool->group_ended);
}

/* Returns false if this thread should leave. */
static bool
wait_for_work_locked (struct q2_workers *pool, struct worker *self)
{
  struct timespec until;
  int r = 0;

  q2_mutex_check_held (&pool->lock);
  if (pool->closing)
    return false;
  clock_gettime (CLOCK_MONOTONIC, &until);
  until.tv_sec += IDLE_SECONDS;
  self->woken = false;
  self->next = pool->idle;
  pool->idle = self;
  while (!self->woken && r == 0)
    r = q2_cond_timedwait (&self->wake, &pool->lock, &until);
  if (self->woken)
    return true;
  for (struct worker **link = &pool->idle;; link = &(*link)->next)
    if (*link == self) {
      *link = self->next;
      return false;
    }
}

static void *
worker_main (void *arg)
{
  struct worker *const self = arg;
  struct q2_workers *const pool = self->pool;

  q2_mutex_lock (&pool->lock);
  for (;;) {
    struct batch *const batch = open_batch_locked (pool);

    if (batch)
      help_locked (pool, batch);
    else if (pool->jobs)
      run_job_locked (pool);
    else if (!wait_for_work_locked (pool, self))
      break;
  }
  self->next = pool->gone;
  pool->gone = self;
  if (--pool->threads == 0)
    pthread_cond_signal (&pool->empty);
  q2_mutex_unlock (&pool->lock);
  return NULL;
}

static void
worker_free (struct worker *worker)
{
  pthread_cond_destroy (&worker->wake);
  free (worker);
}

/* A thread in this list takes no lock any more, so this is soon done. */
static void
join_gone_locked (struct q2_workers *pool)
{
  q2_mutex_check_held (&pool->lock);
  while (pool->gone) {
    struct worker *const worker = pool->gone;

    pool->gone = worker->next;
    pthread_join (worker->thread, NULL);
    worker_free (worker);
  }
}

static bool
spawn_locked (struct q2_workers *pool)
{
  struct worker *worker;
  pthread_condattr_t attr;

  q2_mutex_check_held (&pool->lock);
  join_gone_locked (pool);
  worker = calloc (1, sizeof *worker);
  if (worker == NULL)
    return false;
  worker->pool = pool;
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&worker->wake, &attr);
  pthread_condattr_destroy (&attr);
  if (pthread_create (&worker->thread, NULL, worker_main, worker) != 0) {
    worker_free (worker);
    return false;
  }
  pool->threads++;
  return true;
}

/* Make one more thread look for work. */
static bool
call_worker_locked (struct q2_workers *pool)
{
  struct worker *const worker = pool->idle;

  q2_mutex_check_held (&pool->lock);
  if (worker == NULL)
    return pool->threads < pool->max_threads && spawn_locked (pool);
  pool->idle = worker->next;
  worker->woken = true;
  pthread_cond_signal (&worker->wake);
  return true;
}

/* ---- Work ----------------------------------------------------------- */

void
q2_workers_batch (struct q2_workers *pool, q2_batch_fn fn, void *arg,
                  size_t count, unsigned parallel)
{
  struct batch batch = { .fn = fn, .arg = arg, .count = count };
  struct batch **link;

  if (count <= 1 || parallel <= 1 || pool->max_threads == 0) {
    for (size_t i = 0; i < count; ++i)
      fn (arg, i);
    return;
  }
  batch.max_helpers = q2_min (parallel, count) - 1;
  pthread_cond_init (&batch.left, NULL);

  q2_mutex_lock (&pool->lock);
  for (link = &pool->batches; *link; link = &(*link)->next)
    ;
  *link = &batch;
  for (size_t i = 0; i < batch.max_helpers; ++i)
    if (!call_worker_locked (pool))
      break;
  q2_mutex_unlock (&pool->lock);

  take_part (&batch);

  q2_mutex_lock (&pool->lock);
  for (link = &pool->batches; *link != &batch; link = &(*link)->next)
    ;
  *link = batch.next;
  while (batch.helpers > 0)
    q2_cond_wait (&batch.left, &pool->lock);
  q2_mutex_unlock (&pool->lock);
  pthread_cond_destroy (&batch.left);
  if (batch.broken)
    q2_check_pass_on (&batch.why);
}

bool
q2_workers_submit (struct q2_workers *pool, struct q2_job *job)
{
  bool ok;

  q2_mutex_lock (&pool->lock);
  ok = !pool->closing && pool->nr_jobs < MAX_JOBS &&
    (call_worker_locked (pool) || pool->threads > 0);
  if (ok) {
    job->next = NULL;
    *pool->jobs_end = job;
    pool->jobs_end = &job->next;
    pool->nr_jobs++;
    if (job->group != NULL)
      job->group->nr++;
  }
  q2_mutex_unlock (&pool->lock);
  return ok;
}

void
q2_workers_wait (struct q2_workers *pool, const struct q2_job_group *group)
{
  q2_mutex_lock (&pool->lock);
  while (group->nr > 0)
    q2_cond_wait (&pool->group_ended, &pool->lock);
  q2_mutex_unlock (&pool->lock);
}

void
q2_workers_free (struct q2_workers *pool)
{
  if (pool == NULL)
    return;
  q2_mutex_lock (&pool->lock);
  pool->closing = true;
  while (pool->idle && call_worker_locked (pool))
    ;
  while (pool->threads > 0)
    q2_cond_wait (&pool->empty, &pool->lock);
  join_gone_locked (pool);
  q2_mutex_unlock (&pool->lock);

  if (!q2_check (pool->batches == NULL && pool->jobs == NULL))
    return;                     /* leaked: it is in use */
  pthread_cond_destroy (&pool->group_ended);
  pthread_cond_destroy (&pool->empty);
  q2_mutex_destroy (&pool->lock);
  free (pool);
}
