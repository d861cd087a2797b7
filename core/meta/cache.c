/* SPDX-License-Identifier: BSD-3-Clause */
/* cache.c - the table cache.
 *
 * Owns      the slices, and the list of loads in flight.
 * Method    slices are spread over shards by their number.  A shard is a
 *           chained hash table over an array of slots, evicted by the clock
 *           algorithm: a hit sets the slot's bit, the hand clears bits and
 *           takes the first slot without one.  New slices come in with the
 *           bit clear, so a scan that touches each slice once pushes out
 *           other scanned slices before anything that is used again.
 *
 *           A miss registers its host range as a load, reads outside all
 *           locks, then inserts.  A thread that misses bytes of a
 *           registered range waits for that load and looks again; after a
 *           failed or useless wait it reads for itself, so one
 *           connection's broken backend never fails another's request and
 *           nobody can wait for ever.
 * Locks     loads.lock guards the list of loads and is never held over
 *           I/O; shard.lock guards one shard's slots and bytes.  loads.lock
 *           is taken before shard.lock, never after.
 * Does not  know what is in a slice, or write it.
 */
#include "config.h"

#include "meta/cache.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <assert.h>
#include <pthread.h>
#include <string.h>

#define MAX_SHARDS 16
#define MIN_SLOTS_PER_SHARD 8
#define NO_SLOT UINT32_MAX
#define EMPTY UINT64_MAX        /* no slice starts at the last byte */

struct slot {
  uint64_t host_off;            /* EMPTY: unused */
  uint32_t next;                /* in the chain of its hash bucket */
  bool used;                    /* hit since the hand came by */
};

struct shard {
  pthread_mutex_t lock;
  struct slot *slots;
  unsigned char *bytes;         /* slice i is at bytes + i * slice_size */
  uint32_t *buckets;            /* first slot of each chain */
  uint32_t hand;
};

/* A read in flight; lives on the reading thread's stack. */
struct load {
  struct load *next;
  uint64_t id;                  /* never used again, unlike the address */
  uint64_t start, end;          /* host range */
};

struct q2_cache {
  size_t slice_size;
  unsigned slice_bits;
  uint32_t nr_slots;            /* per shard */
  uint32_t nr_buckets;          /* per shard, a power of two */
  uint32_t nr_shards;           /* a power of two */
  struct shard shards[MAX_SHARDS];

  struct {
    pthread_mutex_t lock;
    pthread_cond_t done;        /* some load has finished */
    struct load *first;
    uint64_t last_id;
  } loads;
};

/* ---- Life ------------------------------------------------------------ */

static int
shard_init (const struct q2_cache *c, struct shard *shard,
            struct qcow2_error *err)
{
  shard->slots = calloc (c->nr_slots, sizeof *shard->slots);
  shard->buckets = calloc (c->nr_buckets, sizeof *shard->buckets);
  /* Not touched before it is used: costs address space, not memory. */
  shard->bytes = malloc (c->nr_slots * c->slice_size);
  if (!shard->slots || !shard->buckets || !shard->bytes)
    return q2_fail_nomem (err, "the table cache");
  for (uint32_t i = 0; i < c->nr_slots; ++i)
    shard->slots[i].host_off = EMPTY;
  for (uint32_t i = 0; i < c->nr_buckets; ++i)
    shard->buckets[i] = NO_SLOT;
  return 0;
}

