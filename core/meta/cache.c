/* SPDX-License-Identifier: BSD-3-Clause */
/* cache.c - the table cache.
 *
 * Owns      the slices.
 * Method    slices are spread over shards by their number.  A shard is a
 *           chained hash table over an array of slots, evicted by the clock
 *           algorithm: a use sets the slot's bit, the hand clears bits and
 *           takes the first slot without one.  Scans do not set it, so they
 *           push out what other scans brought in, oldest first, before
 *           anything else.  Caches of many threads are swept now and then.
 * Locks     shard.lock guards one shard's slots and bytes.
 * Does not  know what is in a slice, or read or write it: loads.c and
 *           changes.c do that.
 */
#include "config.h"

#include "meta/cache_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define MIN_SLOTS_PER_SHARD 8

/* ---- Life ----------------------------------------------------------- */

static int
shard_init (const struct q2_cache *c, struct q2_shard *shard,
            unsigned char *bytes, struct qcow2_error *err)
{
  shard->slots = calloc (c->nr_slots, sizeof *shard->slots);
  shard->buckets = calloc (c->nr_buckets, sizeof *shard->buckets);
  shard->bytes = bytes;
  if (!shard->slots || !shard->buckets)
    return q2_fail_nomem (err, "the table cache");
  for (uint32_t i = 0; i < c->nr_slots; ++i)
    shard->slots[i].host_off = Q2_EMPTY_SLOT;
  for (uint32_t i = 0; i < c->nr_buckets; ++i)
    shard->buckets[i] = Q2_NO_SLOT;
  return 0;
}

/* Not touched before it is used: costs address space, not memory. */
static int
allocate (struct q2_cache *c, struct qcow2_error *err)
{
  const uint64_t all = q2_cache_capacity (c) * c->slice_size;
  const size_t per_shard = c->nr_slots * c->slice_size;

  if (all > SIZE_MAX / 2)
    return q2_fail_nomem (err, "the table cache");
  c->bytes = q2_buffer_alloc (all);
#ifdef MADV_NOHUGEPAGE
  /* A slice costs a page, not 2 MiB. */
  if (c->bytes != NULL && all >= Q2_BUFFER_MAPPED)
    (void) madvise (c->bytes, all, MADV_NOHUGEPAGE);
#endif
  c->dirty.host_off =
    malloc (q2_cache_capacity (c) * sizeof *c->dirty.host_off);
  if (c->bytes == NULL || c->dirty.host_off == NULL)
    return q2_fail_nomem (err, "the table cache");
  for (uint32_t i = 0; i < c->nr_shards; ++i)
    if (shard_init (c, &c->shards[i], c->bytes + i * per_shard, err) == -1)
      return -1;
  return 0;
}

static struct q2_cache *
new (uint64_t max_bytes, size_t slice_size, unsigned max_shards,
     struct qcow2_error *err)
{
  struct q2_cache *c;
  uint64_t slots;

  if (!q2_assume (q2_is_pow2 (slice_size) && slice_size <= Q2_CACHE_MAX_LOAD,
                  err))
    return NULL;
  c = calloc (1, sizeof *c);
  if (c == NULL) {
    q2_fail_nomem (err, "the table cache");
    return NULL;
  }
  c->slice_size = slice_size;
  c->slice_bits = (unsigned) __builtin_ctzl (slice_size);
  slots = q2_min (max_bytes / slice_size, UINT32_MAX / 2);
  c->nr_shards = max_shards;
  while (c->nr_shards > 1 && slots / c->nr_shards < MIN_SLOTS_PER_SHARD)
    c->nr_shards /= 2;
  c->nr_slots =
    (uint32_t) q2_max (slots / c->nr_shards, MIN_SLOTS_PER_SHARD);
  for (c->nr_buckets = 1; c->nr_buckets < c->nr_slots; c->nr_buckets *= 2)
    ;

  q2_mutex_init (&c->loads.lock, 7, "loads.lock");
  pthread_cond_init (&c->loads.done, NULL);
  for (uint32_t i = 0; i < c->nr_shards; ++i)
    q2_mutex_init (&c->shards[i].lock, 8, "shard.lock");
  if (allocate (c, err) == 0)
    return c;
  q2_cache_free (c);
  return NULL;
}

struct q2_cache *
q2_cache_new (uint64_t max_bytes, size_t slice_size, struct qcow2_error *err)
{
  struct q2_cache *const c = new (max_bytes, slice_size, Q2_MAX_SHARDS, err);

  if (c != NULL)
    q2_cache_enlist (c);
  return c;
}

struct q2_cache *
q2_cache_new_unshared (uint64_t max_bytes, size_t slice_size,
                       struct qcow2_error *err)
{
  return new (max_bytes, slice_size, 1, err);
}

void
q2_cache_free (struct q2_cache *c)
{
  if (c == NULL)
    return;
  if (!q2_check (c->loads.first == NULL))
    return;                     /* leaked: somebody uses it */
  q2_cache_delist (c);
  for (uint32_t i = 0; i < c->nr_shards; ++i) {
    free (c->shards[i].slots);
    free (c->shards[i].buckets);
    q2_mutex_destroy (&c->shards[i].lock);
  }
  pthread_cond_destroy (&c->loads.done);
  q2_mutex_destroy (&c->loads.lock);
  q2_buffer_free (c->bytes, q2_cache_capacity (c) * c->slice_size);
  free (c->dirty.host_off);
  free (c);
}

