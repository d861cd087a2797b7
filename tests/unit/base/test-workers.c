/* SPDX-License-Identifier: BSD-3-Clause */
/* test-workers.c - the thread pool.
 *
 * Linked with wrappers around the calls below: the test counts threads that
 * are created and joined, makes creation fail, and ends the wait of idle
 * workers.
 */
#include "config.h"

#include "threads.h"

#include "base/workers.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>

extern int __real_pthread_create (pthread_t *, const pthread_attr_t *,
                                  void *(*) (void *), void *);
extern int __wrap_pthread_create (pthread_t *, const pthread_attr_t *,
                                  void *(*) (void *), void *);
extern int __real_pthread_join (pthread_t, void **);
extern int __wrap_pthread_join (pthread_t, void **);
extern int __real_pthread_cond_timedwait (pthread_cond_t *,
                                          pthread_mutex_t *,
                                          const struct timespec *);
extern int __wrap_pthread_cond_timedwait (pthread_cond_t *,
                                          pthread_mutex_t *,
                                          const struct timespec *);
extern void *__real_calloc (size_t, size_t);
extern void *__wrap_calloc (size_t, size_t);

static atomic_uint created, joined;
static atomic_int creations_left = INT_MAX; /* then they fail */
static atomic_bool calloc_fails;
static atomic_uint impatient;   /* percent of waits that time out at once */
static atomic_uint sleeping, wakes;
static _Atomic pthread_t last_sleeper;

int
__wrap_pthread_create (pthread_t *id, const pthread_attr_t *attr,
                       void *(*fn) (void *), void *arg)
{
  int r = EAGAIN;

  if (atomic_fetch_sub (&creations_left, 1) > 0)
    r = __real_pthread_create (id, attr, fn, arg);
  else
    atomic_fetch_add (&creations_left, 1);
  created += r == 0;
  return r;
}

int
__wrap_pthread_join (pthread_t id, void **ret)
{
  joined++;
  return __real_pthread_join (id, ret);
}

/* Only idle workers wait with a limit. */
int
__wrap_pthread_cond_timedwait (pthread_cond_t *cond, pthread_mutex_t *lock,
                               const struct timespec *until)
{
  static atomic_uint calls;
  struct timespec now;
  int r;

  clock_gettime (CLOCK_MONOTONIC, &now);
  CHECK (until->tv_sec >= now.tv_sec - 60 && until->tv_sec <= now.tv_sec + 5);
  if (calls++ * 37 % 100 < impatient) {
    /* Gives others a chance to get at the lock, as waiting does. */
    pthread_mutex_unlock (lock);
    sched_yield ();
    pthread_mutex_lock (lock);
    return ETIMEDOUT;
  }
  last_sleeper = pthread_self ();
  sleeping++;
  r = __real_pthread_cond_timedwait (cond, lock, until);
  sleeping--;
  wakes++;
  return r;
}

void *
__wrap_calloc (size_t n, size_t size)
{
  return calloc_fails ? NULL : __real_calloc (n, size);
}

static struct q2_workers *
new_pool (unsigned max_threads)
{
  struct qcow2_error err;
  struct q2_workers *const pool = q2_workers_new (max_threads, &err);

  REQUIRE (pool != NULL);
  created = joined = wakes = 0;
  return pool;
}

static void
free_pool (struct q2_workers *pool)
{
  q2_workers_free (pool);
  CHECK_EQ (created, joined);
  CHECK_EQ (sleeping, 0);
}

/* ---- Batches --------------------------------------------------------- */

#define MAX_COUNT 300

struct tally {
  atomic_uint calls[MAX_COUNT];
  atomic_uint inside, peak;
  unsigned gather;              /* wait until so many are inside */
  atomic_bool *hold;            /* wait until it is true */
  pthread_t caller;
  atomic_uint by_caller;
  _Atomic pthread_t helper;
};

static void
count_call (void *arg, size_t i)
{
  struct tally *const t = arg;
  const unsigned inside = ++t->inside;
  unsigned peak = t->peak;

  while (peak < inside &&
         !atomic_compare_exchange_weak (&t->peak, &peak, inside))
    ;
  if (t->gather)
    WAIT_UNTIL (t->peak >= t->gather);
  if (t->hold)
    WAIT_UNTIL (*t->hold);
  REQUIRE (i < MAX_COUNT);
  t->calls[i]++;
  if (pthread_equal (pthread_self (), t->caller))
    t->by_caller++;
  else
    t->helper = pthread_self ();
  t->inside--;
}

