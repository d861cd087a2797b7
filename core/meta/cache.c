/* SPDX-License-Identifier: BSD-3-Clause */
/* cache.c - the table cache.
 *
 * Owns      the slices, and the list of loads in flight.
 * Method    slices are spread over shards by their number.  A shard is a
 *           chained hash table over an array of slots, evicted by the clock
 *           algorithm: a use sets the slot's bit, the hand clears bits and
 *           takes the first slot without one.  Scans do not set it, so they
 *           push out what other scans brought in, oldest first, before
 *           anything else.
 *
 *           A miss registers its host range as a load, reads outside all
 *           locks, then inserts.  A thread that misses bytes of a
 *           registered range waits for that load and looks again; after a
 *           failed or useless wait it reads for itself, so one
 *           connection's broken backend never fails another's request and
 *           nobody can wait for ever.
 *
 *           A changed slice is dirty until it is gathered, and being written
 *           until that has ended; neither is evicted.  A load that was in
 *           flight then may have read what the file held before, and slices
 *           it brings may have been changed, written and evicted meanwhile:
 *           so the end of a gathering spoils all loads in flight, which then
 *           keep nothing and start again.
 * Locks     loads.lock guards the list of loads and is never held over
 *           I/O; shard.lock guards one shard's slots and bytes.  loads.lock
 *           is taken before shard.lock, never after.  The list of changed
 *           slices is guarded by a lock of those who change them.
 * Does not  know what is in a slice, or write it.
 */
#include "config.h"

#include "meta/cache.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define MAX_SHARDS 16
#define MIN_SLOTS_PER_SHARD 8
#define NO_SLOT UINT32_MAX
#define EMPTY UINT64_MAX        /* no slice starts at the last byte */

struct slot {
  uint64_t host_off;            /* EMPTY: unused */
  uint32_t next;                /* in the chain of its hash bucket */
  bool used;                    /* since the hand came by */
  bool dirty;                   /* changed and not gathered yet */
  bool writing;                 /* gathered, and not ended yet */
};

struct shard {
  pthread_mutex_t lock;
  struct slot *slots;
  unsigned char *bytes;         /* slice i is at bytes + i * slice_size */
  uint32_t *buckets;            /* first slot of each chain */
  uint32_t hand;
  uint64_t hits;
};

/* A read in flight; lives on the reading thread's stack. */
struct load {
  struct load *next;
  uint64_t id;                  /* never used again, unlike the address */
  uint64_t start, end;          /* host range */
  bool scan;
  bool spoiled;                 /* what it reads may be out of date */
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
    uint64_t misses;
  } loads;

  struct {
    uint64_t *host_off;         /* of each dirty slot, room for all slots */
    _Atomic size_t nr;
    _Atomic size_t nr_writing;
  } dirty;
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

static struct q2_cache *
new (uint64_t max_bytes, size_t slice_size, unsigned max_shards,
     struct qcow2_error *err)
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
  c->nr_shards = max_shards;
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
  /* Not touched before slices are changed. */
  c->dirty.host_off =
    malloc (q2_cache_capacity (c) * sizeof *c->dirty.host_off);
  if (c->dirty.host_off == NULL) {
    q2_cache_free (c);
    q2_fail_nomem (err, "the table cache");
    return NULL;
  }
  return c;
}

