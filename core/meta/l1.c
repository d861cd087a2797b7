/* SPDX-License-Identifier: BSD-3-Clause */
/* l1.c - residency of the L1 table.
 *
 * Owns      the L1 table, whole in memory (at most 32 MiB, and no more than
 *           the file holds of it).
 * Method    holes of a large table are not read, and take no memory.
 *           Changed entries are written a sector of the table at a time.
 *           When the disk grows the entries are copied to a longer array.  The
 *           old one is kept, since there are readers: it has at most half of
 *           the room, so all of them together take no more than the last.
 * Locks     entries are read without a lock, by atomic loads; those who
 *           change entries hold a lock of theirs.
 */
#include "config.h"

#include "meta/l1.h"

#include "base/assume.h"
#include "base/be.h"
#include "base/bits.h"
#include "base/budget.h"
#include "base/cleanup.h"
#include "base/error.h"
#include "format/geometry.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Entries of a sector, which are written at once. */
#define SECTOR 64

/* Larger tables are asked for holes first: that costs a request, and a
 * small file can claim many of them.
 */
#define ASK_FOR_HOLES (UINT64_C (512) << 10)
#define PAGE UINT64_C (4096)

struct old_entries {
  struct old_entries *next;
  uint64_t *entries;
};

struct q2_l1 {
  _Atomic (uint64_t *) entries; /* in CPU byte order; atomic */
  _Atomic uint32_t nr;          /* never falls */
  uint32_t capacity;            /* so many there can be */
  uint32_t own;                 /* of them: those of the disk */
  uint32_t stored;              /* of these: are in the file */
  struct old_entries *old;
  uint64_t host_off;
  bool *dirty;                  /* by sector of the table */
  bool *solid;                  /* the same: the host has room for it */
  size_t nr_dirty;
  struct qcow2_budget *budget;  /* or NULL */
  uint64_t charge;              /* taken from it */
};

/* Entries [from, to), which are in the file, perhaps but for a part of the
 * last one.
 */
static int
read_entries (struct q2_l1 *l1, const struct q2_io *io, uint64_t *entries,
              uint64_t from, uint64_t to, struct qcow2_error *err)
{
  const uint64_t bytes = (to - from) * 8;
  const uint64_t charge =
    bytes < PAGE ? bytes : q2_align_up (bytes, PAGE) + PAGE;

  if (q2_budget_take (l1->budget, charge, "an L1 table", err) == -1)
    return -1;
  l1->charge += charge;
  if (q2_io_read (io, entries + from, bytes, l1->host_off + from * 8,
                  QCOW2_IO_L1, err) == -1)
    return -1;
  for (uint64_t i = from; i < to; ++i)
    entries[i] = load_be64 (&entries[i]);
  return 0;
}

/* Read the table into 'entries', which are all zeros and take no memory where
 * nothing is read: where the file has none of it, and its holes.
 */
static int
read_table (struct q2_l1 *l1, const struct q2_io *io, uint64_t *entries,
            struct qcow2_error *err)
{
  const uint64_t bytes = (uint64_t) l1->stored * 8;
  const uint64_t size = q2_io_size (io);
  const uint64_t at = l1->host_off;
  const uint64_t inside = at < size
    ? q2_min (bytes, q2_align_up (size - at, 8)) : 0;
  uint64_t done = 0;

  if (inside < ASK_FOR_HOLES)
    return read_entries (l1, io, entries, 0, inside / 8, err);
  while (done < inside) {
    uint64_t start, end;

    q2_io_next_data (io, at + done, at + inside, &start, &end);
    done = q2_min (q2_align_up (end - at, 8), inside);
    if (read_entries (l1, io, entries, (start - at) / 8, done / 8,
                      err) == -1)
      return -1;
  }
  return 0;
}