/* Returns how many calls were inside at once at most. */
static unsigned
run_batch (struct q2_workers *pool, size_t count, unsigned parallel,
           unsigned gather, pthread_t *ret_helper)
{
  struct tally t = { .gather = gather, .caller = pthread_self () };
  bool ok = true;

  q2_workers_batch (pool, count_call, &t, count, parallel);
  CHECK_EQ (t.inside, 0);
  for (size_t i = 0; i < MAX_COUNT; ++i)
    ok = ok && t.calls[i] == (i < count);
  CHECK (ok);
  if (gather == 0 && parallel <= 1)
    CHECK_EQ (t.by_caller, count);
  if (ret_helper)
    *ret_helper = t.helper;
  return t.peak;
}

static void
test_batch_alone (void)
{
  struct q2_workers *pool = new_pool (8);

  CHECK_EQ (run_batch (pool, 0, 8, 0, NULL), 0);
  CHECK_EQ (run_batch (pool, 1, 8, 0, NULL), 1);
  CHECK_EQ (run_batch (pool, 100, 1, 0, NULL), 1);
  CHECK_EQ (run_batch (pool, 100, 0, 0, NULL), 1);
  CHECK_EQ (created, 0);
  free_pool (pool);

  pool = new_pool (0);
  CHECK_EQ (run_batch (pool, 100, 8, 0, NULL), 1);
  CHECK_EQ (created, 0);
  free_pool (pool);
  q2_workers_free (NULL);
}

/* As many threads as asked for, no more, really at once; made once. */
static void
test_batch_threads (void)
{
  struct q2_workers *const pool = new_pool (7);

  CHECK_EQ (run_batch (pool, 2, 100, 2, NULL), 2);
  CHECK_EQ (created, 1);
  CHECK_EQ (run_batch (pool, 300, 3, 3, NULL), 3);
  CHECK (created <= 3);         /* the first may still have been busy */
  CHECK_EQ (run_batch (pool, 8, 8, 8, NULL), 8);
  CHECK_EQ (created, 7);
  CHECK_EQ (run_batch (pool, 300, 300, 8, NULL), 8);
  CHECK_EQ (created, 7);
  free_pool (pool);
}

/* A call wakes one thread, the one that slept least. */
static void
test_batch_wakes (void)
{
  struct q2_workers *const pool = new_pool (4);

  CHECK_EQ (run_batch (pool, 5, 5, 5, NULL), 5);
  for (unsigned i = 0; i < 10; ++i) {
    pthread_t expected, helper;

    WAIT_UNTIL (sleeping == 4);
    wakes = 0;
    expected = last_sleeper;
    CHECK_EQ (run_batch (pool, 2, 2, 2, &helper), 2);
    CHECK (pthread_equal (helper, expected));
    sleep_ms (2);
    WAIT_UNTIL (sleeping == 4);
    CHECK_EQ (wakes, 1);
  }
  CHECK_EQ (created, 4);
  free_pool (pool);
}

static void
test_no_threads (void)
{
  struct q2_workers *const pool = new_pool (8);

  creations_left = 0;
  CHECK_EQ (run_batch (pool, 100, 8, 0, NULL), 1);
  creations_left = 2;
  CHECK_EQ (run_batch (pool, 100, 8, 3, NULL), 3);
  CHECK_EQ (created, 2);
  calloc_fails = true;
  creations_left = INT_MAX;
  CHECK_EQ (run_batch (pool, 100, 8, 3, NULL), 3);
  CHECK_EQ (created, 2);
  calloc_fails = false;
  CHECK_EQ (run_batch (pool, 100, 8, 8, NULL), 8);
  CHECK_EQ (created, 7);
  free_pool (pool);
}

static void
test_random_batches (void)
{
  struct rng rng = { 1 };

  for (unsigned i = 0; i < unit_scaled (100); ++i) {
    const unsigned max_threads = (unsigned) rng_below (&rng, 9);
    struct q2_workers *const pool = new_pool (max_threads);

    for (unsigned j = 0; j < 10; ++j) {
      const unsigned count = (unsigned) rng_below (&rng, MAX_COUNT + 1);
      const unsigned parallel = (unsigned) rng_below (&rng, 12);

      unit_context ("seed step %u.%u: %u calls, parallel %u, %u threads", i,
                    j, count, parallel, max_threads);
      CHECK (run_batch (pool, count, parallel, 0, NULL) <=
             (parallel ? parallel : 1));
      CHECK (created <= max_threads);
    }
    free_pool (pool);
  }
  unit_context ("%s", "");
}

