/* SPDX-License-Identifier: BSD-3-Clause */
/* tables.h - the L1 table, and L2 entries by index.
 *
 * Answers "which L2 table", and "what are the raw bytes of these entries".
 * What the entries mean is format/l2e.h's business.
 *
 * Spec: "Cluster mapping".
 */
#ifndef QCOW2_META_TABLES_H
#define QCOW2_META_TABLES_H

#include "base/workers.h"
#include "format/geometry.h"
#include "meta/cache.h"

struct q2_tables;

/* Read the L1 table of 'l1_entries' entries (at most Q2_MAX_L1_BYTES) at
 * 'l1_host_off', and set up the cache of L2 tables.  'geo' must outlive the
 * result.  If the disk needs more entries, as that of a snapshot may, those
 * map nothing, and nothing may be changed.
 */
extern struct q2_tables *
q2_tables_new (const struct q2_geometry *geo, const struct q2_io *io,
               uint64_t l1_host_off, uint32_t l1_entries,
               uint64_t cache_bytes, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_tables_free (struct q2_tables *tables);

/* The disk has become larger, or has its old size again: its L1 table, of that
 * many entries, lies at 'l1_host_off', with the same entries; those that it
 * did not have map nothing.  Nothing is changed that is not yet written.
 * Others may read meanwhile; afterwards the caller changes the geometry
 * (q2_geometry_resize).  On error nothing has happened; with no more entries
 * than there were ever, there is none.
 */
extern int q2_tables_place (struct q2_tables *tables, uint64_t l1_host_off,
                            uint32_t l1_entries, uint64_t cache_bytes,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Bytes of the disk that there can be entries for.  Never falls, so what was
 * inside the disk once is below it also when the disk has its old size again.
 */
extern uint64_t q2_tables_reach (const struct q2_tables *tables)
  __attribute__ ((__nonnull__));

extern const struct q2_geometry *
q2_tables_geometry (const struct q2_tables *tables)
  __attribute__ ((__nonnull__));

/* True if the L1 entry maps nothing: all its guest bytes are unallocated.
 * l1_index must be below geo->l1_needed.
 */
extern bool q2_tables_l1_is_empty (const struct q2_tables *tables,
                                   uint64_t l1_index)
  __attribute__ ((__nonnull__));

/* Raw L2 entries that are wanted, of the table that a non-empty L1 entry
 * points to.
 */
struct q2_l2_read {
  uint64_t l1_index, l2_index;  /* of the first */
  uint64_t count;               /* at most; also how far the caller is going
                                   to read on in this table */
  bool scan;                    /* it will not come back; see cache.h */
  void *buf;                    /* where they go */
  size_t size;                  /* bytes it has room for, at least an entry */
};

/* Copy them, *ret_count of them, at least one. */
extern int q2_tables_read_l2 (struct q2_tables *tables,
                              const struct q2_io *io,
                              const struct q2_l2_read *read,
                              uint64_t *ret_count, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* For a scan on a slow host: load the L2 tables that map [guest_off,
 * guest_off+len) and are not in the cache, neighbours in the file together,
 * several at a time where the host allows.  Only as many as the cache can
 * well hold.  Never fails: what could not be loaded is met again by who
 * needs it.
 */
extern void q2_tables_preload (struct q2_tables *tables,
                               const struct q2_io *io,
                               struct q2_workers *workers,
                               uint64_t guest_off, uint64_t len)
  __attribute__ ((__nonnull__));

extern void q2_tables_get_stats (struct q2_tables *tables,
                                 uint64_t *ret_hits, uint64_t *ret_misses)
  __attribute__ ((__nonnull__));

/* ---- Changing entries ----------------------------------------------- */

/* As for slices (cache.h), callers of these exclude each other with a lock of
 * theirs; readers see an entry as it was or as it is.
 */

/* The L1 entry as it is in the file, but in CPU byte order. */
extern uint64_t q2_tables_l1_entry (const struct q2_tables *tables,
                                    uint64_t l1_index)
  __attribute__ ((__nonnull__));
extern void q2_tables_set_l1 (struct q2_tables *tables, uint64_t l1_index,
                              uint64_t entry) __attribute__ ((__nonnull__));

/* Replace 'count' raw entries of the table of a non-empty L1 entry, all in
 * one slice; false if that is not in the cache, or not solid (cache.h).
 */
extern bool q2_tables_update_l2 (struct q2_tables *tables,
                                 uint64_t l1_index, uint64_t l2_index,
                                 const void *raw, uint64_t count)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* See to it that the slice that has this entry is solid, or the sector of
 * the L1 table that has this one: when they are written in a commit the host
 * has room for them.  *ret_done: something was hollow, and is not any more.
 * Where io is NULL the caller knows that there is room.
 * Callers hold one lock that makes these two exclude each other.
 */
extern int q2_tables_make_solid_l2 (struct q2_tables *tables,
                                    const struct q2_io *io,
                                    uint64_t l1_index, uint64_t l2_index,
                                    bool *ret_done, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 5, 6), __warn_unused_result__));
extern int q2_tables_make_solid_l1 (struct q2_tables *tables,
                                    const struct q2_io *io,
                                    uint64_t l1_index,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* How many entries a slice has. */
extern uint64_t q2_tables_slice_entries (const struct q2_tables *tables)
  __attribute__ ((__nonnull__));

/* Something else is in this cluster of the file now. */
extern void q2_tables_forget (struct q2_tables *tables, uint64_t host_off)
  __attribute__ ((__nonnull__));

/* Somebody else has changed flags in the file; nothing is changed here. */
extern int q2_tables_reload (struct q2_tables *tables, const struct q2_io *io,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* No slice is changed, or being written, so the file has all entries.  With
 * the lock under which commits gather them.
 */
extern bool q2_tables_is_clean (const struct q2_tables *tables)
  __attribute__ ((__nonnull__));

/* Changed slices, of all that fit. */
extern size_t q2_tables_nr_dirty (const struct q2_tables *tables)
  __attribute__ ((__nonnull__));
extern uint64_t q2_tables_capacity (const struct q2_tables *tables)
  __attribute__ ((__nonnull__));

/* What is to be written in one commit: see q2_cache_gather. */
struct q2_tables_dirty {
  struct q2_dirty l1, l2;
};
extern int q2_tables_gather (struct q2_tables *tables,
                             struct q2_tables_dirty *ret_dirty,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_tables_write_l1 (struct q2_tables *tables,
                               const struct q2_tables_dirty *dirty,
                               const struct q2_io *io,
                               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_tables_write_l2 (struct q2_tables *tables,
                               const struct q2_tables_dirty *dirty,
                               const struct q2_io *io,
                               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_tables_end_gather (struct q2_tables *tables,
                                  struct q2_tables_dirty *dirty,
                                  bool written)
  __attribute__ ((__nonnull__));

/* Host offset of an L2 entry, for messages. */
extern uint64_t q2_tables_l2_entry_off (const struct q2_tables *tables,
                                        uint64_t l1_index, uint64_t l2_index)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_META_TABLES_H */