struct q2_l1 *
q2_l1_new (const struct q2_io *io, uint64_t host_off, uint32_t entries,
           uint32_t stored, struct qcow2_error *err)
{
  struct q2_l1 *l1;
  uint64_t *table;

  if (!q2_assume (stored <= entries, err))
    return NULL;
  l1 = calloc (1, sizeof *l1);
  if (l1 == NULL) {
    q2_fail_nomem (err, "the L1 table");
    return NULL;
  }
  l1->budget = q2_io_budget (io);
  l1->nr = l1->capacity = l1->own = entries;
  l1->stored = stored;
  l1->host_off = host_off;
  l1->dirty = calloc (entries / SECTOR + 1, sizeof (bool));
  l1->solid = calloc (entries / SECTOR + 1, sizeof (bool));
  /* calloc, and only reading what the file has, keeps a table that a
   * hostile header declares from taking memory.
   */
  l1->entries = table = calloc ((size_t) entries + 1, 8);
  if (l1->dirty == NULL || l1->solid == NULL || table == NULL)
    q2_fail_nomem (err, "the L1 table");
  else if (read_table (l1, io, table, err) == 0)
    return l1;
  q2_l1_free (l1);
  return NULL;
}

void
q2_l1_free (struct q2_l1 *l1)
{
  if (l1 == NULL)
    return;
  q2_budget_give (l1->budget, l1->charge);
  while (l1->old != NULL) {
    struct old_entries *const old = l1->old;

    l1->old = old->next;
    free (old->entries);
    free (old);
  }
  free (l1->entries);
  free (l1->dirty);
  free (l1->solid);
  free (l1);
}

/* Explicitly: GCC 12 makes no atomic load of "l1->entries[index]". */
static uint64_t *
entries_of (const struct q2_l1 *l1)
{
  return atomic_load (&l1->entries);
}

uint64_t
q2_l1_entry (const struct q2_l1 *l1, uint64_t index)
{
  if (!q2_check (index < l1->nr))
    return 0;
  return __atomic_load_n (entries_of (l1) + index, __ATOMIC_ACQUIRE);
}

void
q2_l1_set (struct q2_l1 *l1, uint64_t index, uint64_t entry)
{
  bool *dirty;

  if (!q2_check (index < l1->nr))
    return;
  __atomic_store_n (entries_of (l1) + index, entry, __ATOMIC_RELEASE);
  dirty = &l1->dirty[index / SECTOR];
  l1->nr_dirty += !*dirty;
  *dirty = true;
}

uint32_t
q2_l1_nr (const struct q2_l1 *l1)
{
  return l1->nr;
}

/* ---- A disk that grows ------------------------------------------------ */

/* Copies of the entries and of what is known of the sectors, with more room.
 */
static int
make_room (struct q2_l1 *l1, uint32_t capacity, struct qcow2_error *err)
{
  struct old_entries *const old = calloc (1, sizeof *old);
  uint64_t *const entries = calloc ((size_t) capacity + 1, 8);
  bool *const dirty = calloc (capacity / SECTOR + 1, sizeof (bool));
  bool *const solid = calloc (capacity / SECTOR + 1, sizeof (bool));

  if (old == NULL || entries == NULL || dirty == NULL || solid == NULL) {
    free (old);
    free (entries);
    free (dirty);
    free (solid);
    return q2_fail_nomem (err, "the L1 table");
  }
  memcpy (entries, l1->entries, (size_t) l1->nr * 8);
  memcpy (solid, l1->solid, l1->capacity / SECTOR + 1);
  free (l1->dirty);
  free (l1->solid);
  *old = (struct old_entries) { l1->old, l1->entries };
  l1->old = old;
  l1->dirty = dirty;
  l1->solid = solid;
  l1->capacity = capacity;
  l1->entries = entries;
  return 0;
}

int
q2_l1_place (struct q2_l1 *l1, uint64_t host_off, uint32_t entries,
             struct qcow2_error *err)
{
  const uint64_t most = Q2_MAX_L1_BYTES / 8;
  const uint64_t doubled = q2_min (2 * (uint64_t) l1->capacity, most);

