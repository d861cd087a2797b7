/* SPDX-License-Identifier: BSD-3-Clause */
/* changes.c - slices of the table cache that change.
 *
 * Owns      the list of changed slices, and their way to the file.
 * Method    a changed slice is dirty until it is gathered, and being written
 *           until that has ended; neither is evicted.  A load that was in
 *           flight then may have read what the file held before, and slices
 *           it brings may have been changed, written and evicted meanwhile:
 *           so the end of a gathering spoils the loads in flight that touch
 *           one of its slices.  They keep nothing, and who needs a slice of
 *           them reads that alone: which is spoiled again only if it was all
 *           of that in the meantime.
 * Locks     the list is guarded by a lock of those who change slices; slots
 *           and bytes by shard.lock, loads by loads.lock, as in cache.c.
 */
#include "config.h"

#include "meta/cache_impl.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

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

  if (!q2_check (nr < q2_cache_capacity (c)))
    return;
  c->dirty.host_off[nr] = host_off;
  atomic_store_explicit (&c->dirty.nr, nr + 1, memory_order_relaxed);
}

static void
make_dirty_locked (struct q2_cache *c, struct q2_slot *slot)
{
  if (slot->dirty)
    return;
  slot->dirty = true;
  note_dirty (c, slot->host_off);
}

/* Is there room for the slice on the medium, for sure?  There was, if it has
 * ever been changed, or holds anything.
 */
static bool
is_solid_locked (const struct q2_cache *c, const struct q2_shard *shard,
                 uint32_t i)
{
  struct q2_slot *const slot = &shard->slots[i];
  const unsigned char *const bytes = shard->bytes + i * c->slice_size;

  q2_mutex_check_held (&shard->lock);
  if (!slot->solid)
    slot->solid = slot->dirty || slot->writing ||
      !q2_all_are (bytes, 0, c->slice_size);
  return slot->solid;
}

bool
q2_cache_is_hollow (struct q2_cache *c, uint64_t slice_off)
{
  struct q2_shard *shard;
  const uint32_t i = q2_cache_lock_slice (c, slice_off, &shard);
  const bool hollow = i != Q2_NO_SLOT && !is_solid_locked (c, shard, i);

  q2_mutex_unlock (&shard->lock);
  return hollow;
}

void
q2_cache_set_solid (struct q2_cache *c, uint64_t slice_off)
{
  struct q2_shard *shard;
  const uint32_t i = q2_cache_lock_slice (c, slice_off, &shard);

  if (i != Q2_NO_SLOT)
    shard->slots[i].solid = true;
  q2_mutex_unlock (&shard->lock);
}

static void
replace_locked (const struct q2_cache *c, struct q2_shard *shard, uint32_t i,
                size_t skip, const void *bytes, size_t len)
{
  memcpy (shard->bytes + i * c->slice_size + skip, bytes, len);
  shard->slots[i].used = shard->slots[i].recent = true;
}

bool
q2_cache_update (struct q2_cache *c, uint64_t host_off, size_t skip,
                 const void *bytes, size_t len)
{
  struct q2_shard *shard;
  const uint32_t i = q2_cache_lock_slice (c, host_off - skip, &shard);
  const bool ok = q2_check (skip + len <= c->slice_size) &&
    i != Q2_NO_SLOT && is_solid_locked (c, shard, i);

  if (ok) {
    replace_locked (c, shard, i, skip, bytes, len);
    make_dirty_locked (c, &shard->slots[i]);
  }
  q2_mutex_unlock (&shard->lock);
  return ok;
}

bool
q2_cache_touch (struct q2_cache *c, uint64_t slice_off)
{
  struct q2_shard *shard;
  const uint32_t i = q2_cache_lock_slice (c, slice_off, &shard);
  const bool ok = i != Q2_NO_SLOT && is_solid_locked (c, shard, i);

  if (ok)
    make_dirty_locked (c, &shard->slots[i]);
  q2_mutex_unlock (&shard->lock);
  return ok;
}

bool
q2_cache_pin (struct q2_cache *c, uint64_t slice_off, bool pinned)
{
  struct q2_shard *shard;
  const uint32_t i = q2_cache_lock_slice (c, slice_off, &shard);
  const bool ok = i != Q2_NO_SLOT;

  if (ok && shard->slots[i].pinned != pinned) {
    shard->slots[i].pinned = pinned;
    if (pinned)
      atomic_fetch_add (&c->dirty.nr_pinned, 1);
    else
      atomic_fetch_sub (&c->dirty.nr_pinned, 1);
  }
  q2_mutex_unlock (&shard->lock);
  return ok;
}

bool
q2_cache_update_pinned (struct q2_cache *c, uint64_t host_off, size_t skip,
                        const void *bytes, size_t len)
{
  struct q2_shard *shard;
  const uint32_t i = q2_cache_lock_slice (c, host_off - skip, &shard);
  const bool ok = q2_check (skip + len <= c->slice_size) &&
    i != Q2_NO_SLOT && shard->slots[i].pinned;

  if (ok)
    replace_locked (c, shard, i, skip, bytes, len);
  q2_mutex_unlock (&shard->lock);
  return ok;
}

bool
q2_cache_insert (struct q2_cache *c, uint64_t host_off, const void *bytes,
                 bool dirty)
{
  struct q2_shard *shard;
  const uint32_t i =
    q2_cache_lock_or_insert (c, host_off, bytes, false, &shard);

  if (i != Q2_NO_SLOT && dirty)
    make_dirty_locked (c, &shard->slots[i]);
  q2_mutex_unlock (&shard->lock);
  return i != Q2_NO_SLOT;
}

