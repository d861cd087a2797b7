/* SPDX-License-Identifier: BSD-3-Clause */
/* cache.h - a bounded cache of mapping tables, cut into slices.
 *
 * A slice is a piece of a table, small enough that a disk with scattered
 * data does not fill the cache with empty parts of its tables.  Slices are
 * named by their host offset and hold the raw bytes of the file.
 *
 * Bytes never leave the cache by reference: callers get copies, made under
 * a lock that is held for as long as a small memcpy takes.  So nothing is
 * ever pinned and eviction never waits.
 *
 * Locks: see docs/LOCKING.md (cache.loads, cache.shard).
 */
#ifndef QCOW2_META_CACHE_H
#define QCOW2_META_CACHE_H

#include "io/io.h"

struct q2_cache;

/* A cache of at most 'max_bytes' of slices of 'slice_size' (a power of
 * two) bytes each; memory is used as slices come in.
 */
extern struct q2_cache *q2_cache_new (uint64_t max_bytes, size_t slice_size,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* The same for callers that use it under one lock of theirs: as long as
 * q2_cache_room says so, inserting succeeds.
 */
extern struct q2_cache *q2_cache_new_unshared (uint64_t max_bytes,
                                               size_t slice_size,
                                               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_cache_free (struct q2_cache *cache);

/* Copy 'len' bytes at 'host_off', which is 'skip' bytes into a slice, from
 * the cache, if the slice is there; the range must not leave the slice.
 */
extern bool q2_cache_lookup (struct q2_cache *cache, uint64_t host_off,
                             size_t skip, void *buf, size_t len)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same, but if the slice is missing read it, together with 'behind'
 * bytes in front of it and up to 'ahead' bytes from its start on, keep them
 * all, and copy.  Both are multiples of the slice size; ahead is at least
 * one slice, and the sum at most Q2_CACHE_MAX_LOAD.  Threads that miss the
 * same bytes share one read; if it fails each tries its own.
 *
 * A scan passes through the tables once, to map the disk: what it brings in
 * or uses makes room before what others use.
 */
#define Q2_CACHE_MAX_LOAD (UINT32_C (2) << 20)
struct q2_cache_span {
  size_t behind, ahead;
  bool scan;                    /* see below */
};
extern int q2_cache_read (struct q2_cache *cache, const struct q2_io *io,
                          uint64_t host_off, size_t skip, void *buf,
                          size_t len, struct q2_cache_span span,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Read and keep [host_off, host_off+len), whole slices, at most
 * Q2_CACHE_MAX_LOAD bytes, for whoever will look for them; returns at once
 * if somebody is reading a part of them already.  Failures are nobody's
 * business: who needs the slices will meet them.
 */
extern void q2_cache_preload (struct q2_cache *cache, const struct q2_io *io,
                              uint64_t host_off, size_t len, bool scan)
  __attribute__ ((__nonnull__));

/* Whether the slice is there, without counting as a use of it. */
extern bool q2_cache_contains (struct q2_cache *cache, uint64_t host_off)
  __attribute__ ((__nonnull__));

/* How many slices fit. */
extern uint64_t q2_cache_capacity (const struct q2_cache *cache)
  __attribute__ ((__nonnull__));

/* Reads that found their slice, and that had to wait for the host. */
extern void q2_cache_get_stats (struct q2_cache *cache,
                                uint64_t *ret_hits, uint64_t *ret_misses)
  __attribute__ ((__nonnull__));

extern size_t q2_cache_slice_size (const struct q2_cache *cache)
  __attribute__ ((__nonnull__));

/* A read in flight of [start, end) of the file, whole slices; lives on the
 * reading thread's stack.
 */
struct q2_load {
  uint64_t start, end;
  /* The rest is the cache's. */
  struct q2_load *next;
  uint64_t id;                  /* never used again, unlike the address */
  bool scan;
  bool spoiled;                 /* what it reads may be out of date */
};

/* For callers that read slices themselves, to insert them: begin before the
 * read, and insert only if the end, which must follow, returns true.
 */
extern void q2_cache_begin_load (struct q2_cache *cache,
                                 struct q2_load *load)
  __attribute__ ((__nonnull__));
extern bool q2_cache_end_load (struct q2_cache *cache, struct q2_load *load)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- Changing slices ------------------------------------------------ */

/* Slices that were changed stay until they have been written to the file:
 * gathered, which copies them, written by the caller, and ended.  Whoever
 * calls one of these functions holds one lock of his own that makes all of
 * them exclude each other; readers need not care.
 */

/* Replace bytes of a slice; false if the slice is not there, or not solid: it
 * is nothing but zeros, and may lie in a hole of the file, for which there
 * may be no room when the slice is to be written.
 */
extern bool q2_cache_update (struct q2_cache *cache, uint64_t host_off,
                             size_t skip, const void *bytes, size_t len)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The slice is to be written, although it has not changed here: the file has
 * something else.  False if it is not there, or not solid.
 */
extern bool q2_cache_touch (struct q2_cache *cache, uint64_t slice_off)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* A slice that is there stays, or may go again: it says something else than
 * the file, on purpose.  Bytes of one that is pinned may be replaced without
 * making it dirty, if the file has them.
 */
extern bool q2_cache_pin (struct q2_cache *cache, uint64_t slice_off,
                          bool pinned) __attribute__ ((__nonnull__));
extern bool q2_cache_update_pinned (struct q2_cache *cache, uint64_t host_off,
                                    size_t skip, const void *bytes,
                                    size_t len)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The slice is there, but it is not solid.  Then the caller, and nobody else
 * at the same time, writes zeros to the file in its place, and says so.
 */
extern bool q2_cache_is_hollow (struct q2_cache *cache, uint64_t slice_off)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_cache_set_solid (struct q2_cache *cache, uint64_t slice_off)
  __attribute__ ((__nonnull__));

/* Put a slice that has been read, or made ('dirty'), into the cache, unless
 * it is there.  False if there is no room, because all slices that could
 * make room are waiting to be written.
 */
extern bool q2_cache_insert (struct q2_cache *cache, uint64_t host_off,
                             const void *bytes, bool dirty)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Forget the slices of [host_off, host_off+len), and what is being read of
 * them: the caller has written something else there.
 */
extern void q2_cache_drop (struct q2_cache *cache, uint64_t host_off,
                           uint64_t len) __attribute__ ((__nonnull__));

/* Forget all slices that have not been changed. */
extern void q2_cache_clear (struct q2_cache *cache)
  __attribute__ ((__nonnull__));

/* How many slices have been changed since the last gathering. */
extern size_t q2_cache_nr_dirty (const struct q2_cache *cache)
  __attribute__ ((__nonnull__));

/* How many slots are free or can be made free. */
extern size_t q2_cache_room (const struct q2_cache *cache)
  __attribute__ ((__nonnull__));

/* Copies of changed slices, in the order of the file. */
struct q2_dirty {
  size_t nr;
  uint64_t *host_off;
  unsigned char *bytes;         /* slice i is at bytes + i * slice_size */
  size_t size;                  /* of bytes */
};

/* Memory for 'nr' slices of 'unit' bytes; ret_dirty->nr counts those that are
 * filled in and is 0.  On failure there is nothing to destroy.
 */
extern int q2_dirty_init (struct q2_dirty *ret_dirty, size_t nr, size_t unit,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_dirty_destroy (struct q2_dirty *dirty)
  __attribute__ ((__nonnull__));

extern int q2_cache_gather (struct q2_cache *cache,
                            struct q2_dirty *ret_dirty,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Write them, neighbours with one request, but nothing at or past host_end.
 * 'unit' is the size of a slice.
 */
extern int q2_dirty_write (const struct q2_dirty *dirty, size_t unit,
                           uint64_t host_end, const struct q2_io *io,
                           enum qcow2_io_class class,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The gathered slices are in the file, or they could not be written and
 * count as changed again.  Frees the copies.
 */
extern void q2_cache_end_gather (struct q2_cache *cache,
                                 struct q2_dirty *dirty, bool written)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_META_CACHE_H */
