/* SPDX-License-Identifier: BSD-3-Clause */
/* tables_impl.h - what tables.c and preload.c share. */
#ifndef QCOW2_META_TABLES_IMPL_H
#define QCOW2_META_TABLES_IMPL_H

#include "format/l2e.h"
#include "meta/l1.h"
#include "meta/tables.h"

/* What is read at once from a table on a slow host; a whole table of 64 KiB
 * clusters.
 */
#define Q2_SLOW_LOAD (UINT64_C (64) << 10)

/* A cache that had become too small: somebody may read from it still. */
struct q2_old_cache {         /* constant */
  struct q2_old_cache *next;
  struct q2_cache *cache;
};

struct q2_tables {
  const struct q2_geometry *geo;
  struct q2_l1 *l1;
  _Atomic (struct q2_cache *) cache;    /* looked at once in a request */
  _Atomic (struct q2_old_cache *) old;
  struct qcow2_budget *budget;  /* or NULL */
  uint64_t cache_charge;        /* taken from it, for all caches */
  uint64_t cache_size;          /* of the present one */
};

/* Host offset of the L2 table of an L1 entry, or 0. */
static inline uint64_t
q2_tables_table_of (const struct q2_tables *t, uint64_t l1_index)
{
  return q2_l1e_table (t->geo, q2_l1_entry (t->l1, l1_index));
}

#endif /* QCOW2_META_TABLES_IMPL_H */
