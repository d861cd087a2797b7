/* SPDX-License-Identifier: BSD-3-Clause */
/* sharing.h - L2 tables that are going to be a snapshot's, too, while guests
 * write.
 *
 * When the moment has come that the snapshot is to show, nothing is read and
 * nothing written: the L1 table is copied, and no entry of it is COPIED any
 * more.  From then on the tables that it had are constant, since whoever
 * writes to one makes a copy first.  Each of them still has to be *shared*:
 * one more reference to it, and to all that it refers to.  That is done by who
 * comes first, a guest's write to its range, or the thread that takes the
 * snapshot, which shares one table after the other.
 *
 * A guest's write never fails because of it: if a table cannot be shared the
 * snapshot has failed, and the disk has those tables back that nobody has
 * shared.
 *
 * Locks: sharing.lock, held over I/O.  A thread that waits for it is not in
 * flight, and the thread that takes the snapshot lets writers go first.
 */
#ifndef QCOW2_WRITE_SHARING_H
#define QCOW2_WRITE_SHARING_H

#include "alloc/frees.h"
#include "base/lock.h"
#include "format/geometry.h"
#include "io/io.h"

#include <stdatomic.h>

struct q2_change;
struct q2_writer;

/* The tables; they are the caller's, and last from begin to end. */
struct q2_shared_tables {
  uint64_t *l1;                 /* entries, in CPU byte order, with flags */
  unsigned char *shared;        /* a bit for each entry */
  uint64_t nr;                  /* entries */
  bool settled;                 /* from the beginning: the file has all that
                                   they had */
};

struct q2_sharing {
  _Atomic bool active;          /* changes with the lock */
  _Atomic unsigned waiting;     /* writers that want the lock */
  _Atomic uint64_t met;         /* tables that writers have shared, ever */

  struct q2_mutex lock;         /* guards: */
  struct q2_shared_tables *tables;      /* NULL: not active */
  bool failed;                  /* nothing is shared any more */
  bool miscounted;              /* ... and references could not be taken back
                                   */
  struct qcow2_error why;       /* that it has failed */
};

extern void q2_sharing_init (struct q2_sharing *sharing)
  __attribute__ ((__nonnull__));
extern void q2_sharing_destroy (struct q2_sharing *sharing)
  __attribute__ ((__nonnull__));

/* ---- The thread that takes the snapshot -------------------------------- */

/* This is the moment.  Fills in the tables from what is in memory; reads and
 * writes nothing.  The gate is closed.
 */
extern void q2_sharing_begin (struct q2_writer *w,
                              struct q2_shared_tables *tables)
  __attribute__ ((__nonnull__));

/* Take the lock, after writers that want it.  Then, if *ret_todo, the caller
 * shares that table, says so by q2_sharing_done, and gives the lock back.  -1:
 * sharing has failed; there is no lock to be given back.
 */
extern int q2_sharing_lock (struct q2_writer *w, uint64_t l1_index,
                            bool *ret_todo, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* 0, or -1 with *err, for 'result'; 'miscounted': what was counted in vain
 * could not be taken back.
 */
extern void q2_sharing_done (struct q2_writer *w, uint64_t l1_index,
                             int result, bool miscounted,
                             const struct qcow2_error *err)
  __attribute__ ((__nonnull__));
extern void q2_sharing_unlock (struct q2_writer *w)
  __attribute__ ((__nonnull__));

/* No table need be shared any more.  'published': all of them are the
 * snapshot's; else the disk has those back that nobody has shared.  Returns
 * whether refcounts may be too high because taking back has failed.
 */
extern bool q2_sharing_end (struct q2_writer *w, bool published)
  __attribute__ ((__nonnull__));

static inline bool
q2_shared_tables_has (const struct q2_shared_tables *t, uint64_t l1_index)
{
  return t->shared[l1_index / 8] >> l1_index % 8 & 1;
}

static inline void
q2_shared_tables_note (struct q2_shared_tables *t, uint64_t l1_index)
{
  t->shared[l1_index / 8] |= (unsigned char) (1u << l1_index % 8);
}

/* ---- Writers ------------------------------------------------------------ */

/* A writer that holds the L1 entry, and is in flight, is going to copy the
 * table that it names: share it, if that is to be done.  Look at the L1 entry
 * again afterwards: the disk may have the table back.  Leaves and enters.
 */
extern void q2_sharing_meet (struct q2_change *c, uint64_t l1_index)
  __attribute__ ((__nonnull__));

/* ---- Both --------------------------------------------------------------- */

/* List the clusters that 'len' bytes of raw entries refer to, which lie at
 * 'host_off' in the file, in their order; empties the list first.
 */
extern int q2_sharing_list (const struct q2_geometry *geo,
                            const unsigned char *raw, uint64_t len,
                            uint64_t host_off, struct q2_frees *clusters,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* One more reference to each; *raised counts them.  'c' is the change that
 * does it, which leaves and enters for commits, or NULL.
 */
extern int q2_sharing_raise (struct q2_writer *w, const struct q2_io *io,
                             struct q2_change *c, struct q2_free_run run,
                             uint64_t *raised, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5, 6), __warn_unused_result__));

#endif /* QCOW2_WRITE_SHARING_H */