/* ---- Nested batches -------------------------------------------------- */

struct nest {
  struct q2_workers *pool;
  unsigned depth;
  atomic_uint *leaves;
};

static void
nest_call (void *arg, size_t i)
{
  struct nest n = *(const struct nest *) arg;

  (void) i;
  if (n.depth == 0)
    ++*n.leaves;
  else {
    n.depth--;
    q2_workers_batch (n.pool, nest_call, &n, 6, 4);
  }
}

static void
nest_many (void *arg, unsigned nr)
{
  atomic_uint leaves = 0;
  struct nest n = { arg, 3, &leaves };

  (void) nr;
  for (unsigned i = 0; i < 20; ++i)
    nest_call (&n, 0);
  CHECK_EQ (leaves, 20 * 6 * 6 * 6);
}

static void
test_nested_batches (void)
{
  struct q2_workers *const pool = new_pool (3);
  struct threads threads;

  threads_start (&threads, 4, nest_many, pool);
  threads_join (&threads);
  free_pool (pool);
}

/* ---- Jobs ------------------------------------------------------------ */

struct job {
  struct q2_job job;
  struct q2_workers *pool;
  atomic_uint *done;
  unsigned expected;            /* value of *done before */
  atomic_bool *go;
  atomic_bool *ready;
};

static void
run_job (struct q2_job *q2_job)
{
  struct job *const job = (struct job *) q2_job;
  unsigned before;

  if (job->ready)
    *job->ready = true;
  if (job->go)
    WAIT_UNTIL (*job->go);
  before = (*job->done)++;
  if (job->expected != UINT_MAX)
    CHECK_EQ (before, job->expected);
  free (job);
}

static bool
submit (struct q2_workers *pool, struct job job)
{
  struct job *const copy = malloc (sizeof *copy);
  bool ok;

  REQUIRE (copy != NULL);
  *copy = job;
  copy->job.fn = run_job;
  ok = q2_workers_submit (pool, &copy->job);
  if (!ok)
    free (copy);
  return ok;
}

/* Occupy the only worker until 'go'. */
static void
submit_blocker (struct q2_workers *pool, atomic_uint *done, atomic_bool *go)
{
  atomic_bool ready = false;

  CHECK (submit (pool, (struct job) { .done = done, .expected = UINT_MAX,
                                      .go = go, .ready = &ready }));
  WAIT_UNTIL (ready);
}

/* In order, and no more than 256 waiting. */
static void
test_jobs (void)
{
  struct q2_workers *const pool = new_pool (1);

  for (unsigned round = 0; round < 2; ++round) {
    atomic_uint done = 0;
    atomic_bool go = false;
    unsigned queued = 0;

    submit_blocker (pool, &done, &go);
    while (queued < 1000 &&
           submit (pool, (struct job) { .done = &done,
                                        .expected = queued + 1 }))
      ++queued;
    CHECK_EQ (queued, 256);
    go = true;
    WAIT_UNTIL (done == queued + 1);
    CHECK_EQ (created, 1);
  }
  free_pool (pool);
}

/* Each job gets a thread of its own while there may be more. */
static void
test_parallel_jobs (void)
{
  struct q2_workers *const pool = new_pool (4);
  atomic_uint done = 0;
  atomic_bool go = false;

  for (unsigned i = 0; i < 4; ++i)
    submit_blocker (pool, &done, &go);
  CHECK_EQ (created, 4);
  CHECK (submit (pool, (struct job) { .done = &done,
                                      .expected = UINT_MAX }));
  CHECK_EQ (created, 4);
  go = true;
  free_pool (pool);
  CHECK_EQ (done, 5);
}

static void
test_refused_jobs (void)
{
  struct q2_workers *pool = new_pool (0);
  atomic_uint done = 0;
  atomic_bool go = false;
  const struct job job = { .done = &done, .expected = UINT_MAX };

  CHECK (!submit (pool, job));
  free_pool (pool);

  pool = new_pool (2);
  creations_left = 0;
  CHECK (!submit (pool, job));
  creations_left = INT_MAX;
  calloc_fails = true;
  CHECK (!submit (pool, job));
  calloc_fails = false;
  submit_blocker (pool, &done, &go);
  /* It cannot have a second thread, but the first one will do. */
  creations_left = 0;
  CHECK (submit (pool, job));
  creations_left = INT_MAX;
  go = true;
  WAIT_UNTIL (done == 2);
  free_pool (pool);
  CHECK_EQ (done, 2);
}

