/* SPDX-License-Identifier: BSD-3-Clause */
/* owning.h - entries of the disk that are alone become COPIED, while guests
 * write.
 */
#ifndef QCOW2_WRITE_OWNING_H
#define QCOW2_WRITE_OWNING_H

#include "write/writer.h"

/* Refcounts of neighbours that were looked up last; all zero at the start, and
 * when refcounts may have changed.
 */
struct q2_owning {
  struct q2_writer *w;
  const struct q2_io *io;
  uint64_t first, nr;
  uint64_t values[Q2_MAX_ENTRIES];
};

/* The refcount of one cluster. */
extern int q2_owning_get (struct q2_owning *o, uint64_t cluster,
                          uint64_t *ret_refcount, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* An entry that is not COPIED could be, if the refcount is 1. */
static inline bool
q2_owning_may (const struct q2_entry *e)
{
  return !e->copied && e->m.placed && e->m.kind != Q2_CLUSTER_COMPRESSED &&
    e->m.kind != Q2_CLUSTER_INVALID;
}

/* Entries of clusters [guest_cluster, guest_cluster + nr) of the disk, all in
 * one slice of a table, become COPIED if they are alone and their table is the
 * disk's own; of others nothing changes.  Refcounts must be durable, and
 * nobody may raise them.  Holds the clusters; not in flight.
 */
extern int q2_owning_entries (struct q2_owning *o, uint64_t guest_cluster,
                              uint64_t nr, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_WRITE_OWNING_H */
