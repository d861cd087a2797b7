/* SPDX-License-Identifier: BSD-3-Clause */
/* l1.h - the L1 table of the disk.
 *
 * Spec: "Cluster mapping".
 */
#ifndef QCOW2_META_L1_H
#define QCOW2_META_L1_H

#include "meta/cache.h"

#include <stdint.h>

struct q2_l1;

/* The table of a disk that needs 'entries' entries, of which the file has
 * 'stored' at 'host_off'; the others map nothing.  The memory that the table
 * takes is charged to the budget of 'io'.
 */
extern struct q2_l1 *
q2_l1_new (const struct q2_io *io, uint64_t host_off, uint32_t entries,
           uint32_t stored, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_l1_free (struct q2_l1 *l1);

/* The entry 'index' as it is in the file, but in CPU byte order; 0 if there
 * is no such entry.  Needs no lock: who sees an entry also sees what was put
 * into its table before.
 */
extern uint64_t q2_l1_entry (const struct q2_l1 *l1, uint64_t index)
  __attribute__ ((__nonnull__));

/* Change an entry, which the next commit writes.  Those who call this, and
 * all that follow, exclude each other with a lock of theirs.
 */
extern void q2_l1_set (struct q2_l1 *l1, uint64_t index, uint64_t entry)
  __attribute__ ((__nonnull__));

/* How many entries can be asked for. */
extern uint32_t q2_l1_nr (const struct q2_l1 *l1)
  __attribute__ ((__nonnull__));

/* The disk has become larger, or has its old size again: its table, of that
 * many entries, lies at 'host_off', with the same entries; those that it did
 * not have map nothing.  No entry is changed and not yet written.  On error
 * nothing has happened; with no more entries than there were ever, there is
 * none.
 */
extern int q2_l1_place (struct q2_l1 *l1, uint64_t host_off, uint32_t entries,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* See to it that the host has room for the sector with this entry. */
extern int q2_l1_make_solid (struct q2_l1 *l1, const struct q2_io *io,
                             uint64_t index, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Somebody else has changed flags in the file; nothing is changed here. */
extern int q2_l1_reload (struct q2_l1 *l1, const struct q2_io *io,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* How many sectors are changed; copy them for a commit; write the copies;
 * and mark them as changed again if they were not written.  See
 * q2_cache_gather.
 */
extern size_t q2_l1_nr_dirty (const struct q2_l1 *l1)
  __attribute__ ((__nonnull__));
extern int q2_l1_gather (struct q2_l1 *l1, struct q2_dirty *ret_dirty,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_l1_write (const struct q2_l1 *l1, const struct q2_dirty *dirty,
                        const struct q2_io *io, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_l1_end_gather (struct q2_l1 *l1, struct q2_dirty *dirty,
                              bool written) __attribute__ ((__nonnull__));

#endif /* QCOW2_META_L1_H */
