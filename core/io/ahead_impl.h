/* SPDX-License-Identifier: BSD-3-Clause */
/* ahead_impl.h - for the files that make up the ahead buffers.
 *
 * ahead.c          claims; those who use buffers
 * ahead_list.c     the list
 * ahead_room.c     which buffers go when there is no room
 * ahead_changes.c  what changes of the file do to them
 */
#ifndef QCOW2_IO_AHEAD_IMPL_H
#define QCOW2_IO_AHEAD_IMPL_H

#include "io/ahead.h"

#include "base/lock.h"

#include <stdatomic.h>
#include <time.h>

struct q2_ahead {
  struct qcow2_budget *budget;  /* or NULL; has all of 'bytes' */
  struct q2_mutex lock;         /* guards all that is no atomic */
  uint64_t max_bytes;
  pthread_cond_t loaded;        /* some buffer has been committed */
  struct q2_ahead_buf *first;   /* ascending, no overlaps */
  uint64_t bytes;               /* of all buffers, also of those that have left
                                   the list and are still in use */
  atomic_uint nr_bufs;          /* in the list; written under the lock */

  /* ahead_changes.c */
  atomic_bool armed;            /* changes have to be listed; written under the
                                   lock */
  atomic_uint unlisted;         /* changes that are under way and are not */
  struct q2_ahead_change *changes;

  uint64_t requests, read_bytes, used_bytes;    /* ever, without failures */
  uint64_t gone_bytes, gone_used;       /* evicted lately; used ones of
                                           those */
  atomic_bool useless;          /* written under the lock */
};

static inline uint64_t
q2_ahead_size_of (const struct q2_ahead_buf *buf)
{
  return buf->end - buf->start;
}

static inline uint64_t
q2_ahead_now (void)
{
  struct timespec ts;

#ifdef CLOCK_MONOTONIC_COARSE
  clock_gettime (CLOCK_MONOTONIC_COARSE, &ts);
#else
  clock_gettime (CLOCK_MONOTONIC, &ts);
#endif
  return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}

/* ---- ahead_list.c ---------------------------------------------------- */

/* Put a new buffer into the list; the budget has it already. */
extern void q2_ahead_list_locked (struct q2_ahead *ahead,
                                  struct q2_ahead_buf *buf)
  __attribute__ ((__nonnull__));

/* Take a buffer out of the list.  It goes on being counted. */
extern void q2_ahead_unlist_locked (struct q2_ahead *ahead,
                                    struct q2_ahead_buf *buf)
  __attribute__ ((__nonnull__));

/* Nobody uses the buffer, which is not in the list: move it to *gone, to be
 * freed without the lock.
 */
extern void q2_ahead_let_go_locked (struct q2_ahead *ahead,
                                    struct q2_ahead_buf *buf,
                                    struct q2_ahead_buf **gone)
  __attribute__ ((__nonnull__));
extern void q2_ahead_free_list (struct q2_ahead_buf *buf);

/* ---- ahead_room.c ---------------------------------------------------- */

/* Move buffers that do not overlap [start, end) from the list to *ret_gone
 * until there is room for 'len' bytes; or none if that is impossible.
 */
extern bool q2_ahead_make_room_locked (struct q2_ahead *ahead, uint64_t len,
                                       uint64_t start, uint64_t end,
                                       struct q2_ahead_buf **ret_gone)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- ahead_changes.c ------------------------------------------------- */

/* A claim of [start, end) may be read now: whatever changes any of that from
 * now on will find the claim.
 */
extern bool q2_ahead_arm_locked (struct q2_ahead *ahead, uint64_t start,
                                 uint64_t end)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_IO_AHEAD_IMPL_H */
