/* SPDX-License-Identifier: BSD-3-Clause */
/* ways.h - the shared contexts through which a file is written.
 *
 * A writer owns its ways.  Any thread may enter and leave; ways_renew is
 * called by one thread at a time.
 */
#ifndef BELOW_WAYS_H
#define BELOW_WAYS_H

#include "nbdkit_api.h"
#include "below/next.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* One context, with the size that it knows. */
struct way {
  nbdkit_next *next;
  uint64_t size;                /* constant */
  _Atomic unsigned users;
  struct way *link;             /* in one of the lists below */
};

/* ways.c's own, but for 'can', which is constant. */
struct ways {
  const char *exportname;       /* these two must outlive it */
  const char *name;
  struct abilities can;         /* of the first context */
  bool one_at_a_time;           /* requests */
  pthread_mutex_t serial;
  struct way *_Atomic current;
  pthread_mutex_t lock;
  struct way *retired;
  struct way *closed;           /* only their memory is left */
  _Atomic unsigned nr_retired;  /* read without the lock, too */
};

/* Open the first one.  Returns -1 and logs on error. */
extern int ways_init (struct ways *ways, const char *exportname,
                      const char *name);
/* Nobody is in any of them. */
extern void ways_destroy (struct ways *ways);

/* The current one, for one request. */
extern struct way *way_enter (struct ways *ways);
extern void way_leave (struct ways *ways, struct way *way);

/* Flush what was written through any of them: 0, or an errno value. */
extern int ways_flush (struct ways *ways);

/* The size that the current one knows. */
extern uint64_t ways_size (const struct ways *ways);
/* Open another one and make it the current one, if its size is between 'min'
 * and 'max', and it can do what the first one could.  Returns its size, or 0.
 */
extern uint64_t ways_renew (struct ways *ways, uint64_t min, uint64_t max);

#endif /* BELOW_WAYS_H */
