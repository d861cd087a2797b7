/* SPDX-License-Identifier: BSD-3-Clause */
/* turns.c - limits how many pieces of long work go on at the same time.
 *
 * Owns      the turns, and the queue of threads that wait for one.
 * Method    a few slots, each with the number of its turn and the time at
 *           which that asked last.  Numbers are never used again, so a thread
 *           that has lost its turn finds out.  The first of the queue takes a
 *           slot that is free, or whose turn has not asked for too long.
 *           Waiting threads wake up now and then, since nothing signals a lost
 *           turn or an abandoned call.
 * Locks     turns->lock guards all of it, and is not held while 'abandoned' is
 *           called.
 */
#include "config.h"

#include "base/lock.h"
#include "base/turns.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define MAX_TURNS 64
#define LOOK_AROUND UINT64_C (100000000)        /* ns */
#define SECOND UINT64_C (1000000000)

struct slot {
  uint64_t turn;                /* 0: it is free */
  uint64_t asked;               /* ns */
};

/* On the stack of the waiting thread. */
struct waiter {
  struct waiter *next;
};

struct q2_turns {
  struct q2_mutex lock;
  pthread_cond_t changed;       /* a slot is free, or the queue has moved on */
  unsigned nr_slots;
  uint64_t lease;               /* ns */
  uint64_t last_turn;
  struct slot slots[MAX_TURNS];
  struct waiter *first;
};

struct q2_turns *
q2_turns_new (unsigned max, unsigned lease_ms)
{
  struct q2_turns *const t = calloc (1, sizeof *t);
  pthread_condattr_t attr;

  if (t == NULL)
    return NULL;
  t->nr_slots = max < 1 ? 1 : max > MAX_TURNS ? MAX_TURNS : max;
  t->lease = lease_ms * UINT64_C (1000000);
  q2_mutex_init (&t->lock, 8, "turns.lock");
  pthread_condattr_init (&attr);
  pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
  pthread_cond_init (&t->changed, &attr);
  pthread_condattr_destroy (&attr);
  return t;
}

void
q2_turns_free (struct q2_turns *t)
{
  if (t == NULL)
    return;
  pthread_cond_destroy (&t->changed);
  q2_mutex_destroy (&t->lock);
  free (t);
}

static uint64_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return (uint64_t) ts.tv_sec * SECOND + (uint64_t) ts.tv_nsec;
}

/* ---- Slots -------------------------------------------------------------- */

static struct slot *
find_locked (struct q2_turns *t, uint64_t turn)
{
  q2_mutex_check_held (&t->lock);
  for (unsigned i = 0; turn != 0 && i < t->nr_slots; ++i)
    if (t->slots[i].turn == turn)
      return &t->slots[i];
  return NULL;
}

static struct slot *
find_free_locked (struct q2_turns *t)
{
  const uint64_t time = now ();

  q2_mutex_check_held (&t->lock);
  for (unsigned i = 0; i < t->nr_slots; ++i)
    if (t->slots[i].turn == 0 || time - t->slots[i].asked >= t->lease)
      return &t->slots[i];
  return NULL;
}

static void
give_locked (struct q2_turns *t, uint64_t *turn)
{
  struct slot *const slot = find_locked (t, *turn);

  q2_mutex_check_held (&t->lock);
  *turn = 0;
  if (slot == NULL)
    return;
  slot->turn = 0;
  pthread_cond_broadcast (&t->changed);
}

/* ---- The queue --------------------------------------------------------- */

static void
enqueue_locked (struct q2_turns *t, struct waiter *w)
{
  struct waiter **link = &t->first;

  q2_mutex_check_held (&t->lock);
  while (*link != NULL)
    link = &(*link)->next;
  w->next = NULL;
  *link = w;
}

static void
dequeue_locked (struct q2_turns *t, struct waiter *w)
{
  struct waiter **link = &t->first;

  q2_mutex_check_held (&t->lock);
  while (*link != w)
    link = &(*link)->next;
  *link = w->next;
  pthread_cond_broadcast (&t->changed);
}

/* Returns false if the call has been abandoned.  The lock is held on entry and
 * on return, but not in between.
 */
static bool
wait_locked (struct q2_turns *t, qcow2_abandoned_fn abandoned, void *opaque)
{
  const uint64_t until = now () + LOOK_AROUND;
  const struct timespec ts = {
    .tv_sec = (time_t) (until / SECOND), .tv_nsec = (long) (until % SECOND),
  };
  bool in_vain;

  q2_mutex_check_held (&t->lock);
  if (q2_cond_timedwait (&t->changed, &t->lock, &ts) == 0 ||
      abandoned == NULL)
    return true;
  q2_mutex_unlock (&t->lock);
  in_vain = abandoned (opaque);
  q2_mutex_lock (&t->lock);
  return !in_vain;
}

bool
q2_turns_take (struct q2_turns *t, uint64_t *turn,
               qcow2_abandoned_fn abandoned, void *opaque)
{
  struct waiter self;
  struct slot *slot;
  bool in_vain = false;

  q2_mutex_lock (&t->lock);
  slot = find_locked (t, *turn);
  if (slot != NULL && t->first == NULL) {
    slot->asked = now ();
    q2_mutex_unlock (&t->lock);
    return true;
  }
  give_locked (t, turn);
  enqueue_locked (t, &self);
  slot = NULL;
  while (!in_vain &&
         (t->first != &self || (slot = find_free_locked (t)) == NULL))
    in_vain = !wait_locked (t, abandoned, opaque);
  if (!in_vain) {
    *slot = (struct slot) { .turn = ++t->last_turn, .asked = now () };
    *turn = slot->turn;
  }
  dequeue_locked (t, &self);
  q2_mutex_unlock (&t->lock);
  return !in_vain;
}

void
q2_turns_give (struct q2_turns *t, uint64_t *turn)
{
  if (*turn == 0)
    return;
  q2_mutex_lock (&t->lock);
  give_locked (t, turn);
  q2_mutex_unlock (&t->lock);
}