/* The worker is busy, a job waits, then a batch comes that needs it. */
static void
batch_in_thread (void *arg, unsigned nr)
{
  (void) nr;
  CHECK_EQ (run_batch (arg, 2, 2, 2, NULL), 2);
}

static void
test_batches_first (void)
{
  struct q2_workers *const pool = new_pool (1);
  atomic_uint done = 0;
  atomic_bool go = false, go_second = false;
  struct threads threads;

  submit_blocker (pool, &done, &go);
  CHECK (submit (pool, (struct job) { .done = &done, .expected = 1,
                                      .go = &go_second }));
  threads_start (&threads, 1, batch_in_thread, pool);
  sleep_ms (50);                /* for the batch to get into the list */
  go = true;
  /* Hangs if the second job is in the way. */
  threads_join (&threads);
  CHECK_EQ (done, 1);
  go_second = true;
  free_pool (pool);
  CHECK_EQ (done, 2);
}

/* Four workers look for something to do: one may join the batch. */
struct held {
  struct q2_workers *pool;
  struct tally tally;
};

static void
held_batch_in_thread (void *arg, unsigned nr)
{
  struct held *const h = arg;

  (void) nr;
  q2_workers_batch (h->pool, count_call, &h->tally, 10, 2);
}

static void
test_parallel_limit (void)
{
  atomic_uint done = 0;
  atomic_bool go = false, hold = false;
  struct held h = { .pool = new_pool (4), .tally.hold = &hold };
  struct threads threads;

  for (unsigned i = 0; i < 4; ++i)
    submit_blocker (h.pool, &done, &go);
  threads_start (&threads, 1, held_batch_in_thread, &h);
  WAIT_UNTIL (h.tally.inside == 1);
  go = true;
  WAIT_UNTIL (h.tally.inside == 2 && sleeping == 3);
  CHECK_EQ (h.tally.peak, 2);
  hold = true;
  threads_join (&threads);
  CHECK_EQ (h.tally.peak, 2);
  free_pool (h.pool);
}

/* ---- The end --------------------------------------------------------- */

struct again {
  struct q2_job job;
  struct q2_workers *pool;
  unsigned runs, leaves, refused;
};

/* Goes on until the pool takes no more; works in batches meanwhile. */
static void
run_again (struct q2_job *q2_job)
{
  struct again *const a = (struct again *) q2_job;
  atomic_uint leaves = 0;
  struct nest n = { a->pool, 2, &leaves };

  nest_call (&n, 0);
  a->leaves += leaves;
  a->runs++;
  if (!q2_workers_submit (a->pool, &a->job))
    a->refused++;
}

static void
test_free_with_jobs (void)
{
  struct q2_workers *const pool = new_pool (3);
  struct again again = { .job.fn = run_again, .pool = pool };
  atomic_uint done = 0;
  atomic_bool go = false;
  unsigned queued = 0;

  CHECK (q2_workers_submit (pool, &again.job));
  submit_blocker (pool, &done, &go);
  submit_blocker (pool, &done, &go);
  while (queued < 200)
    queued += submit (pool, (struct job) { .done = &done,
                                           .expected = UINT_MAX });
  go = true;
  free_pool (pool);
  CHECK_EQ (done, 202);
  CHECK (again.runs > 0);
  CHECK_EQ (again.refused, 1);
  CHECK_EQ (again.leaves, again.runs * 36);
}

/* Who waits for a group waits for its jobs, queued or running, and for no
 * others.
 */
struct group_wait {
  struct q2_workers *pool;
  struct q2_job_group group;
  atomic_uint done;
  atomic_bool ended;
};

static void
wait_for_group (void *arg, unsigned nr)
{
  struct group_wait *const w = arg;

  (void) nr;
  q2_workers_wait (w->pool, &w->group);
  CHECK_EQ (w->done, 20);
  w->ended = true;
}

static void
test_groups (void)
{
  struct group_wait w = { .pool = new_pool (3) };
  struct q2_job_group none = { 0 };
  atomic_bool go = false, go_group = false;
  atomic_uint others = 0;
  struct threads threads;

  q2_workers_wait (w.pool, &none);
  submit_blocker (w.pool, &others, &go);
  for (unsigned i = 0; i < 20; ++i)
    CHECK (submit (w.pool, (struct job) {
      .job.group = &w.group, .done = &w.done, .expected = UINT_MAX,
      .go = &go_group }));
  threads_start (&threads, 2, wait_for_group, &w);
  sleep_ms (5);
  CHECK (!w.ended);
  go_group = true;
  threads_join (&threads);
  CHECK (w.ended);
  CHECK_EQ (others, 0);
  go = true;
  free_pool (w.pool);

  /* A job that was refused does not count. */
  w.pool = new_pool (0);
  CHECK (!submit (w.pool, (struct job) { .job.group = &w.group,
                                         .done = &w.done }));
  q2_workers_wait (w.pool, &w.group);
  free_pool (w.pool);
}

