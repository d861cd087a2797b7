/* SPDX-License-Identifier: BSD-3-Clause */
/* late.h - writes that failed, and reach the file all the same, later.
 *
 * A write that returns an error is not a write that did not happen: it may be
 * in a cache below, or on its way through a network.  Each of its sectors
 * lands at some moment after that, or never.  What somebody writes to the
 * same place later stays: a late sector never lands on newer bytes.
 *
 * All functions: called with host.lock.
 */
#ifndef CRASH_LATE_H
#define CRASH_LATE_H

#include "host.h"

/* The operation has failed; some of its sectors are late from now on. */
extern void late_add_locked (struct host *h, const struct host_op *op);

/* Time passes: some of them land. */
extern void late_move_locked (struct host *h);

/* Somebody else writes there: what is late there lands before that, or never.
 */
extern void late_supersede_locked (struct host *h, uint64_t host_off,
                                   uint64_t len);

#endif /* CRASH_LATE_H */
