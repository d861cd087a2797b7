/* SPDX-License-Identifier: BSD-3-Clause */
/* refcounts.h - the refcount table and the refcounts of clusters, in memory.
 *
 * The table is in memory as a whole (at most 8 MiB), refcount blocks as
 * slices in a cache of their own.  Nothing here does I/O while it answers:
 * a slice that is missing is reported, the caller loads it without holding a
 * lock, and asks again.
 *
 * Locks: every function that ends in _locked is called under the lock of
 * whoever owns the struct; the others say so.
 *
 * Spec: "Reference counts".
 */
#ifndef QCOW2_ALLOC_REFCOUNTS_H
#define QCOW2_ALLOC_REFCOUNTS_H

#include "base/lock.h"
#include "base/suspects.h"
#include "format/header.h"
#include "format/refcount_bits.h"
#include "meta/cache.h"
#include "meta/superblock.h"

#define Q2_REFCOUNT_SLICE 4096  /* bytes of a block, at most */


#define Q2_MAX_OLD_TABLES 8

/* Some of the clusters of a slice, a bit for each. */
struct q2_cover {
  uint64_t first, nr;           /* of the slice; 0: there are none */
  unsigned char bits[Q2_REFCOUNT_SLICE];
};

/* Refcounts that the file has as 1, durably, whether they are that or 0: see
 * ahead.c.
 */
#define Q2_AHEAD_NO_SLICE UINT64_MAX
struct q2_ahead {
  struct q2_cover covered;      /* those */
  struct q2_cover next;         /* once the commit that is running has written
                                   refcounts */
  uint64_t pinned;              /* host offset of their slice, or NO_SLICE */
  bool urgent;                  /* one that is not covered was raised since
                                   the last commit began */
  bool later;                   /* the same, if that fails */
  bool failing;                 /* the last commit has failed: no others are
                                   covered, since the file may have any of what
                                   such commits have written */
};

struct q2_refcounts {
  const struct q2_geometry *geo;
  uint64_t *table;              /* host offsets of blocks, 0: none */
  uint64_t table_entries;       /* a whole number of clusters of them */
  uint64_t table_host_off;
  uint32_t table_clusters;
  bool *sector_dirty;           /* changed entries, by 64 of them */
  size_t nr_sectors_dirty;
  bool moved;                   /* it is to be written as a whole: nothing in
                                   the file names it yet */
  bool header_due;              /* it is in the file, and the header may name
                                   it, or the one before */
  struct { uint64_t host_off; uint32_t clusters; } old[Q2_MAX_OLD_TABLES];
  unsigned nr_old;              /* tables to be freed once it does not */
  bool *new_blocks;             /* of the table's: written as a whole by us */
  struct q2_cache *cache;
  struct q2_suspects *suspects; /* to be told when they change, or NULL */
  struct q2_ahead ahead;
};

/* What a _locked function needs before it can answer: a slice of a block to
 * be loaded, or, if it is loaded, to be made solid (meta/cache.h).
 */
struct q2_need {
  uint64_t slice_off;
  uint64_t block;               /* number of the block that it is in */
  bool solid;
};

