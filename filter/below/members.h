/* SPDX-License-Identifier: BSD-3-Clause */
/* members.h - connections that lend their contexts to each other.
 *
 * An image owns the struct members, connections what is in it.  flush_lock is
 * held over flushes and taken before 'lock', which guards the list.
 */
#ifndef BELOW_MEMBERS_H
#define BELOW_MEMBERS_H

#include "qcow2.h"

#include <pthread.h>

struct below;

struct members {
  pthread_mutex_t flush_lock;
  pthread_mutex_t lock;
  struct below *first;
};

extern void members_init (struct members *m);
extern void members_destroy (struct members *m);
extern void members_add (struct members *m, struct below *below);
extern bool members_has (struct members *m, const struct below *below);
/* Does nothing if it is not there. */
extern void members_remove (struct members *m, struct below *below);
/* Flush each context through which something was written. */
extern void members_flush (struct members *m);
/* As in struct qcow2_io_ops; opaque is the struct members. */
extern int members_borrow (void *opaque, struct qcow2_io *ret_io);

#endif /* BELOW_MEMBERS_H */
