/* SPDX-License-Identifier: BSD-3-Clause */
/* beside.c - see beside.h.
 *
 * Owns      the second thread, and who waits for whom.
 * Method    the operations of all hosts are the same functions, so those that
 *           are wrapped need to be known once.
 * Locks     beside.lock, a leaf.
 */
#include "config.h"

#include "beside.h"

#include <errno.h>
#include <time.h>

/* For a step that has begun just now, and for one that could not end. */
#define PATIENCE_US 20000
#define SHORT_US 300

static struct beside *current;
static struct qcow2_io_ops inner;

/* ---- Steps -------------------------------------------------------------- */

static struct timespec
in_us (long us)
{
  struct timespec t;

  clock_gettime (CLOCK_MONOTONIC, &t);
  t.tv_nsec += us * 1000;
  t.tv_sec += t.tv_nsec / 1000000000;
  t.tv_nsec %= 1000000000;
  return t;
}

/* Returns whether none runs any more. */
static bool
wait_locked (struct beside *b, long us)
{
  const struct timespec end = in_us (us);

  while (b->ended < b->begun)
    if (pthread_cond_timedwait (&b->changed, &b->lock, &end) == ETIMEDOUT)
      break;
  return b->ended == b->begun;
}

static bool
take_step (struct beside *b, long us)
{
  bool done;

  pthread_mutex_lock (&b->lock);
  done = wait_locked (b, SHORT_US);
  if (done) {
    b->begun++;
    pthread_cond_broadcast (&b->changed);
    done = wait_locked (b, us);
  }
  pthread_mutex_unlock (&b->lock);
  return done;
}

static void *
second (void *arg)
{
  struct beside *const b = arg;

  pthread_mutex_lock (&b->lock);
  while (!b->stop) {
    if (b->ended == b->begun) {
      pthread_cond_wait (&b->changed, &b->lock);
      continue;
    }
    pthread_mutex_unlock (&b->lock);
    b->step (b->opaque, &b->step_rng);
    pthread_mutex_lock (&b->lock);
    b->ended++;
    pthread_cond_broadcast (&b->changed);
  }
  pthread_mutex_unlock (&b->lock);
  return NULL;
}

static bool
is_first (struct beside *b)
{
  bool is;

  if (b == NULL)
    return false;
  pthread_mutex_lock (&b->lock);
  is = b->on && pthread_equal (b->first, pthread_self ());
  pthread_mutex_unlock (&b->lock);
  return is;
}

/* Before each operation of any thread. */
static int
before (enum host_op_kind kind)
{
  struct beside *const b = current;
  int r = 0;

  if (!is_first (b))
    return 0;
  if (b->before)
    r = b->before (b->opaque, kind);
  if (rng_below (&b->rng, 100) < b->percent)
    for (uint64_t n = rng_below (&b->rng, 4) ? 1 : 3; n > 0; --n)
      if (!take_step (b, b->patience_us ? b->patience_us : PATIENCE_US))
        break;
  return r;
}

/* ---- Operations --------------------------------------------------------- */

static int
beside_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
              enum qcow2_io_class io_class)
{
  const int r = before (HOST_READ);

  return r ? r : inner.pread (opaque, buf, count, host_off, io_class);
}

static int
beside_pwrite (void *opaque, const void *buf, uint32_t count,
               uint64_t host_off, enum qcow2_io_class io_class)
{
  const int r = before (HOST_WRITE);

  return r ? r : inner.pwrite (opaque, buf, count, host_off, io_class);
}

static int
beside_flush (void *opaque)
{
  const int r = before (HOST_FLUSH);

  return r ? r : inner.flush (opaque);
}

static int
beside_zero (void *opaque, uint32_t count, uint64_t host_off, bool may_punch,
             enum qcow2_io_class io_class)
{
  const int r = before (HOST_ZERO);

  return r ? r : inner.zero (opaque, count, host_off, may_punch, io_class);
}

static int
beside_trim (void *opaque, uint32_t count, uint64_t host_off)
{
  const int r = before (HOST_TRIM);

  return r ? r : inner.trim (opaque, count, host_off);
}

static int
beside_grow (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  const int r = before (HOST_GROW);

  return r ? r : inner.grow (opaque, min_size, ret_size);
}

/* ---- Life --------------------------------------------------------------- */

void
beside_wrap (struct host *h)
{
  inner = h->ops;
  h->ops.pread = beside_pread;
  h->ops.pwrite = beside_pwrite;
  h->ops.flush = beside_flush;
  if (inner.zero)
    h->ops.zero = beside_zero;
  if (inner.trim)
    h->ops.trim = beside_trim;
  if (inner.grow)
    h->ops.grow = beside_grow;
}

void
beside_init (struct beside *b, uint64_t seed)
{
  pthread_condattr_t attr;

  REQUIRE (current == NULL && b->step != NULL);
  b->rng.state = seed;
  b->step_rng.state = seed * 1000;
  b->begun = b->ended = 0;
  b->on = b->stop = false;
  pthread_mutex_init (&b->lock, NULL);
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&b->changed, &attr);
  pthread_condattr_destroy (&attr);
  current = b;
  REQUIRE (pthread_create (&b->second, NULL, second, b) == 0);
}

void
beside_free (struct beside *b)
{
  pthread_mutex_lock (&b->lock);
  b->stop = true;
  pthread_cond_broadcast (&b->changed);
  pthread_mutex_unlock (&b->lock);
  REQUIRE (pthread_join (b->second, NULL) == 0);
  current = NULL;
  pthread_cond_destroy (&b->changed);
  pthread_mutex_destroy (&b->lock);
}

void
beside_begin (struct beside *b)
{
  pthread_mutex_lock (&b->lock);
  b->first = pthread_self ();
  b->on = true;
  pthread_mutex_unlock (&b->lock);
}

void
beside_end (struct beside *b)
{
  pthread_mutex_lock (&b->lock);
  b->on = false;
  while (b->ended < b->begun)
    pthread_cond_wait (&b->changed, &b->lock);
  pthread_mutex_unlock (&b->lock);
}

void
beside_steps (struct beside *b, unsigned nr)
{
  for (unsigned i = 0; i < nr; ++i) {
    pthread_mutex_lock (&b->lock);
    b->begun++;
    pthread_cond_broadcast (&b->changed);
    while (b->ended < b->begun)
      pthread_cond_wait (&b->changed, &b->lock);
    pthread_mutex_unlock (&b->lock);
  }
}
