/* SPDX-License-Identifier: BSD-3-Clause */
/* overlap.c - which clusters of the file are metadata.
 *
 * Owns      the set.
 * Method    a hash table with open addressing, at most half full; an entry
 *           is the number of the cluster and its class in one word.  Taking
 *           one out leaves a mark that it was there.
 * Locks     overlap.lock.
 */
#include "config.h"

#include "meta/overlap.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/lock.h"

#include <inttypes.h>
#include <stdlib.h>

#define FIRST_BITS 8
#define CLASS_BITS 4
#define CLASS_MASK ((UINT64_C (1) << CLASS_BITS) - 1)

struct q2_overlap {
  struct qcow2_budget *budget;  /* or NULL; has all of 'slots' */
  unsigned cluster_bits;
  struct q2_rwlock lock;
  uint64_t *slots;              /* cluster << CLASS_BITS | class; 0: empty */
  unsigned bits;                /* log2 of their number */
  uint64_t used;                /* including those taken out */
};

static const char *
class_name (enum q2_meta_class class)
{
  switch (class) {
  case Q2_META_NONE:            return "guest data";
  case Q2_META_HEADER:          return "the header";
  case Q2_META_L1:              return "the L1 table";
  case Q2_META_L2:              return "an L2 table";
  case Q2_META_REFCOUNT_TABLE:  return "the refcount table";
  case Q2_META_REFCOUNT_BLOCK:  return "a refcount block";
  case Q2_META_SNAPSHOT_TABLE:  return "the snapshot table";
  case Q2_META_INACTIVE_L1:     return "the L1 table of a snapshot";
  case Q2_META_INACTIVE_L2:     return "an L2 table of a snapshot";
  case Q2_META_SHARED_L2:       return "a shared L2 table";
  case Q2_META_ENCRYPTION_HEADER: return "the encryption header";
  case Q2_META_BITMAP_DIRECTORY: return "the bitmap directory";
  case Q2_META_BITMAP_TABLE:    return "a bitmap's table";
  case Q2_META_BITMAP_BITS:     return "a bitmap";
  }
  return "something";
}

static uint64_t
slots_bytes (unsigned bits)
{
  return sizeof (uint64_t) << bits;
}

static uint64_t *
slots_new (const struct q2_overlap *o, unsigned bits, struct qcow2_error *err)
{
  uint64_t *slots;

  if (q2_budget_take (o->budget, slots_bytes (bits), "the overlap check",
                      err) == -1)
    return NULL;
  slots = calloc (1, slots_bytes (bits));
  if (slots != NULL)
    return slots;
  q2_budget_give (o->budget, slots_bytes (bits));
  q2_fail_nomem (err, "the overlap check");
  return NULL;
}

static void
slots_free (const struct q2_overlap *o, uint64_t *slots, unsigned bits)
{
  free (slots);
  q2_budget_give (o->budget, slots_bytes (bits));
}

struct q2_overlap *
q2_overlap_new (unsigned cluster_bits, struct qcow2_budget *budget,
                struct qcow2_error *err)
{
  struct q2_overlap *o = calloc (1, sizeof *o);

  if (o == NULL) {
    q2_fail_nomem (err, "the overlap check");
    return NULL;
  }
  o->budget = budget;
  o->slots = slots_new (o, FIRST_BITS, err);
  if (o->slots == NULL) {
    free (o);
    return NULL;
  }
  o->bits = FIRST_BITS;
  o->cluster_bits = cluster_bits;
  q2_rwlock_init (&o->lock, 6, "overlap.lock");
  return o;
}

void
q2_overlap_free (struct q2_overlap *o)
{
  if (o == NULL)
    return;
  q2_rwlock_destroy (&o->lock);
  slots_free (o, o->slots, o->bits);
  free (o);
}

/* The slot of the cluster, or the empty one where it would be. */
static uint64_t *
find_locked (const struct q2_overlap *o, uint64_t cluster)
{
  const uint64_t mask = (UINT64_C (1) << o->bits) - 1;
  uint64_t i =
    (cluster * UINT64_C (0x9e3779b97f4a7c15)) >> (64 - o->bits);

  q2_rwlock_check_held (&o->lock);
  while (o->slots[i] != 0 && o->slots[i] >> CLASS_BITS != cluster)
    i = (i + 1) & mask;
  return &o->slots[i];
}

static int
make_room_locked (struct q2_overlap *o, struct qcow2_error *err)
{
  uint64_t *const old = o->slots;
  const uint64_t nr = UINT64_C (1) << o->bits;

  q2_rwlock_check_held (&o->lock);
  if (2 * (o->used + 1) <= nr)
    return 0;
  o->slots = slots_new (o, o->bits + 1, err);
  if (o->slots == NULL) {
    o->slots = old;
    return -1;
  }
  o->bits++;
  o->used = 0;
  for (uint64_t i = 0; i < nr; ++i)
    if ((old[i] & CLASS_MASK) != Q2_META_NONE) {
      *find_locked (o, old[i] >> CLASS_BITS) = old[i];
      o->used++;
    }
  slots_free (o, old, o->bits - 1);
  return 0;
}

bool
q2_overlap_has_room (struct q2_overlap *o, uint64_t clusters)
{
  unsigned bits;
  bool fits;

  q2_rwlock_rdlock (&o->lock);
  bits = o->bits;
  while (bits < 60 && 2 * (o->used + clusters) > UINT64_C (1) << bits)
    bits++;
  /* While it grows there are the old ones, too, and the last but one. */
  fits = bits == o->bits ||
    slots_bytes (bits) + slots_bytes (bits - 1) - slots_bytes (o->bits) <=
    q2_budget_left (o->budget);
  q2_rwlock_unlock (&o->lock);
  return fits;
}