struct q2_cache *
q2_cache_new (uint64_t max_bytes, size_t slice_size, struct qcow2_error *err)
{
  struct q2_cache *c;
  uint64_t slots;

  assert (q2_is_pow2 (slice_size) && slice_size <= Q2_CACHE_MAX_LOAD);
  c = calloc (1, sizeof *c);
  if (c == NULL) {
    q2_fail_nomem (err, "the table cache");
    return NULL;
  }
  c->slice_size = slice_size;
  c->slice_bits = (unsigned) __builtin_ctzl (slice_size);
  slots = q2_min (max_bytes / slice_size, UINT32_MAX / 2);
  c->nr_shards = MAX_SHARDS;
  while (c->nr_shards > 1 && slots / c->nr_shards < MIN_SLOTS_PER_SHARD)
    c->nr_shards /= 2;
  c->nr_slots =
    (uint32_t) q2_max (slots / c->nr_shards, MIN_SLOTS_PER_SHARD);
  for (c->nr_buckets = 1; c->nr_buckets < c->nr_slots; c->nr_buckets *= 2)
    ;

  pthread_mutex_init (&c->loads.lock, NULL);
  pthread_cond_init (&c->loads.done, NULL);
  for (uint32_t i = 0; i < c->nr_shards; ++i)
    pthread_mutex_init (&c->shards[i].lock, NULL);
  for (uint32_t i = 0; i < c->nr_shards; ++i)
    if (shard_init (c, &c->shards[i], err) == -1) {
      q2_cache_free (c);
      return NULL;
    }
  return c;
}

void
q2_cache_free (struct q2_cache *c)
{
  if (c == NULL)
    return;
  assert (c->loads.first == NULL);
  for (uint32_t i = 0; i < c->nr_shards; ++i) {
    free (c->shards[i].slots);
    free (c->shards[i].buckets);
    free (c->shards[i].bytes);
    pthread_mutex_destroy (&c->shards[i].lock);
  }
  pthread_cond_destroy (&c->loads.done);
  pthread_mutex_destroy (&c->loads.lock);
  free (c);
}

size_t
q2_cache_slice_size (const struct q2_cache *c)
{
  return c->slice_size;
}

/* ---- Shards ---------------------------------------------------------- */

/* Neighbouring slices fall into different shards, and tables, which start
 * at multiples of a large power of two, into different buckets.
 */
static uint64_t
hash (const struct q2_cache *c, uint64_t host_off)
{
  return (host_off >> c->slice_bits) * UINT64_C (0x9e3779b97f4a7c15);
}

static struct shard *
shard_of (struct q2_cache *c, uint64_t h)
{
  return &c->shards[(h >> 60) & (c->nr_shards - 1)];
}

static uint32_t *
bucket_of (const struct q2_cache *c, struct shard *shard, uint64_t h)
{
  return &shard->buckets[(h >> 28) & (c->nr_buckets - 1)];
}

static uint32_t
find_locked (const struct q2_cache *c, struct shard *shard, uint64_t h,
             uint64_t host_off)
{
  uint32_t i = *bucket_of (c, shard, h);

  while (i != NO_SLOT && shard->slots[i].host_off != host_off)
    i = shard->slots[i].next;
  return i;
}

bool
q2_cache_lookup (struct q2_cache *c, uint64_t host_off, size_t skip,
                 void *buf, size_t len)
{
  const uint64_t slice_off = host_off - skip;
  const uint64_t h = hash (c, slice_off);
  struct shard *const shard = shard_of (c, h);
  uint32_t i;

  assert (skip + len <= c->slice_size);
  pthread_mutex_lock (&shard->lock);
  i = find_locked (c, shard, h, slice_off);
  if (i != NO_SLOT) {
    shard->slots[i].used = true;
    memcpy (buf, shard->bytes + i * c->slice_size + skip, len);
  }
  pthread_mutex_unlock (&shard->lock);
  return i != NO_SLOT;
}

/* Take a slot for new contents: out of its old chain, unused. */
static uint32_t
evict_locked (const struct q2_cache *c, struct shard *shard)
{
  struct slot *slot;
  uint32_t i;

  for (;;) {
    i = shard->hand;
    shard->hand = (shard->hand + 1) % c->nr_slots;
    slot = &shard->slots[i];
    if (slot->host_off == EMPTY)
      return i;
    if (!slot->used)
      break;
    slot->used = false;
  }
  for (uint32_t *link =
         bucket_of (c, shard, hash (c, slot->host_off));;
       link = &shard->slots[*link].next) {
    if (*link == i) {
      *link = slot->next;
      break;
    }
  }
  slot->host_off = EMPTY;
  return i;
}