size_t
q2_cache_slice_size (const struct q2_cache *c)
{
  return c->slice_size;
}

/* ---- Shards --------------------------------------------------------- */

bool
q2_cache_copy_out (struct q2_cache *c, uint64_t host_off, size_t skip,
                   void *buf, size_t len, bool scan)
{
  struct q2_shard *shard;
  const uint32_t i = q2_cache_lock_slice (c, host_off - skip, &shard);
  const bool ok = q2_check (skip + len <= c->slice_size) &&
    i != Q2_NO_SLOT;

  if (ok) {
    if (!scan)
      shard->slots[i].used = true;
    shard->slots[i].recent = true;
    shard->hits++;
    memcpy (buf, shard->bytes + i * c->slice_size + skip, len);
  }
  q2_mutex_unlock (&shard->lock);
  return ok;
}

bool
q2_cache_lookup (struct q2_cache *c, uint64_t host_off, size_t skip,
                 void *buf, size_t len)
{
  return q2_cache_copy_out (c, host_off, skip, buf, len, false);
}

static uint32_t
advance_hand (const struct q2_cache *c, struct q2_shard *shard)
{
  const uint32_t i = shard->hand;

  shard->hand = i + 1 < c->nr_slots ? i + 1 : 0;
  return i;
}

/* The next slot whose contents may go, or Q2_NO_SLOT.  A scan first looks for
 * one that a scan has filled, and leaves the bits alone.
 */
static uint32_t
choose_victim_locked (const struct q2_cache *c, struct q2_shard *shard,
                      bool scan)
{
  q2_mutex_check_held (&shard->lock);
  for (uint32_t n = 0; scan && n < c->nr_slots; ++n) {
    const uint32_t i = advance_hand (c, shard);

    if (!shard->slots[i].used && q2_cache_may_go (&shard->slots[i]))
      return i;
  }
  for (uint32_t n = 0; n < 2 * c->nr_slots; ++n) {
    const uint32_t i = advance_hand (c, shard);

    if (!shard->slots[i].used && q2_cache_may_go (&shard->slots[i]))
      return i;
    shard->slots[i].used = false;
  }
  return Q2_NO_SLOT;
}

void
q2_cache_unlink_locked (const struct q2_cache *c, struct q2_shard *shard,
                        uint32_t i)
{
  struct q2_slot *const slot = &shard->slots[i];

  q2_mutex_check_held (&shard->lock);
  q2_check (i < c->nr_slots && slot->host_off != Q2_EMPTY_SLOT);
  for (uint32_t *link =
         q2_cache_bucket_of (c, shard, q2_cache_hash (c, slot->host_off));;
       link = &shard->slots[*link].next) {
    if (*link == i) {
      *link = slot->next;
      break;
    }
  }
  *slot = (struct q2_slot) { .host_off = Q2_EMPTY_SLOT };
}

/* Take a slot for new contents: out of its old chain, unused. */
static uint32_t
evict_locked (const struct q2_cache *c, struct q2_shard *shard, bool scan)
{
  const uint32_t i = choose_victim_locked (c, shard, scan);

  q2_mutex_check_held (&shard->lock);
  q2_check (i == Q2_NO_SLOT || q2_cache_may_go (&shard->slots[i]));
  if (i != Q2_NO_SLOT && shard->slots[i].host_off != Q2_EMPTY_SLOT)
    q2_cache_unlink_locked (c, shard, i);
  return i;
}

uint32_t
q2_cache_lock_or_insert (struct q2_cache *c, uint64_t host_off,
                         const void *slice, bool scan,
                         struct q2_shard **ret_shard)
{
  uint32_t i = q2_cache_lock_slice (c, host_off, ret_shard);
  struct q2_shard *const shard = *ret_shard;
  uint32_t *bucket;

  if (i != Q2_NO_SLOT)
    return i;
  i = evict_locked (c, shard, scan);
  if (i == Q2_NO_SLOT)
    return i;
  bucket = q2_cache_bucket_of (c, shard, q2_cache_hash (c, host_off));
  shard->slots[i] =
    (struct q2_slot) { .host_off = host_off, .next = *bucket, .used = !scan,
                       .recent = true };
  *bucket = i;
  memcpy (shard->bytes + i * c->slice_size, slice, c->slice_size);
  return i;
}

bool
q2_cache_contains (struct q2_cache *c, uint64_t host_off)
{
  struct q2_shard *shard;
  const bool found =
    q2_cache_lock_slice (c, host_off, &shard) != Q2_NO_SLOT;

  q2_mutex_unlock (&shard->lock);
  return found;
}

uint64_t
q2_cache_capacity (const struct q2_cache *c)
{
  return (uint64_t) c->nr_slots * c->nr_shards;
}

void
q2_cache_get_stats (struct q2_cache *c, uint64_t *ret_hits,
                    uint64_t *ret_misses)
{
  uint64_t hits = 0;

  for (uint32_t i = 0; i < c->nr_shards; ++i) {
    q2_mutex_lock (&c->shards[i].lock);
    hits += c->shards[i].hits;
    q2_mutex_unlock (&c->shards[i].lock);
  }
  q2_mutex_lock (&c->loads.lock);
  *ret_misses = c->loads.misses;
  q2_mutex_unlock (&c->loads.lock);
  *ret_hits = hits;
}
