/* SPDX-License-Identifier: BSD-3-Clause */
/* cache_impl.h - what cache.c, loads.c, changes.c and sweep.c share. */
#ifndef QCOW2_META_CACHE_IMPL_H
#define QCOW2_META_CACHE_IMPL_H

#include "base/lock.h"
#include "meta/cache.h"

#include <pthread.h>
#include <stdatomic.h>

#define Q2_MAX_SHARDS 16
#define Q2_NO_SLOT UINT32_MAX
#define Q2_EMPTY_SLOT UINT64_MAX        /* no slice starts at the last byte */

struct q2_slot {
  uint64_t host_off;            /* Q2_EMPTY_SLOT: unused */
  uint32_t next;                /* in the chain of its hash bucket */
  bool used;                    /* since the hand came by */
  bool recent;                  /* used since the last sweep */
  bool dirty;                   /* changed and not gathered yet */
  bool writing;                 /* gathered, and not ended yet */
  bool solid;                   /* see q2_cache_update */
  bool pinned;                  /* see q2_cache_pin */
};

struct q2_shard {
  struct q2_mutex lock;
  struct q2_slot *slots;
  unsigned char *bytes;         /* slice i is at bytes + i * slice_size */
  uint32_t *buckets;            /* first slot of each chain */
  uint32_t hand;
  uint64_t hits;
};

struct q2_cache {
  size_t slice_size;
  unsigned slice_bits;
  uint32_t nr_slots;            /* per shard */
  uint32_t nr_buckets;          /* per shard, a power of two */
  uint32_t nr_shards;           /* a power of two */
  struct q2_shard shards[Q2_MAX_SHARDS];
  unsigned char *bytes;         /* of all shards */

  struct {
    struct q2_mutex lock;
    pthread_cond_t done;        /* some load has finished */
    struct q2_load *first;
    uint64_t last_id;
    uint64_t misses;
    uint64_t bad_start, bad_end;        /* the last load that failed, and was
                                           of more than one slice */
  } loads;

  struct {                      /* cache_list.c's */
    struct q2_cache *next, *prev;
    bool enlisted;
    bool visited;               /* now, by one thread, without the lock */
    uint64_t visit;             /* the last one to it */
  } all;

  struct {
    uint64_t *host_off;         /* of each dirty slot, room for all slots */
    _Atomic size_t nr;
    _Atomic size_t nr_writing;
    _Atomic size_t nr_pinned;
  } dirty;
};

/* Neighbouring slices fall into different shards, and tables, which start
 * at multiples of a large power of two, into different buckets.
 */
static inline uint64_t
q2_cache_hash (const struct q2_cache *c, uint64_t host_off)
{
  return (host_off >> c->slice_bits) * UINT64_C (0x9e3779b97f4a7c15);
}

static inline struct q2_shard *
q2_cache_shard_of (struct q2_cache *c, uint64_t h)
{
  return &c->shards[(h >> 60) & (c->nr_shards - 1)];
}

static inline uint32_t *
q2_cache_bucket_of (const struct q2_cache *c, struct q2_shard *shard,
                    uint64_t h)
{
  return &shard->buckets[(h >> 28) & (c->nr_buckets - 1)];
}

static inline uint32_t
q2_cache_find_locked (const struct q2_cache *c, struct q2_shard *shard,
                      uint64_t h, uint64_t host_off)
{
  uint32_t i = *q2_cache_bucket_of (c, shard, h);

  while (i != Q2_NO_SLOT && shard->slots[i].host_off != host_off)
    i = shard->slots[i].next;
  return i;
}

/* The slot of a slice, or Q2_NO_SLOT; its shard is locked. */
static inline uint32_t
q2_cache_lock_slice (struct q2_cache *c, uint64_t host_off,
                     struct q2_shard **ret_shard)
{
  const uint64_t h = q2_cache_hash (c, host_off);

  *ret_shard = q2_cache_shard_of (c, h);
  q2_mutex_lock (&(*ret_shard)->lock);
  return q2_cache_find_locked (c, *ret_shard, h, host_off);
}

/* Neither changed nor being written, nor more than the file has. */
static inline bool
q2_cache_may_go (const struct q2_slot *slot)
{
  return !slot->dirty && !slot->writing && !slot->pinned;
}

/* Copy bytes out of a slice, 'skip' bytes into it; false if it is not in the
 * cache.  'scan': as in struct q2_cache_span.
 */
extern bool q2_cache_copy_out (struct q2_cache *cache, uint64_t host_off,
                               size_t skip, void *buf, size_t len, bool scan)
  __attribute__ ((__nonnull__));

/* Take a slice out of the cache; its slot is free. */
extern void q2_cache_unlink_locked (const struct q2_cache *cache,
                                    struct q2_shard *shard, uint32_t slot)
  __attribute__ ((__nonnull__));

/* The same, but the slice is put in if it is not there; Q2_NO_SLOT if there
 * is no room.
 */
extern uint32_t q2_cache_lock_or_insert (struct q2_cache *cache,
                                         uint64_t host_off,
                                         const void *slice, bool scan,
                                         struct q2_shard **ret_shard)
  __attribute__ ((__nonnull__));

/* ---- cache_list.c ------------------------------------------------------ */

/* It is in the list, or, if it was, no more; who takes it out waits until
 * nobody visits it.
 */
extern void q2_cache_enlist (struct q2_cache *cache)
  __attribute__ ((__nonnull__));
extern void q2_cache_delist (struct q2_cache *cache)
  __attribute__ ((__nonnull__));
/* Call 'fn' once for each cache, which stays as long as that runs. */
extern void q2_cache_visit_all (void (*fn) (struct q2_cache *cache))
  __attribute__ ((__nonnull__));

#endif /* QCOW2_META_CACHE_IMPL_H */
