/* SPDX-License-Identifier: BSD-3-Clause */
/* lock.h - mutexes with ranks.
 *
 * Every lock of the engine has a rank and a name, those of docs/LOCKING.md.  A
 * thread that has a lock may wait only for locks of higher ranks, so no wait
 * forms a cycle.  Debug builds (--enable-debug-assertions) check that on every
 * lock and abort with both names, and that functions with _locked in their
 * names are called with the lock; other builds have plain mutexes.
 *
 * Functions are those of pthreads with the same names.  Trying never waits, so
 * it may be done in any order.
 */
#ifndef QCOW2_BASE_LOCK_H
#define QCOW2_BASE_LOCK_H

#include <pthread.h>
#include <time.h>

struct q2_rank {
  unsigned rank;
  const char *name;             /* a literal */
};

#ifdef DEBUG_ASSERTIONS
/* Before waiting for it: the thread has none of its rank or a higher one. */
extern void q2_rank_check (const struct q2_rank *rank)
  __attribute__ ((__nonnull__));
/* The thread has it, or is giving it back. */
extern void q2_rank_push (const struct q2_rank *rank)
  __attribute__ ((__nonnull__));
extern void q2_rank_pop (const struct q2_rank *rank)
  __attribute__ ((__nonnull__));
/* The thread has it. */
extern void q2_rank_check_held (const struct q2_rank *rank)
  __attribute__ ((__nonnull__));
#else
#define q2_rank_check(rank) ((void) (rank))
#define q2_rank_push(rank) ((void) (rank))
#define q2_rank_pop(rank) ((void) (rank))
#define q2_rank_check_held(rank) ((void) (rank))
#endif

struct q2_mutex {
  pthread_mutex_t mutex;
  struct q2_rank rank;
};

#define Q2_MUTEX_INITIALIZER(rank, name)                                      \
  { PTHREAD_MUTEX_INITIALIZER, { (rank), (name) } }

static inline void
q2_mutex_init (struct q2_mutex *m, unsigned rank, const char *name)
{
  pthread_mutex_init (&m->mutex, NULL);
  m->rank = (struct q2_rank) { rank, name };
}

static inline void
q2_mutex_destroy (struct q2_mutex *m)
{
  pthread_mutex_destroy (&m->mutex);
}

static inline void
q2_mutex_lock (struct q2_mutex *m)
{
  q2_rank_check (&m->rank);
  pthread_mutex_lock (&m->mutex);
  q2_rank_push (&m->rank);
}

/* 0, or EBUSY. */
static inline int
q2_mutex_trylock (struct q2_mutex *m)
{
  const int r = pthread_mutex_trylock (&m->mutex);

  if (r == 0)
    q2_rank_push (&m->rank);
  return r;
}

static inline void
q2_mutex_unlock (struct q2_mutex *m)
{
  q2_rank_pop (&m->rank);
  pthread_mutex_unlock (&m->mutex);
}

/* For functions whose callers have the lock: their names end in _locked. */
static inline void
q2_mutex_check_held (const struct q2_mutex *m)
{
  q2_rank_check_held (&m->rank);
}

static inline void
q2_cond_wait (pthread_cond_t *cond, struct q2_mutex *m)
{
  pthread_cond_wait (cond, &m->mutex);
}

/* 0, or ETIMEDOUT. */
static inline int
q2_cond_timedwait (pthread_cond_t *cond, struct q2_mutex *m,
                   const struct timespec *end)
{
  return pthread_cond_timedwait (cond, &m->mutex, end);
}

/* Many readers or one writer. */
struct q2_rwlock {
  pthread_rwlock_t lock;
  struct q2_rank rank;
};

static inline void
q2_rwlock_init (struct q2_rwlock *l, unsigned rank, const char *name)
{
  pthread_rwlock_init (&l->lock, NULL);
  l->rank = (struct q2_rank) { rank, name };
}

static inline void
q2_rwlock_destroy (struct q2_rwlock *l)
{
  pthread_rwlock_destroy (&l->lock);
}

static inline void
q2_rwlock_rdlock (struct q2_rwlock *l)
{
  q2_rank_check (&l->rank);
  pthread_rwlock_rdlock (&l->lock);
  q2_rank_push (&l->rank);
}

static inline void
q2_rwlock_wrlock (struct q2_rwlock *l)
{
  q2_rank_check (&l->rank);
  pthread_rwlock_wrlock (&l->lock);
  q2_rank_push (&l->rank);
}

static inline void
q2_rwlock_unlock (struct q2_rwlock *l)
{
  q2_rank_pop (&l->rank);
  pthread_rwlock_unlock (&l->lock);
}

static inline void
q2_rwlock_check_held (const struct q2_rwlock *l)
{
  q2_rank_check_held (&l->rank);
}

#endif /* QCOW2_BASE_LOCK_H */
