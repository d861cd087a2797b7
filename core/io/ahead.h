/* SPDX-License-Identifier: BSD-3-Clause */
/* ahead.h - host bytes that were read before a request needs them.
 *
 * A bounded set of buffers, each a range of the image file; ranges never
 * overlap.  Whoever claims a range reads it at once and commits it; nobody
 * may sit on a claim, because other threads wait for it.
 *
 * What has been read once in full is the first to go: this serves readers
 * who pass through, it is no cache.
 */
#ifndef QCOW2_IO_AHEAD_H
#define QCOW2_IO_AHEAD_H

#include "base/budget.h"

struct q2_ahead;

struct q2_ahead_buf {
  uint64_t start, end;          /* host range, constant */
  unsigned char *bytes;         /* of the range; the claimer fills them */
  /* The rest is ahead.c's. */
  struct q2_ahead_buf *next;
  unsigned pins;
  bool loading;
  uint64_t consumed;            /* bytes that were copied or pinned */
  uint64_t last_use;
};

/* The memory of buffers comes from the budget (or NULL); when that has no
 * more, nothing more is read ahead.
 */
extern struct q2_ahead *q2_ahead_new (uint64_t max_bytes,
                                      struct qcow2_budget *budget,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__ (3), __warn_unused_result__));
extern void q2_ahead_free (struct q2_ahead *ahead);

/* Claim the first part of [start, end) that no buffer has, up to the next
 * buffer.  Returns NULL if every byte is in some buffer, or if there is no
 * room: buffers that are pinned or being read, that overlap [start, end), or
 * that have bytes nobody has read and were made or used less than a second
 * ago (less than that, if most of them were read) are not thrown out; or no
 * memory.
 */
extern struct q2_ahead_buf *q2_ahead_claim (struct q2_ahead *ahead,
                                            uint64_t start, uint64_t end)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The claimed bytes are there, or could not be read: then the buffer goes
 * away and whoever waited for it has to read for himself.
 */
extern void q2_ahead_commit (struct q2_ahead *ahead,
                             struct q2_ahead_buf *buf, bool ok)
  __attribute__ ((__nonnull__));

/* True if it may pay to call the functions below: there are buffers.
 * Without lock.
 */
extern bool q2_ahead_any (const struct q2_ahead *ahead)
  __attribute__ ((__nonnull__));

/* Copy as many bytes from the start of [host_off, host_off+count) as the
 * buffers have without a gap, waiting for those being read.  Returns how
 * many.
 */
extern uint64_t q2_ahead_copy (struct q2_ahead *ahead, void *out,
                               uint64_t count, uint64_t host_off)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The bytes themselves, if one buffer has the whole range, waiting for it
 * if it is being read; else NULL.  They stay until they are unpinned.
 */
extern const unsigned char *q2_ahead_pin (struct q2_ahead *ahead,
                                          uint64_t count, uint64_t host_off,
                                          struct q2_ahead_buf **ret_buf)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_ahead_unpin (struct q2_ahead *ahead,
                            struct q2_ahead_buf *buf)
  __attribute__ ((__nonnull__));

/* Throw out every buffer that nobody uses just now. */
extern void q2_ahead_clear (struct q2_ahead *ahead)
  __attribute__ ((__nonnull__));

/* For good: the file is going to be written to, and buffers do not notice.
 * Nothing is found any more, nothing can be claimed, and what is being read is
 * dropped once it is there.
 */
extern void q2_ahead_disable (struct q2_ahead *ahead)
  __attribute__ ((__nonnull__));

/* False if most of what was read ahead lately was never needed. */
extern bool q2_ahead_is_useful (const struct q2_ahead *ahead)
  __attribute__ ((__nonnull__));

/* All reads that were claimed, and how many of their bytes were handed out
 * at least once.
 */
extern void q2_ahead_get_stats (struct q2_ahead *ahead,
                                uint64_t *ret_requests, uint64_t *ret_bytes,
                                uint64_t *ret_used_bytes)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_IO_AHEAD_H */