void
q2_cache_insert (struct q2_cache *c, uint64_t host_off, const void *slice)
{
  const uint64_t h = hash (c, host_off);
  struct shard *const shard = shard_of (c, h);
  uint32_t i;

  pthread_mutex_lock (&shard->lock);
  i = find_locked (c, shard, h, host_off);
  if (i == NO_SLOT) {
    uint32_t *const bucket = bucket_of (c, shard, h);

    i = evict_locked (c, shard);
    shard->slots[i] =
      (struct slot) { .host_off = host_off, .next = *bucket };
    *bucket = i;
    memcpy (shard->bytes + i * c->slice_size, slice, c->slice_size);
  }
  pthread_mutex_unlock (&shard->lock);
}

/* ---- Loads ----------------------------------------------------------- */

/* Wait for the load in flight that overlaps the range, if there is one, but
 * not for any that starts later: if the slice is not there afterwards, that
 * load failed (or the cache is so small that the slice is gone again) and
 * the caller's own read is the better bet.
 */
static void
wait_for_load_locked (struct q2_cache *c, uint64_t start, uint64_t end)
{
  const struct load *l;
  uint64_t id;

  for (l = c->loads.first; l != NULL; l = l->next)
    if (l->start < end && start < l->end)
      break;
  if (l == NULL)
    return;
  id = l->id;
  for (;;) {
    for (l = c->loads.first; l != NULL && l->id != id; l = l->next)
      ;
    if (l == NULL)
      return;
    pthread_cond_wait (&c->loads.done, &c->loads.lock);
  }
}

static void
end_load (struct q2_cache *c, struct load *load)
{
  pthread_mutex_lock (&c->loads.lock);
  for (struct load **link = &c->loads.first;; link = &(*link)->next)
    if (*link == load) {
      *link = load->next;
      break;
    }
  pthread_cond_broadcast (&c->loads.done);
  pthread_mutex_unlock (&c->loads.lock);
}

/* Read [start, start+len) and keep it; copy out what the caller wants. */
static int
load_range (struct q2_cache *c, const struct q2_io *io, uint64_t start,
            size_t len, size_t skip, void *buf, size_t want,
            struct qcow2_error *err)
{
  unsigned char small[4096];
  Q2_CLEANUP_FREE unsigned char *large = NULL;
  unsigned char *bytes = small;

  if (len > sizeof small) {
    bytes = large = malloc (len);
    if (large == NULL)
      return q2_fail_nomem (err, "reading an L2 table");
  }
  if (q2_io_read (io, bytes, len, start, QCOW2_IO_L2, err) == -1)
    return -1;
  for (size_t i = 0; i < len; i += c->slice_size)
    q2_cache_insert (c, start + i, bytes + i);
  memcpy (buf, bytes + skip, want);
  return 0;
}

int
q2_cache_read (struct q2_cache *c, const struct q2_io *io, uint64_t host_off,
               size_t skip, void *buf, size_t len, size_t ahead,
               struct qcow2_error *err)
{
  const uint64_t start = host_off - skip;
  struct load load = { .start = start, .end = start + ahead };
  int r;

  assert (ahead >= c->slice_size && ahead <= Q2_CACHE_MAX_LOAD);
  if (q2_cache_lookup (c, host_off, skip, buf, len))
    return 0;

  pthread_mutex_lock (&c->loads.lock);
  wait_for_load_locked (c, start, start + c->slice_size);
  if (q2_cache_lookup (c, host_off, skip, buf, len)) {
    pthread_mutex_unlock (&c->loads.lock);
    return 0;
  }
  load.id = ++c->loads.last_id;
  load.next = c->loads.first;
  c->loads.first = &load;
  pthread_mutex_unlock (&c->loads.lock);

  r = load_range (c, io, start, ahead, skip, buf, len, err);
  end_load (c, &load);
  return r;
}
