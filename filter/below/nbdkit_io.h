/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdkit_io.h - the layer below through a connection's context.
 *
 * A struct below belongs to a connection (access.h) or to a lane; who owns it
 * initialises and destroys its locks.
 */
#ifndef BELOW_NBDKIT_IO_H
#define BELOW_NBDKIT_IO_H

#include "nbdkit_api.h"
#include "qcow2.h"
#include "below/next.h"

#include <pthread.h>

struct durable;

struct lanes;

/* The layer below, through one nbdkit context: a connection's, or a
 * lane's.
 */
struct below {
  nbdkit_next *next;
  struct qcow2_io io;           /* what the engine gets; opaque is us */
  struct qcow2_io_ops ops;
  struct abilities can;

  /* Background work that still uses this context. */
  pthread_mutex_t lock;         /* guards the rest */
  pthread_cond_t returned;
  unsigned borrowed;
  _Atomic bool closing;         /* read without the lock, too */
  struct lanes *lanes;          /* constant; NULL: this context is lent */

  struct below *next_member;    /* members.c */
  bool settled;                 /* members.c */
  struct durable *durable;      /* the image's, of a member; or NULL */
  bool one_at_a_time;           /* a member, below the parallel model */
  pthread_mutex_t serial;
  _Atomic bool unflushed;       /* something was written since the last flush
                                   through this context began */
};

/* To be called from .prepare, or on a manual context that is prepared.
 * Returns -1 and logs on error.
 */
extern int below_prepare (struct below *below, nbdkit_next *next,
                          bool writing);

/* Wait until nothing but the calling thread uses the context any more. */
extern void below_drain (struct below *below);

/* From now on the context belongs to a member.  No request may be under
 * way.
 */
extern void below_become_member (struct below *below,
                                 struct durable *durable);
/* Lend the context of a member, below any thread model; false if it is about
 * to go.  below_take_back ends it.
 */
extern bool below_lend (struct below *below);
extern void below_take_back (struct below *below);

#endif /* BELOW_NBDKIT_IO_H */
