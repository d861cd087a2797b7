/* SPDX-License-Identifier: BSD-3-Clause */
/* sweep.c - gives back the memory of tables that nobody has used for a while.
 *
 * Owns      nothing.
 * Method    a sweep looks at each cache once.  A slice that has not been used
 *           since the sweep before is forgotten, unless it is to be written;
 *           pages of the cache that have no slice, or no more, go back to the
 *           system.
 * Locks     shard.lock, for some slots at a time.
 */
#include "config.h"

#include "meta/cache_impl.h"

#include "qcow2.h"

#include "base/bits.h"

#include <sys/mman.h>
#include <unistd.h>

/* Slots at once: who reads tables waits for so many. */
#define AT_ONCE 256u

/* The slots [from, to) are empty.  Their bytes are anything afterwards. */
static void
give_back (const struct q2_cache *c, const struct q2_shard *shard,
           uint32_t from, uint32_t to)
{
  const uintptr_t page = (uintptr_t) sysconf (_SC_PAGESIZE);
  const uintptr_t bytes = (uintptr_t) shard->bytes;
  const uintptr_t start =
    (bytes + from * c->slice_size + page - 1) / page * page;
  const uintptr_t end = (bytes + to * c->slice_size) / page * page;

  /* If it fails the memory is used again later, and that is all. */
  if (start < end)
    (void) madvise ((void *) start, end - start, MADV_DONTNEED);
}

/* Whether the slot is empty now. */
static bool
sweep_slot (const struct q2_cache *c, struct q2_shard *shard, uint32_t i)
{
  struct q2_slot *const slot = &shard->slots[i];

  if (slot->host_off == Q2_EMPTY_SLOT)
    return true;
  if (slot->recent || !q2_cache_may_go (slot)) {
    slot->recent = false;
    return false;
  }
  q2_cache_unlink_locked (c, shard, i);
  return true;
}

/* Slots [i, end), which nobody uses meanwhile; the pages of those that are
 * empty go back, also if others have emptied them.
 */
static void
sweep_slots_locked (const struct q2_cache *c, struct q2_shard *shard,
                    uint32_t i, uint32_t end)
{
  uint32_t from = i;            /* of the empty slots in front of this one */

  q2_mutex_check_held (&shard->lock);
  for (; i < end; ++i) {
    if (sweep_slot (c, shard, i))
      continue;
    give_back (c, shard, from, i);
    from = i + 1;
  }
  give_back (c, shard, from, end);
}

static void
sweep_shard (const struct q2_cache *c, struct q2_shard *shard)
{
  for (uint32_t i = 0; i < c->nr_slots; i += AT_ONCE) {
    q2_mutex_lock (&shard->lock);
    sweep_slots_locked (c, shard, i, (uint32_t) q2_min (c->nr_slots - i,
                                                        AT_ONCE) + i);
    q2_mutex_unlock (&shard->lock);
  }
}

static void
sweep (struct q2_cache *c)
{
  for (uint32_t i = 0; i < c->nr_shards; ++i)
    sweep_shard (c, &c->shards[i]);
}

void
qcow2_forget_unused_tables (void)
{
  q2_cache_visit_all (sweep);
}