/* Read the table; checks every entry's alignment. */
extern int q2_refcounts_init (struct q2_refcounts *rc,
                              const struct q2_geometry *geo,
                              const struct q2_header *h,
                              const struct q2_io *io,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_refcounts_destroy (struct q2_refcounts *rc)
  __attribute__ ((__nonnull__));

/* True if the cluster has no refcount block: its refcount is 0. */
extern bool q2_refcounts_is_uncovered_locked (const struct q2_refcounts *rc,
                                              uint64_t cluster)
  __attribute__ ((__nonnull__));

/* Get or set one refcount.  False: *ret_need has to be loaded first.
 * Setting needs a cluster that is covered.
 */
extern bool q2_refcounts_get_locked (struct q2_refcounts *rc,
                                     uint64_t cluster, uint64_t *ret_value,
                                     struct q2_need *ret_need)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern bool q2_refcounts_set_locked (struct q2_refcounts *rc,
                                     uint64_t cluster, uint64_t value,
                                     struct q2_need *ret_need)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Refcounts of neighbours, as far as one slice has them: what is done with
 * many costs little.
 */
struct q2_refcount_run {
  uint64_t cluster, nr;         /* the first, and how many */
  uint64_t slice_off, first;    /* where that lies, and its index there */
  unsigned order;
  bool covered;                 /* else all are 0, and none can be stored */
  unsigned char bytes[Q2_REFCOUNT_SLICE];
};

/* Those of up to 'nr' clusters from 'cluster' on, at least one.  False:
 * *ret_need has to be loaded first.
 */
extern bool q2_refcounts_copy_locked (struct q2_refcounts *rc,
                                      uint64_t cluster, uint64_t nr,
                                      struct q2_refcount_run *ret,
                                      struct q2_need *ret_need)
  __attribute__ ((__nonnull__, __warn_unused_result__));

static inline uint64_t
q2_refcount_run_get (const struct q2_refcount_run *run, uint64_t i)
{
  return q2_refcount_get (run->bytes, run->order, run->first + i);
}

static inline void
q2_refcount_run_set (struct q2_refcount_run *run, uint64_t i, uint64_t value)
{
  q2_refcount_set (run->bytes, run->order, run->first + i, value);
}

/* The first 'nr' of them become the refcounts of these clusters; with the lock
 * since they were copied.  False: nothing has changed, see above.
 */
extern bool q2_refcounts_store_locked (struct q2_refcounts *rc,
                                       const struct q2_refcount_run *run,
                                       uint64_t nr, struct q2_need *ret_need)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Find the first free cluster in [from, end of the slice that covers it),
 * and how many of at most 'max' behind it are free too, in that slice.
 * *ret_nr is 0 if there is none, and *ret_first the end of the slice.
 */
extern bool q2_refcounts_find_locked (struct q2_refcounts *rc,
                                      uint64_t from, uint64_t max,
                                      uint64_t *ret_first, uint64_t *ret_nr,
                                      struct q2_need *ret_need)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Read the slice, and with 'wide' what a slow host may bring with it,
 * without a lock; then, if that succeeded, put it in place under the lock.
 */
struct q2_need_bytes {
  struct q2_load load;
  unsigned char *bytes;
};
extern int q2_refcounts_read (struct q2_refcounts *rc,
                              const struct q2_io *io,
                              const struct q2_need *need, bool wide,
                              struct q2_need_bytes *ret_bytes,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

enum q2_put {
  Q2_PUT_DONE,
  Q2_PUT_OUT_OF_DATE,           /* it was written meanwhile: read again */
  Q2_PUT_NO_ROOM,               /* too much is waiting to be written */
};
extern enum q2_put q2_refcounts_put_locked (struct q2_refcounts *rc,
                                            struct q2_need_bytes *bytes)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make the slice solid.  Without the owner's lock, which is taken here where
 * it has to be, but one thread at a time.
 */
extern int q2_refcounts_make_solid (struct q2_refcounts *rc,
                                    const struct q2_io *io,
                                    const struct q2_need *need,
                                    struct q2_mutex *lock,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The entry of a block that does not exist yet is going to be set: see to it
 * that the host has room for the sector of the table that it is in.  Called
 * by whoever is alone to enter blocks, without the lock.
 */
extern int q2_refcounts_make_solid_entry (const struct q2_refcounts *rc,
                                          const struct q2_io *io,
                                          uint64_t block,
                                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Enter 'nr' blocks, numbers first_block and on, whose clusters follow each
 * other in the file from host_off on and were written as zeros, and set the
 * refcounts of [cluster, cluster+used), all of which they cover, to 1.  There
 * must be room for that: if not, too much is waiting to be written.
 */
extern bool q2_refcounts_has_room_locked (const struct q2_refcounts *rc,
                                          uint64_t used)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_refcounts_cover_locked (struct q2_refcounts *rc,
                                       uint64_t first_block, uint64_t nr,
                                       uint64_t host_off, uint64_t cluster,
                                       uint64_t used)
  __attribute__ ((__nonnull__));

/* The table is to be 'clusters' long from now on, at host_off. */
extern int q2_refcounts_move_table_locked (struct q2_refcounts *rc,
                                           uint64_t host_off,
                                           uint32_t clusters,
                                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- Commit --------------------------------------------------------- */

struct q2_refcounts_dirty {
  struct q2_dirty slices;
  struct q2_dirty sectors;      /* of the table where it is ... */
  unsigned char *table;         /* ... or all of it, if it has moved */
  bool header;                  /* is to name the table */
  uint64_t table_host_off;
  uint32_t table_clusters;
  unsigned nr_old;              /* how many of rc->old this lets go */
  bool urgent;                  /* entries may rely on refcounts that are not
                                   durable before this is written */
};

static inline bool
q2_refcounts_dirty_links (const struct q2_refcounts_dirty *d)
{
  return d->sectors.nr > 0 || d->header;
}

/* How far a commit has come when it ends, with its flushes. */
enum q2_commit_progress {
  Q2_PROGRESS_NONE,
  Q2_PROGRESS_2A,               /* refcounts, and a table that has moved, are
                                   durable */
  Q2_PROGRESS_2B,               /* so is what makes them the image's */
  Q2_PROGRESS_ALL,
};

extern bool q2_refcounts_is_dirty_locked (struct q2_refcounts *rc)
  __attribute__ ((__nonnull__));
/* From then on, if it can be, those of 'next' are covered, and no others. */
extern int q2_refcounts_gather_locked (struct q2_refcounts *rc,
                                       struct q2_cover *next,
                                       struct q2_refcounts_dirty *ret_dirty,
                                       struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* Step 2a: refcounts, and a table that has moved; no lock. */
extern int q2_refcounts_write (const struct q2_refcounts *rc,
                               const struct q2_refcounts_dirty *dirty,
                               const struct q2_io *io,
                               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* Step 2b: what makes new blocks, or the moved table, part of the image; after
 * that has been tried and has failed the header may name either table, so
 * that neither may have what is not durable.  'edit' is looked at if the
 * header is to name the table, and ended by the caller after its flush.
 */
extern int q2_refcounts_write_links (const struct q2_refcounts_dirty *dirty,
                                     struct q2_superblock_edit *edit,
                                     const struct q2_io *io,
                                     struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_refcounts_end_gather_locked (struct q2_refcounts *rc,
                                            struct q2_refcounts_dirty *dirty,
                                            enum q2_commit_progress progress)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_ALLOC_REFCOUNTS_H */