  if (!q2_assume (l1->nr_dirty == 0 && entries <= most, err) ||
      (entries > l1->capacity &&
       make_room (l1, (uint32_t) q2_max (entries, doubled), err) == -1))
    return -1;
  if (host_off != l1->host_off)
    memset (l1->solid, 0, l1->capacity / SECTOR + 1);
  l1->host_off = host_off;
  l1->own = l1->stored = entries;
  if (l1->nr < entries)
    l1->nr = entries;
  return 0;
}

/* ---- Room in the file ------------------------------------------------- */

/* A sector with any entry is in the file, or has been made solid for that. */
static bool
is_sector_empty (const struct q2_l1 *l1, uint64_t first, uint64_t end)
{
  while (first < end &&
         __atomic_load_n (entries_of (l1) + first, __ATOMIC_RELAXED) == 0)
    ++first;
  return first == end;
}

int
q2_l1_make_solid (struct q2_l1 *l1, const struct q2_io *io, uint64_t index,
                  struct qcow2_error *err)
{
  const uint64_t first = q2_align_down (index, SECTOR);
  const uint64_t end = q2_min (first + SECTOR, l1->own);
  bool *solid;

  if (!q2_assume (index < l1->own, err))
    return -1;
  solid = &l1->solid[index / SECTOR];
  if (*solid)
    return 0;
  if (is_sector_empty (l1, first, end) &&
      q2_io_write_zeros (io, (end - first) * 8, l1->host_off + first * 8,
                         QCOW2_IO_L1, err) == -1)
    return -1;
  *solid = true;
  return 0;
}

int
q2_l1_reload (struct q2_l1 *l1, const struct q2_io *io,
              struct qcow2_error *err)
{
  Q2_CLEANUP_FREE uint64_t *entries = calloc ((size_t) l1->nr + 1, 8);

  if (entries == NULL)
    return q2_fail_nomem (err, "the L1 table");
  q2_budget_give (l1->budget, l1->charge);
  l1->charge = 0;
  if (read_table (l1, io, entries, err) == -1)
    return -1;
  for (uint32_t i = 0; i < l1->nr; ++i)
    __atomic_store_n (entries_of (l1) + i, entries[i], __ATOMIC_RELEASE);
  return 0;
}

size_t
q2_l1_nr_dirty (const struct q2_l1 *l1)
{
  return l1->nr_dirty;
}

/* ---- Commits ---------------------------------------------------------- */

/* The copies are 0-filled at the end of the table. */
int
q2_l1_gather (struct q2_l1 *l1, struct q2_dirty *d, struct qcow2_error *err)
{
  const size_t unit = SECTOR * 8;

  if (q2_dirty_init (d, l1->nr_dirty, unit, err) == -1)
    return -1;
  if (l1->nr_dirty == 0)
    return 0;
  memset (d->bytes, 0, d->size);
  for (uint32_t s = 0; s * SECTOR < l1->nr; ++s) {
    if (!l1->dirty[s])
      continue;
    for (uint32_t i = s * SECTOR; i < (s + 1) * SECTOR && i < l1->nr; ++i)
      store_be64 (d->bytes + d->nr * unit + (i % SECTOR) * 8,
                  entries_of (l1)[i]);
    d->host_off[d->nr++] = l1->host_off + s * unit;
    l1->dirty[s] = false;
  }
  l1->nr_dirty = 0;
  return 0;
}

int
q2_l1_write (const struct q2_l1 *l1, const struct q2_dirty *d,
             const struct q2_io *io, struct qcow2_error *err)
{
  /* What is behind the entries of the disk belongs to saved VM states. */
  return q2_dirty_write (d, SECTOR * 8,
                         l1->host_off + (uint64_t) l1->own * 8, io,
                         QCOW2_IO_L1, err);
}

void
q2_l1_end_gather (struct q2_l1 *l1, struct q2_dirty *d, bool written)
{
  for (size_t i = 0; !written && i < d->nr; ++i) {
    bool *const dirty =
      &l1->dirty[(d->host_off[i] - l1->host_off) / (SECTOR * 8)];

    l1->nr_dirty += !*dirty;
    *dirty = true;
  }
  q2_dirty_destroy (d);
}
