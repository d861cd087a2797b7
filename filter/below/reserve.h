/* SPDX-License-Identifier: BSD-3-Clause */
/* reserve.h - blocks set aside for commits.
 *
 * The descriptor stays the caller's, and must stay open.  reserve.lock is held
 * while blocks are set aside or given back.
 */
#ifndef BELOW_RESERVE_H
#define BELOW_RESERVE_H

#include <pthread.h>
#include <stdbool.h>

/* Blocks set aside for commits, where every write needs new ones. */
struct reserve {
  int fd;
  _Atomic int state;
  pthread_mutex_t lock;
};
extern void reserve_init (struct reserve *r, int fd);
extern void reserve_destroy (struct reserve *r);

/* Before guest data is written: there is a reserve, if one is needed; else
 * an errno value.
 */
extern int reserve_hold (struct reserve *r);

/* Give it back to the file system; false if there was none. */
extern bool reserve_spend (struct reserve *r);

#endif /* BELOW_RESERVE_H */