struct q2_cache *
q2_cache_new (uint64_t max_bytes, size_t slice_size, struct qcow2_error *err)
{
  return new (max_bytes, slice_size, MAX_SHARDS, err);
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
  assert (c->loads.first == NULL);
  for (uint32_t i = 0; i < c->nr_shards; ++i) {
    free (c->shards[i].slots);
    free (c->shards[i].buckets);
    free (c->shards[i].bytes);
    pthread_mutex_destroy (&c->shards[i].lock);
  }
  pthread_cond_destroy (&c->loads.done);
  pthread_mutex_destroy (&c->loads.lock);
  free (c->dirty.host_off);
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

static bool
lookup (struct q2_cache *c, uint64_t host_off, size_t skip, void *buf,
        size_t len, bool scan)
{
  const uint64_t slice_off = host_off - skip;
  const uint64_t h = hash (c, slice_off);
  struct shard *const shard = shard_of (c, h);
  uint32_t i;

  assert (skip + len <= c->slice_size);
  pthread_mutex_lock (&shard->lock);
  i = find_locked (c, shard, h, slice_off);
  if (i != NO_SLOT) {
    if (!scan)
      shard->slots[i].used = true;
    shard->hits++;
    memcpy (buf, shard->bytes + i * c->slice_size + skip, len);
  }
  pthread_mutex_unlock (&shard->lock);
  return i != NO_SLOT;
}

bool
q2_cache_lookup (struct q2_cache *c, uint64_t host_off, size_t skip,
                 void *buf, size_t len)
{
  return lookup (c, host_off, skip, buf, len, false);
}

static uint32_t
advance_hand (const struct q2_cache *c, struct shard *shard)
{
  const uint32_t i = shard->hand;

  shard->hand = i + 1 < c->nr_slots ? i + 1 : 0;
  return i;
}

static bool
may_go (const struct slot *slot)
{
  return !slot->dirty && !slot->writing;
}

/* The next slot whose contents may go, or NO_SLOT.  A scan first looks for
 * one that a scan has filled, and leaves the bits alone.
 */
static uint32_t
choose_victim_locked (const struct q2_cache *c, struct shard *shard,
                      bool scan)
{
  for (uint32_t n = 0; scan && n < c->nr_slots; ++n) {
    const uint32_t i = advance_hand (c, shard);

    if (!shard->slots[i].used && may_go (&shard->slots[i]))
      return i;
  }
  for (uint32_t n = 0; n < 2 * c->nr_slots; ++n) {
    const uint32_t i = advance_hand (c, shard);

    if (!shard->slots[i].used && may_go (&shard->slots[i]))
      return i;
    shard->slots[i].used = false;
  }
  return NO_SLOT;
}

static void
unlink_locked (const struct q2_cache *c, struct shard *shard, uint32_t i)
{
  struct slot *const slot = &shard->slots[i];

  for (uint32_t *link =
         bucket_of (c, shard, hash (c, slot->host_off));;
       link = &shard->slots[*link].next) {
    if (*link == i) {
      *link = slot->next;
      break;
    }
  }
  slot->host_off = EMPTY;
}

/* Take a slot for new contents: out of its old chain, unused. */
static uint32_t
evict_locked (const struct q2_cache *c, struct shard *shard, bool scan)
{
  const uint32_t i = choose_victim_locked (c, shard, scan);

  if (i != NO_SLOT && shard->slots[i].host_off != EMPTY)
    unlink_locked (c, shard, i);
  return i;
}

/* The slot with the slice, which is put in if it is not there; NO_SLOT if
 * there is no room.
 */
static uint32_t
insert_locked (struct q2_cache *c, struct shard *shard, uint64_t h,
               uint64_t host_off, const void *slice, bool scan)
{
  uint32_t i = find_locked (c, shard, h, host_off);
  uint32_t *bucket;

  if (i != NO_SLOT)
    return i;
  i = evict_locked (c, shard, scan);
  if (i == NO_SLOT)
    return i;
  bucket = bucket_of (c, shard, h);
  shard->slots[i] =
    (struct slot) { .host_off = host_off, .next = *bucket, .used = !scan };
  *bucket = i;
  memcpy (shard->bytes + i * c->slice_size, slice, c->slice_size);
  return i;
}

static void
insert (struct q2_cache *c, uint64_t host_off, const void *slice, bool scan)
{
  const uint64_t h = hash (c, host_off);
  struct shard *const shard = shard_of (c, h);

  pthread_mutex_lock (&shard->lock);
  insert_locked (c, shard, h, host_off, slice, scan);
  pthread_mutex_unlock (&shard->lock);
}

/* ---- Loads ----------------------------------------------------------- */

/* The load in flight that overlaps the range, or NULL. */
static const struct load *
find_load_locked (const struct q2_cache *c, uint64_t start, uint64_t end)
{
  const struct load *l;

  for (l = c->loads.first; l != NULL; l = l->next)
    if (l->start < end && start < l->end)
      break;
  return l;
}

/* Wait for the load in flight that overlaps the range, if there is one, but
 * not for any that starts later: if the slice is not there afterwards, that
 * load failed (or the cache is so small that the slice is gone again) and
 * the caller's own read is the better bet.
 */
static void
wait_for_load_locked (struct q2_cache *c, uint64_t start, uint64_t end)
{
  const struct load *l = find_load_locked (c, start, end);
  uint64_t id;

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
begin_load_locked (struct q2_cache *c, struct load *load)
{
  load->id = ++c->loads.last_id;
  load->next = c->loads.first;
  c->loads.first = load;
}

/* Returns whether what it has read is good. */
static bool
end_load (struct q2_cache *c, struct load *load)
{
  bool spoiled;

  pthread_mutex_lock (&c->loads.lock);
  spoiled = load->spoiled;
  for (struct load **link = &c->loads.first;; link = &(*link)->next)
    if (*link == load) {
      *link = load->next;
      break;
    }
  pthread_cond_broadcast (&c->loads.done);
  pthread_mutex_unlock (&c->loads.lock);
  return !spoiled;
}

/* Keep a slice that a load has brought, unless it is out of date. */
static void
keep (struct q2_cache *c, const struct load *load, uint64_t host_off,
      const void *slice)
{
  pthread_mutex_lock (&c->loads.lock);
  if (!load->spoiled)
    insert (c, host_off, slice, load->scan);
  pthread_mutex_unlock (&c->loads.lock);
}

/* Read the range of the load and keep it; copy out what the caller wants,
 * which starts at 'skip'.
 */
static int
do_load (struct q2_cache *c, const struct q2_io *io, const struct load *load,
         size_t skip, void *buf, size_t want, struct qcow2_error *err)
{
  const size_t len = load->end - load->start;
  unsigned char small[4096];
  Q2_CLEANUP_FREE unsigned char *large = NULL;
  unsigned char *bytes = small;

  if (len > sizeof small) {
    bytes = large = malloc (len);
    if (large == NULL)
      return q2_fail_nomem (err, "reading an L2 table");
  }
  if (q2_io_read (io, bytes, len, load->start, QCOW2_IO_L2, err) == -1)
    return -1;
  for (size_t i = 0; i < len; i += c->slice_size)
    keep (c, load, load->start + i, bytes + i);
  if (want > 0)
    memcpy (buf, bytes + skip, want);
  return 0;
}

/* The slice is missing: wait for it or load it.  Returns 1 if what was read
 * is out of date.
 */
static int
read_missing (struct q2_cache *c, const struct q2_io *io, uint64_t host_off,
              size_t skip, void *buf, size_t len, struct q2_cache_span span,
              struct qcow2_error *err)
{
  const uint64_t slice_off = host_off - skip;
  struct load load = {
    .start = slice_off - span.behind, .end = slice_off + span.ahead,
    .scan = span.scan,
  };
  int r;

  pthread_mutex_lock (&c->loads.lock);
  c->loads.misses++;
  wait_for_load_locked (c, slice_off, slice_off + c->slice_size);
  if (lookup (c, host_off, skip, buf, len, span.scan)) {
    pthread_mutex_unlock (&c->loads.lock);
    return 0;
  }
  begin_load_locked (c, &load);
  pthread_mutex_unlock (&c->loads.lock);

  r = do_load (c, io, &load, span.behind + skip, buf, len, err);
  if (!end_load (c, &load) && r == 0)
    return 1;
  return r;
}

int
q2_cache_read (struct q2_cache *c, const struct q2_io *io, uint64_t host_off,
               size_t skip, void *buf, size_t len, struct q2_cache_span span,
               struct qcow2_error *err)
{
  int r;

  assert (span.ahead >= c->slice_size && span.behind <= host_off - skip);
  assert (span.behind + span.ahead <= Q2_CACHE_MAX_LOAD);
  do {
    if (lookup (c, host_off, skip, buf, len, span.scan))
      return 0;
    r = read_missing (c, io, host_off, skip, buf, len, span, err);
  } while (r == 1);
  return r;
}

void
q2_cache_preload (struct q2_cache *c, const struct q2_io *io,
                  uint64_t host_off, size_t len, bool scan)
{
  struct load load = {
    .start = host_off, .end = host_off + len, .scan = scan
  };
  struct qcow2_error ignored;
  bool busy;

  assert (len > 0 && len <= Q2_CACHE_MAX_LOAD && len % c->slice_size == 0);
  pthread_mutex_lock (&c->loads.lock);
  /* Somebody may have loaded it since the caller looked. */
  busy = find_load_locked (c, load.start, load.end) != NULL ||
    q2_cache_contains (c, host_off);
  if (!busy)
    begin_load_locked (c, &load);
  pthread_mutex_unlock (&c->loads.lock);
  if (busy)
    return;
  if (do_load (c, io, &load, 0, NULL, 0, &ignored) == -1) {
    /* The readers who waited will try for themselves. */
  }
  end_load (c, &load);
}

bool
q2_cache_contains (struct q2_cache *c, uint64_t host_off)
{
  const uint64_t h = hash (c, host_off);
  struct shard *const shard = shard_of (c, h);
  bool found;

  pthread_mutex_lock (&shard->lock);
  found = find_locked (c, shard, h, host_off) != NO_SLOT;
  pthread_mutex_unlock (&shard->lock);
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
    pthread_mutex_lock (&c->shards[i].lock);
    hits += c->shards[i].hits;
    pthread_mutex_unlock (&c->shards[i].lock);
  }
  pthread_mutex_lock (&c->loads.lock);
  *ret_misses = c->loads.misses;
  pthread_mutex_unlock (&c->loads.lock);
  *ret_hits = hits;
}

/* ---- Changing slices ---------------------------------------------------- */

static size_t
nr_dirty (const struct q2_cache *c)
{
  return atomic_load_explicit (&c->dirty.nr, memory_order_relaxed);
}

/* Remember a slot that is dirty now. */
static void
note_dirty (struct q2_cache *c, uint64_t host_off)
{
  const size_t nr = nr_dirty (c);

  assert (nr < q2_cache_capacity (c));
  c->dirty.host_off[nr] = host_off;
  atomic_store_explicit (&c->dirty.nr, nr + 1, memory_order_relaxed);
}

static void
make_dirty_locked (struct q2_cache *c, struct slot *slot)
{
  if (slot->dirty)
    return;
  slot->dirty = true;
  note_dirty (c, slot->host_off);
}

bool
q2_cache_update (struct q2_cache *c, uint64_t host_off, size_t skip,
                 const void *bytes, size_t len)
{
  const uint64_t slice_off = host_off - skip;
  const uint64_t h = hash (c, slice_off);
  struct shard *const shard = shard_of (c, h);
  uint32_t i;

  assert (skip + len <= c->slice_size);
  pthread_mutex_lock (&shard->lock);
  i = find_locked (c, shard, h, slice_off);
  if (i != NO_SLOT) {
    memcpy (shard->bytes + i * c->slice_size + skip, bytes, len);
    shard->slots[i].used = true;
    make_dirty_locked (c, &shard->slots[i]);
  }
  pthread_mutex_unlock (&shard->lock);
  return i != NO_SLOT;
}

bool
q2_cache_insert (struct q2_cache *c, uint64_t host_off, const void *bytes,
                 bool dirty)
{
  const uint64_t h = hash (c, host_off);
  struct shard *const shard = shard_of (c, h);
  uint32_t i;

  pthread_mutex_lock (&shard->lock);
  i = insert_locked (c, shard, h, host_off, bytes, false);
  if (i != NO_SLOT && dirty)
    make_dirty_locked (c, &shard->slots[i]);
  pthread_mutex_unlock (&shard->lock);
  return i != NO_SLOT;
}

static void
spoil_loads (struct q2_cache *c)
{
  pthread_mutex_lock (&c->loads.lock);
  for (struct load *l = c->loads.first; l != NULL; l = l->next)
    l->spoiled = true;
  pthread_mutex_unlock (&c->loads.lock);
}

void
q2_cache_drop (struct q2_cache *c, uint64_t host_off, uint64_t len)
{
  spoil_loads (c);
  for (uint64_t off = host_off; off < host_off + len; off += c->slice_size) {
    const uint64_t h = hash (c, off);
    struct shard *const shard = shard_of (c, h);
    uint32_t i;

    pthread_mutex_lock (&shard->lock);
    i = find_locked (c, shard, h, off);
    if (i != NO_SLOT) {
      assert (may_go (&shard->slots[i]));
      unlink_locked (c, shard, i);
    }
    pthread_mutex_unlock (&shard->lock);
  }
}

void
q2_cache_clear (struct q2_cache *c)
{
  spoil_loads (c);
  for (uint32_t i = 0; i < c->nr_shards; ++i) {
    struct shard *const shard = &c->shards[i];

    pthread_mutex_lock (&shard->lock);
    for (uint32_t n = 0; n < c->nr_slots; ++n)
      if (shard->slots[n].host_off != EMPTY && may_go (&shard->slots[n]))
        unlink_locked (c, shard, n);
    pthread_mutex_unlock (&shard->lock);
  }
}

size_t
q2_cache_nr_dirty (const struct q2_cache *c)
{
  return nr_dirty (c);
}

size_t
q2_cache_room (const struct q2_cache *c)
{
  /* A slot may be both, and is counted twice then: never too much room. */
  const size_t busy = nr_dirty (c) +
    atomic_load_explicit (&c->dirty.nr_writing, memory_order_relaxed);
  const size_t all = q2_cache_capacity (c);

  return busy < all ? all - busy : 0;
}

static int
compare_offsets (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

static void
gather_slice (struct q2_cache *c, uint64_t host_off, unsigned char *out)
{
  const uint64_t h = hash (c, host_off);
  struct shard *const shard = shard_of (c, h);
  uint32_t i;

  pthread_mutex_lock (&shard->lock);
  i = find_locked (c, shard, h, host_off);
  assert (i != NO_SLOT && shard->slots[i].dirty);
  memcpy (out, shard->bytes + i * c->slice_size, c->slice_size);
  shard->slots[i].dirty = false;
  shard->slots[i].writing = true;
  pthread_mutex_unlock (&shard->lock);
}

int
q2_cache_gather (struct q2_cache *c, struct q2_dirty *d,
                 struct qcow2_error *err)
{
  *d = (struct q2_dirty) { .nr = nr_dirty (c) };
  if (d->nr == 0)
    return 0;
  d->host_off = malloc (d->nr * sizeof *d->host_off);
  d->bytes = malloc (d->nr * c->slice_size);
  if (d->host_off == NULL || d->bytes == NULL) {
    free (d->host_off);
    free (d->bytes);
    *d = (struct q2_dirty) { .nr = 0 };
    return q2_fail_nomem (err, "writing tables");
  }
  memcpy (d->host_off, c->dirty.host_off, d->nr * sizeof *d->host_off);
  qsort (d->host_off, d->nr, sizeof *d->host_off, compare_offsets);
  for (size_t i = 0; i < d->nr; ++i)
    gather_slice (c, d->host_off[i], d->bytes + i * c->slice_size);
  atomic_store_explicit (&c->dirty.nr, 0, memory_order_relaxed);
  atomic_store_explicit (&c->dirty.nr_writing, d->nr, memory_order_relaxed);
  return 0;
}

int
q2_dirty_write (const struct q2_dirty *d, size_t unit, uint64_t host_end,
                const struct q2_io *io, enum qcow2_io_class class,
                struct qcow2_error *err)
{
  for (size_t i = 0, n; i < d->nr; i += n) {
    uint64_t end;

    for (n = 1; i + n < d->nr &&
           d->host_off[i + n] == d->host_off[i] + n * unit; ++n)
      ;
    end = q2_min (d->host_off[i] + n * unit, host_end);
    if (q2_io_write (io, d->bytes + i * unit, end - d->host_off[i],
                     d->host_off[i], class, err) == -1)
      return -1;
  }
  return 0;
}

static void
end_slice (struct q2_cache *c, uint64_t host_off, bool written)
{
  const uint64_t h = hash (c, host_off);
  struct shard *const shard = shard_of (c, h);
  uint32_t i;

  pthread_mutex_lock (&shard->lock);
  i = find_locked (c, shard, h, host_off);
  assert (i != NO_SLOT && shard->slots[i].writing);
  shard->slots[i].writing = false;
  if (!written)
    make_dirty_locked (c, &shard->slots[i]);
  pthread_mutex_unlock (&shard->lock);
}

void
q2_cache_end_gather (struct q2_cache *c, struct q2_dirty *d, bool written)
{
  /* Before any of them can be evicted. */
  spoil_loads (c);
  for (size_t i = 0; i < d->nr; ++i)
    end_slice (c, d->host_off[i], written);
  atomic_store_explicit (&c->dirty.nr_writing, 0, memory_order_relaxed);
  free (d->host_off);
  free (d->bytes);
  *d = (struct q2_dirty) { .nr = 0 };
}
