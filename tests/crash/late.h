/* SPDX-License-Identifier: BSD-3-Clause */
/* late.h - failed writes that reach the file later all the same.
 *
 * A failed write may still be done: it may be in a cache of the host, or in a
 * network.  Each of its sectors lands at some later moment, or never. A late
 * sector never lands on newer bytes.
 *
 * All functions are called with host.lock held.
 */
#ifndef CRASH_LATE_H
#define CRASH_LATE_H

#include "host.h"

/* The operation has failed; make some of its sectors late. */
extern void late_add_locked (struct host *h, const struct host_op *op);

/* Time passes: some late sectors land. */
extern void late_move_locked (struct host *h);

/* Before a new write to this range its late sectors land, or never will. */
extern void late_supersede_locked (struct host *h, uint64_t host_off,
                                   uint64_t len);

#endif /* CRASH_LATE_H */