/* What is being read of [start, end) may be out of date. */
static void
spoil_loads_locked (struct q2_cache *c, uint64_t start, uint64_t end)
{
  for (struct q2_load *l = c->loads.first; l != NULL; l = l->next)
    if (l->start < end && start < l->end)
      l->spoiled = true;
}

static void
spoil_loads (struct q2_cache *c, uint64_t start, uint64_t end)
{
  q2_mutex_lock (&c->loads.lock);
  spoil_loads_locked (c, start, end);
  q2_mutex_unlock (&c->loads.lock);
}

void
q2_cache_drop (struct q2_cache *c, uint64_t host_off, uint64_t len)
{
  spoil_loads (c, host_off, host_off + len);
  for (uint64_t off = host_off; off < host_off + len; off += c->slice_size) {
    struct q2_shard *shard;
    const uint32_t i = q2_cache_lock_slice (c, off, &shard);

    if (i != Q2_NO_SLOT && q2_check (q2_cache_may_go (&shard->slots[i])))
      q2_cache_unlink_locked (c, shard, i);
    q2_mutex_unlock (&shard->lock);
  }
}

void
q2_cache_clear (struct q2_cache *c)
{
  spoil_loads (c, 0, UINT64_MAX);
  for (uint32_t i = 0; i < c->nr_shards; ++i) {
    struct q2_shard *const shard = &c->shards[i];

    q2_mutex_lock (&shard->lock);
    for (uint32_t n = 0; n < c->nr_slots; ++n)
      if (shard->slots[n].host_off != Q2_EMPTY_SLOT &&
          q2_cache_may_go (&shard->slots[n]))
        q2_cache_unlink_locked (c, shard, n);
    q2_mutex_unlock (&shard->lock);
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
  /* A slot may be several, and is counted as often: never too much room. */
  const size_t busy = nr_dirty (c) +
    atomic_load_explicit (&c->dirty.nr_writing, memory_order_relaxed) +
    atomic_load_explicit (&c->dirty.nr_pinned, memory_order_relaxed);
  const size_t all = q2_cache_capacity (c);

  return busy < all ? all - busy : 0;
}

int
q2_dirty_init (struct q2_dirty *d, size_t nr, size_t unit,
               struct qcow2_error *err)
{
  *d = (struct q2_dirty) { .nr = 0 };
  if (nr == 0)
    return 0;
  d->size = nr * unit;
  d->host_off = malloc (nr * sizeof *d->host_off);
  d->bytes = q2_buffer_alloc (d->size);
  if (d->host_off != NULL && d->bytes != NULL)
    return 0;
  q2_dirty_destroy (d);
  return q2_fail_nomem (err, "writing tables");
}

void
q2_dirty_destroy (struct q2_dirty *d)
{
  free (d->host_off);
  q2_buffer_free (d->bytes, d->size);
  *d = (struct q2_dirty) { .nr = 0 };
}

static int
compare_offsets (const void *a, const void *b)
{
  const uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

  return x < y ? -1 : x > y;
}

static bool
gather_slice (struct q2_cache *c, uint64_t host_off, unsigned char *out)
{
  struct q2_shard *shard;
  const uint32_t i = q2_cache_lock_slice (c, host_off, &shard);
  const bool ok = i != Q2_NO_SLOT && shard->slots[i].dirty;

  if (ok) {
    memcpy (out, shard->bytes + i * c->slice_size, c->slice_size);
    shard->slots[i].dirty = false;
    shard->slots[i].writing = true;
  }
  q2_mutex_unlock (&shard->lock);
  return ok;
}

int
q2_cache_gather (struct q2_cache *c, struct q2_dirty *d,
                 struct qcow2_error *err)
{
  const size_t nr = nr_dirty (c);

  if (q2_dirty_init (d, nr, c->slice_size, err) == -1)
    return -1;
  if (nr == 0)
    return 0;
  d->nr = nr;
  memcpy (d->host_off, c->dirty.host_off, d->nr * sizeof *d->host_off);
  qsort (d->host_off, d->nr, sizeof *d->host_off, compare_offsets);
  for (size_t i = 0; i < d->nr; ++i) {
    const bool gathered =
      gather_slice (c, d->host_off[i], d->bytes + i * c->slice_size);

    /* After this error there will be no other commit. */
    if (!q2_assume (gathered, err)) {
      q2_dirty_destroy (d);
      return -1;
    }
  }
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
  struct q2_shard *shard;
  const uint32_t i = q2_cache_lock_slice (c, host_off, &shard);

  if (q2_check (i != Q2_NO_SLOT && shard->slots[i].writing)) {
    shard->slots[i].writing = false;
    if (!written)
      make_dirty_locked (c, &shard->slots[i]);
  }
  q2_mutex_unlock (&shard->lock);
}

void
q2_cache_end_gather (struct q2_cache *c, struct q2_dirty *d, bool written)
{
  /* Before any of them can be evicted. */
  q2_mutex_lock (&c->loads.lock);
  for (size_t i = 0; c->loads.first != NULL && i < d->nr; ++i)
    spoil_loads_locked (c, d->host_off[i], d->host_off[i] + c->slice_size);
  q2_mutex_unlock (&c->loads.lock);
  for (size_t i = 0; i < d->nr; ++i)
    end_slice (c, d->host_off[i], written);
  atomic_store_explicit (&c->dirty.nr_writing, 0, memory_order_relaxed);
  q2_dirty_destroy (d);
}