static int
fail_overlap (const struct q2_overlap *o, uint64_t cluster,
              enum q2_meta_class wanted, enum q2_meta_class found,
              struct qcow2_error *err)
{
  const uint64_t host_off = cluster << o->cluster_bits;

  return q2_fail_advise (err, QCOW2_ERR_CORRUPT, QCOW2_ADVICE_REPAIR, host_off,
                         "the cluster at offset 0x%" PRIx64 " is to hold %s, "
                         "but it is part of %s", host_off, class_name (wanted),
                         class_name (found));
}

static int
add_locked (struct q2_overlap *o, uint64_t cluster,
            enum q2_meta_class class, struct qcow2_error *err)
{
  uint64_t *slot;
  enum q2_meta_class found;

  q2_rwlock_check_held (&o->lock);
  if (make_room_locked (o, err) == -1)
    return -1;
  slot = find_locked (o, cluster);
  found = (enum q2_meta_class) (*slot & CLASS_MASK);
  if (found != Q2_META_NONE && found != class &&
      !(found == Q2_META_SHARED_L2 && class == Q2_META_INACTIVE_L2))
    return fail_overlap (o, cluster, class, found, err);
  o->used += *slot == 0;
  *slot = cluster << CLASS_BITS | class;
  return 0;
}

/* Number of the cluster behind the last of the range. */
static uint64_t
end_of (const struct q2_overlap *o, uint64_t host_off, uint64_t len)
{
  return ((host_off + len - 1) >> o->cluster_bits) + 1;
}

int
q2_overlap_add (struct q2_overlap *o, uint64_t host_off, uint64_t len,
                enum q2_meta_class class, struct qcow2_error *err)
{
  int r = 0;

  if (len == 0)
    return 0;
  if (!q2_assume (len <= UINT64_MAX - host_off, err))
    return -1;
  q2_rwlock_wrlock (&o->lock);
  for (uint64_t c = host_off >> o->cluster_bits;
       r == 0 && c < end_of (o, host_off, len); ++c)
    r = add_locked (o, c, class, err);
  q2_rwlock_unlock (&o->lock);
  return r;
}

void
q2_overlap_remove (struct q2_overlap *o, uint64_t host_off, uint64_t len)
{
  q2_rwlock_wrlock (&o->lock);
  for (uint64_t c = host_off >> o->cluster_bits;
       len > 0 && c < end_of (o, host_off, len); ++c) {
    uint64_t *const slot = find_locked (o, c);

    if (*slot != 0)
      *slot &= ~CLASS_MASK;
  }
  q2_rwlock_unlock (&o->lock);
}

void
q2_overlap_turn (struct q2_overlap *o, uint64_t host_off,
                 enum q2_meta_class class)
{
  uint64_t *slot;

  q2_rwlock_wrlock (&o->lock);
  slot = find_locked (o, host_off >> o->cluster_bits);
  if ((*slot & CLASS_MASK) != Q2_META_NONE)
    *slot = (*slot & ~CLASS_MASK) | class;
  q2_rwlock_unlock (&o->lock);
}

void
q2_overlap_unshare (struct q2_overlap *o, uint64_t host_off, uint64_t len)
{
  struct qcow2_error ignored;

  /* As a rule there is none, and readers go on. */
  if (q2_overlap_check (o, host_off, len, Q2_META_NONE, &ignored) == 0)
    return;
  q2_rwlock_wrlock (&o->lock);
  for (uint64_t c = host_off >> o->cluster_bits;
       len > 0 && c < end_of (o, host_off, len); ++c) {
    uint64_t *const slot = find_locked (o, c);

    if ((*slot & CLASS_MASK) == Q2_META_SHARED_L2)
      *slot &= ~CLASS_MASK;
  }
  q2_rwlock_unlock (&o->lock);
}

int
q2_overlap_check_any (struct q2_overlap *o, uint64_t host_off, uint64_t len,
                      unsigned classes, enum q2_meta_class wanted,
                      struct qcow2_error *err)
{
  int r = 0;

  q2_rwlock_rdlock (&o->lock);
  for (uint64_t c = host_off >> o->cluster_bits;
       r == 0 && len > 0 && c < end_of (o, host_off, len); ++c) {
    const enum q2_meta_class found =
      (enum q2_meta_class) (*find_locked (o, c) & CLASS_MASK);

    if (found != Q2_META_NONE && !(classes >> found & 1))
      r = fail_overlap (o, c, wanted, found, err);
  }
  q2_rwlock_unlock (&o->lock);
  return r;
}

int
q2_overlap_check (struct q2_overlap *o, uint64_t host_off, uint64_t len,
                  enum q2_meta_class class, struct qcow2_error *err)
{
  return q2_overlap_check_any (o, host_off, len, 1u << class, class, err);
}

enum q2_meta_class
q2_overlap_class (struct q2_overlap *o, uint64_t host_off)
{
  enum q2_meta_class found;

  q2_rwlock_rdlock (&o->lock);
  found = (enum q2_meta_class)
    (*find_locked (o, host_off >> o->cluster_bits) & CLASS_MASK);
  q2_rwlock_unlock (&o->lock);
  return found;
}
