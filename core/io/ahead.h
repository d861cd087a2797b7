/* SPDX-License-Identifier: BSD-3-Clause */
/* ahead.h - host bytes that are read before a request needs them.
 *
 * A bounded set of buffers, each for a range of the image file; ranges never
 * overlap.  A thread that claims a range must read it at once and commit it,
 * because other threads wait for it.
 *
 * A buffer always has the bytes that the file has: whoever changes the file
 * says so before and afterwards.
 *
 * A buffer that was used once in full is evicted first: this serves sequential
 * readers and is not a cache.
 */
#ifndef QCOW2_IO_AHEAD_H
#define QCOW2_IO_AHEAD_H

#include "base/budget.h"

struct q2_ahead;

struct q2_ahead_buf {
  uint64_t start, end;          /* host range, constant for the claimer; may
                                   shrink once it is committed */
  unsigned char *bytes;         /* of the claimed range, which the claimer
                                   fills */
  /* Private to ahead*.c. */
  struct q2_ahead_buf *next;
  uint64_t base, room;          /* the claimed range, constant */
  unsigned pins;
  bool listed;
  bool loading;
  bool spoiled;                 /* it is not to be used when it is loaded */
  uint64_t consumed;            /* how many bytes were copied or pinned */
  uint64_t last_use;
};

/* Buffers take their memory from the budget (or NULL: no bound); without
 * memory there is no more reading ahead.
 */
extern struct q2_ahead *q2_ahead_new (uint64_t max_bytes,
                                      struct qcow2_budget *budget,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__ (3), __warn_unused_result__));
extern void q2_ahead_free (struct q2_ahead *ahead);

/* Claim the first part of [start, end) that no buffer has, up to the next
 * buffer.  Returns NULL if every byte is in a buffer, if some of that part is
 * being changed, or if there is no room or no memory.
 * These buffers are not evicted to make room: pinned and loading ones, those
 * that overlap [start, end), and those with unread bytes that were made or
 * used less than a second ago (less than that if most of their bytes were
 * read).
 */
extern struct q2_ahead_buf *q2_ahead_claim (struct q2_ahead *ahead,
                                            uint64_t start, uint64_t end)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The claimed bytes have been read; or not (!ok): then the buffer is dropped,
 * and threads that waited for it read for themselves; so it is if some of the
 * bytes have been changed since it was claimed.
 */
extern void q2_ahead_commit (struct q2_ahead *ahead,
                             struct q2_ahead_buf *buf, bool ok)
  __attribute__ ((__nonnull__));

/* True if there are buffers, so that the functions below may find bytes. Takes
 * no lock.
 */
extern bool q2_ahead_any (const struct q2_ahead *ahead)
  __attribute__ ((__nonnull__));

/* Copy as many bytes from the start of [host_off, host_off+count) as the
 * buffers have without a gap, waiting for loading ones.  Returns the number of
 * bytes.
 */
extern uint64_t q2_ahead_copy (struct q2_ahead *ahead, void *out,
                               uint64_t count, uint64_t host_off)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The bytes in place, if one buffer has the whole range, after waiting for it
 * if it is loading; else NULL.  They stay until they are unpinned.
 */
extern const unsigned char *q2_ahead_pin (struct q2_ahead *ahead,
                                          uint64_t count, uint64_t host_off,
                                          struct q2_ahead_buf **ret_buf)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_ahead_unpin (struct q2_ahead *ahead,
                            struct q2_ahead_buf *buf)
  __attribute__ ((__nonnull__));

/* Evict every buffer that is not in use. */
extern void q2_ahead_clear (struct q2_ahead *ahead)
  __attribute__ ((__nonnull__));

/* A change of the file that is under way; its memory is the caller's. */
struct q2_ahead_change {
  uint64_t start, end;
  /* Private to ahead_changes.c. */
  bool listed;
  struct q2_ahead_change *next;
};

/* Before the host is asked to change [start, end), and when it has answered,
 * whatever it says.  Buffers lose those bytes.  Bytes that were found before
 * stay what they are until they are unpinned.  Costs two atomic operations if
 * nothing was read ahead since the set was made or emptied.
 */
extern void q2_ahead_begin_change (struct q2_ahead *ahead, uint64_t start,
                                   uint64_t end,
                                   struct q2_ahead_change *change)
  __attribute__ ((__nonnull__));
extern void q2_ahead_end_change (struct q2_ahead *ahead,
                                 struct q2_ahead_change *change)
  __attribute__ ((__nonnull__));

/* For good, before the first write to a file that may read as before through
 * other handles: buffers are not found any more, claims fail, and loading
 * buffers are dropped once they are read.
 */
extern void q2_ahead_disable (struct q2_ahead *ahead)
  __attribute__ ((__nonnull__));

/* False if most bytes read ahead lately were never needed. */
extern bool q2_ahead_is_useful (const struct q2_ahead *ahead)
  __attribute__ ((__nonnull__));

/* The number and bytes of all claims so far, and how many of these bytes were
 * handed out at least once.
 */
extern void q2_ahead_get_stats (struct q2_ahead *ahead,
                                uint64_t *ret_requests, uint64_t *ret_bytes,
                                uint64_t *ret_used_bytes)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_IO_AHEAD_H */
