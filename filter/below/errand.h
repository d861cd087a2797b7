/* SPDX-License-Identifier: BSD-3-Clause */
/* errand.h - what only a thread of nbdkit's can do, for one that is ours.
 *
 * nbdkit keeps for each of its own threads which context a call is about, and
 * so which export; on other threads plugins cannot ask for its name.
 */
#ifndef BELOW_ERRAND_H
#define BELOW_ERRAND_H

#include <pthread.h>
#include <stdbool.h>

/* This thread is nbdkit's own, and serves a connection. */
extern void errand_note_thread (void);

/* The main thread: it has no connection, and nobody takes one for us while it
 * is in a call.
 */
extern void errand_note_main_thread (void);

/* Call fn, and return when that has: on a thread of nbdkit's if there is one
 * to be had, else here; returns false then.  errno is what fn left there.
 */
extern bool errand_run (void (*fn) (void *opaque), void *opaque);

/* The first thing about a new connection: if it was made for an errand, that
 * is done, and this returns true: nothing else is to be done with it.
 */
extern bool errand_was_connection (void);

/* No errands by way of this listening socket. */
extern void errand_except (int fd);

/* ---- Where a thread waits for another one ------------------------------- */

/* The thread that waits does the errands of the other one. */
struct errand_desk {
  pthread_mutex_t lock;         /* guards all the rest */
  pthread_cond_t changed;
  void (*fn) (void *opaque);    /* or NULL */
  void *opaque;
  bool result;
  int errnum;                   /* what fn has left in errno */
  bool closed;
};

extern void errand_desk_init (struct errand_desk *desk)
  __attribute__ ((__nonnull__));
extern void errand_desk_destroy (struct errand_desk *desk)
  __attribute__ ((__nonnull__));
/* Until the other thread leaves. */
extern void errand_desk_serve (struct errand_desk *desk)
  __attribute__ ((__nonnull__));
/* By the other thread: errands go there from now on; and no more. */
extern void errand_desk_use (struct errand_desk *desk)
  __attribute__ ((__nonnull__));
extern void errand_desk_leave (struct errand_desk *desk)
  __attribute__ ((__nonnull__));

#endif /* BELOW_ERRAND_H */
