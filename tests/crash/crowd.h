/* SPDX-License-Identifier: BSD-3-Clause */
/* crowd.h - clients of a guest that run freely while somebody else does what
 * he wants to do to the image.
 *
 * Who comes first is not the same each time; beside.h is for that.
 */
#ifndef CRASH_CROWD_H
#define CRASH_CROWD_H

#include "guest.h"
#include "threads.h"

struct crowd {
  struct guest *guest;
  struct threads threads;
  atomic_ulong done;            /* requests */
};

/* As many clients as the workload has, each of which does as many requests;
 * each thread sleeps at one in 'often' operations on locks (jitter.h).
 */
extern void crowd_begin (struct crowd *c, struct guest *guest,
                         unsigned often);
/* Until so many requests of all have ended. */
extern void crowd_wait (struct crowd *c, unsigned long nr);
/* Until all have. */
extern void crowd_end (struct crowd *c);

#endif /* CRASH_CROWD_H */