/* Jobs are taken on while nobody is there to run them: the pool waits. */
static void
test_free_at_once (void)
{
  for (unsigned i = 0; i < unit_scaled (300); ++i) {
    struct q2_workers *const pool = new_pool (2);
    atomic_uint done = 0;

    for (unsigned j = 0; j < i % 5; ++j)
      CHECK (submit (pool, (struct job) { .done = &done,
                                          .expected = UINT_MAX }));
    free_pool (pool);
    CHECK_EQ (done, i % 5);
  }
}

/* ---- Threads that leave ---------------------------------------------- */

static void
test_leaving (void)
{
  struct q2_workers *const pool = new_pool (4);

  impatient = 100;
  do {
    CHECK_EQ (run_batch (pool, 5, 5, 5, NULL), 5);
    CHECK (created >= 4);
  } while (created < 50);
  /* Those that left were joined on the way. */
  CHECK (joined + 4 >= created);
  impatient = 0;
  free_pool (pool);
}

/* The limit is really that of a monotonic clock. */
static void
test_leaving_by_itself (void)
{
  struct q2_workers *const pool = new_pool (2);
  struct timespec a, b;

  CHECK_EQ (run_batch (pool, 3, 3, 3, NULL), 3);
  WAIT_UNTIL (sleeping == 2);
  clock_gettime (CLOCK_MONOTONIC, &a);
  wakes = 0;
  WAIT_UNTIL (wakes == 2);
  clock_gettime (CLOCK_MONOTONIC, &b);
  CHECK (b.tv_sec - a.tv_sec >= 3);
  CHECK_EQ (run_batch (pool, 3, 3, 3, NULL), 3);
  CHECK_EQ (created, 4);
  CHECK_EQ (joined, 2);
  free_pool (pool);
}

/* ---- All at once ----------------------------------------------------- */

struct hammer {
  struct q2_workers *pool;
  atomic_bool go;
  atomic_uint submitted, done, leaves;
};

static void
hammer (void *arg, unsigned nr)
{
  struct hammer *const h = arg;
  struct rng rng = { 100 + nr };

  WAIT_UNTIL (h->go);
  for (unsigned i = 0; i < unit_scaled (2000); ++i)
    switch (rng_below (&rng, 8)) {
    case 0:
      creations_left = (int) rng_below (&rng, 5);
      break;
    case 1:
      nest_call (&(struct nest) { h->pool, 2, &h->leaves }, 0);
      break;
    case 2: case 3: case 4:
      h->submitted += submit (h->pool, (struct job) { .done = &h->done,
                                                      .expected = UINT_MAX });
      break;
    default:
      run_batch (h->pool, rng_below (&rng, 20),
                 (unsigned) rng_below (&rng, 6), 0, NULL);
    }
}

static void
test_hammer (void)
{
  for (unsigned i = 0; i < 4; ++i) {
    struct hammer h = { .pool = new_pool (1 + i * 2) };
    struct threads threads;

    threads_start (&threads, 8, hammer, &h);
    impatient = i * 30;
    h.go = true;
    threads_join (&threads);
    creations_left = INT_MAX;
    impatient = 0;
    free_pool (h.pool);
    CHECK (h.submitted > 0);
    CHECK_EQ (h.submitted, h.done);
  }
}

static void
test_no_memory (void)
{
  struct qcow2_error err = { .errnum = 0 };

  calloc_fails = true;
  CHECK (q2_workers_new (4, &err) == NULL);
  calloc_fails = false;
  CHECK_ERROR (&err, QCOW2_ERR_NOMEM, QCOW2_NO_OFFSET);
}

int
main (void)
{
  threads_watchdog ();
  test_batch_alone ();
  test_batch_threads ();
  test_batch_wakes ();
  test_no_threads ();
  test_random_batches ();
  test_nested_batches ();
  test_jobs ();
  test_parallel_jobs ();
  test_refused_jobs ();
  test_batches_first ();
  test_parallel_limit ();
  test_free_with_jobs ();
  test_groups ();
  test_free_at_once ();
  test_leaving ();
  test_leaving_by_itself ();
  test_hammer ();
  test_no_memory ();
  return unit_finish ();
}
