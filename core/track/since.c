/* SPDX-License-Identifier: BSD-3-Clause */
/* since.c - what has changed since a moment, in memory.
 *
 * Owns      the bits, one for each granule of the disk.
 * Method    bits are atomics; see since.h for who needs them.
 * Locks     none.
 */
#include "config.h"

#include "track/since.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/error.h"
#include "track/tracked.h"

#include <stdlib.h>

#define MAX_BYTES (UINT64_C (4) << 20)

struct q2_since *
q2_since_new (const struct q2_geometry *geo, unsigned granularity_bits,
              struct qcow2_budget *budget, struct qcow2_error *err)
{
  struct q2_since s = { .like.granularity_bits = granularity_bits };
  struct q2_since *since;

  while ((s.nr_bits = q2_bitmap_nr_bits (geo, &s.like)) > MAX_BYTES * 8)
    s.like.granularity_bits++;
  s.like.table_entries = (uint32_t) q2_bitmap_nr_entries (geo, &s.like);
  s.len = q2_align_up (q2_ceil_shift (s.nr_bits, 3), 8);
  s.charge = sizeof s + s.len + s.len / Q2_SINCE_BLOCK + 1;
  if (q2_budget_take (budget, s.charge, "what changes meanwhile", err) == -1)
    return NULL;
  s.budget = budget;
  since = malloc (sizeof s);
  s.bits = calloc (s.len + 1, 1);
  s.blocks = calloc (s.len / Q2_SINCE_BLOCK + 1, 1);
  if (since == NULL || s.bits == NULL || s.blocks == NULL) {
    q2_budget_give (budget, s.charge);
    free ((void *) s.bits);
    free ((void *) s.blocks);
    free (since);
    q2_fail_nomem (err, "what changes meanwhile");
    return NULL;
  }
  *since = s;
  return since;
}

void
q2_since_free (struct q2_since *s)
{
  if (s == NULL)
    return;
  q2_budget_give (s->budget, s->charge);
  free ((void *) s->bits);
  free ((void *) s->blocks);
  free (s);
}

void
q2_since_note (struct q2_since *s, uint64_t count, uint64_t guest_off)
{
  const uint64_t first = guest_off >> s->like.granularity_bits;
  uint64_t end;

  if (count == 0)
    return;
  end = ((guest_off + count - 1) >> s->like.granularity_bits) + 1;
  end = q2_min (end, s->nr_bits);
  if (first >= end)             /* the disk has become larger */
    return;
  for (uint64_t byte = first / 8; byte <= (end - 1) / 8; ++byte) {
    const unsigned mask = q2_bits_in_byte (byte, first, end);

    if ((s->bits[byte] & mask) != mask) {
      atomic_fetch_or (&s->bits[byte], (unsigned char) mask);
      s->blocks[byte / Q2_SINCE_BLOCK] = 1;
    }
  }
  atomic_store_explicit (&s->any, true, memory_order_relaxed);
}
