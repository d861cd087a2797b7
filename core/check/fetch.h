/* SPDX-License-Identifier: BSD-3-Clause */
/* fetch.h - reads tables that a walk is coming to, several at a time.
 *
 * For hosts on which each request takes a while, and which take several at
 * once.  What cannot be read here is met again by who needs it, and so is what
 * nobody has asked for: a fetch changes nothing but how long it takes.
 */
#ifndef QCOW2_CHECK_FETCH_H
#define QCOW2_CHECK_FETCH_H

#include "io/io.h"

struct q2_fetch;

/* Tables have 'size' bytes each.  NULL: it would bring nothing, or there is no
 * memory for it.
 */
extern struct q2_fetch *q2_fetch_new (const struct q2_io *io, uint64_t size)
  __attribute__ ((__nonnull__));
extern void q2_fetch_free (struct q2_fetch *fetch);

/* Forget what was fetched; then name what is wanted, in the order of the walk.
 * False: there is no room for more.
 */
extern void q2_fetch_clear (struct q2_fetch *fetch)
  __attribute__ ((__nonnull__));
extern bool q2_fetch_add (struct q2_fetch *fetch, uint64_t host_off)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* Get it.  'ask': what the host calls a hole is not read. */
extern void q2_fetch_run (struct q2_fetch *fetch, bool ask,
                          enum qcow2_io_class class)
  __attribute__ ((__nonnull__));

/* Copy [host_off, host_off+len), if all of that was read. */
extern bool q2_fetch_copy (const struct q2_fetch *fetch, void *buf,
                           uint64_t len, uint64_t host_off)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* What is known of [host_off, host_off+len): that all of it is a hole; that
 * all of it was read; or nothing.
 */
enum q2_fetched { Q2_FETCHED_NOT, Q2_FETCHED_HOLE, Q2_FETCHED_DATA };
extern enum q2_fetched q2_fetch_find (const struct q2_fetch *fetch,
                                      uint64_t host_off, uint64_t len)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_CHECK_FETCH_H */
