/* SPDX-License-Identifier: BSD-3-Clause */
/* space.h - where new clusters go, and what becomes free.
 *
 * A cluster is free if its refcount in memory is 0 and nobody has reserved
 * it.  A refcount in memory goes up when a cluster is handed out, before
 * anything points to it, and down when the commit that made its unlinking
 * durable has ended and no request uses it any more (ORDER-5, ORDER-6 of
 * docs/ORDERING.md), so nothing on disk points to a cluster that is free.
 *
 * All functions may be called by any thread and may do I/O.
 */
#ifndef QCOW2_ALLOC_SPACE_H
#define QCOW2_ALLOC_SPACE_H

#include "alloc/frees.h"
#include "alloc/refcounts.h"
#include "base/flight.h"
#include "meta/overlap.h"

struct q2_space;

/* Read the refcount table.  'overlap', which has all other metadata, gets
 * the refcount blocks; 'flight' knows who writes in place.  Both must outlive
 * the result.
 */
extern struct q2_space *q2_space_new (const struct q2_geometry *geo,
                                      const struct q2_header *h,
                                      struct q2_overlap *overlap,
                                      struct q2_flight *flight,
                                      const struct q2_io *io,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_space_free (struct q2_space *space);

/* Functions that return this have changed nothing: too many changes wait to
 * be written for more of them to have room.  Commit, and call again.
 */
#define Q2_SPACE_COMMIT_FIRST 1

/* And this: somebody who has trusted an entry of a cluster that was in use
 * may still be writing to what would be handed out as a table.  Wait until all
 * who are in flight now have left, and call again.
 */
#define Q2_SPACE_SETTLE_FIRST 2

/* Hand out up to 'want' clusters in one run, with refcount 1.  'stream' says
 * what the first is for, in clusters of the disk: who asks for the one after
 * what he has got last gets the cluster after that.  Q2_SPACE_NO_STREAM for
 * L2 tables, one at a time: it is in the overlap set before it counts, so
 * nobody who looks at both, the refcount first, writes guest data there.  On
 * failure nothing has changed.  Returns 0, 1 or 2 (see above), or -1.
 */
#define Q2_SPACE_NO_STREAM UINT64_MAX
struct q2_space_run {
  uint64_t cluster, nr;
  bool zero;                    /* the file is known to read as zeros there;
                                   for a table: all of it has been written,
                                   as zeros, and nothing else since */
  bool unused;                  /* nothing was ever written there but zeros,
                                   by anybody: if the file is that large after
                                   a crash, it reads as zeros then, too */
};
extern int q2_space_alloc (struct q2_space *space, const struct q2_io *io,
                           uint64_t stream, uint64_t want,
                           struct q2_space_run *ret_run,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The next table gets a cluster that never had a refcount, at the end of the
 * file, instead of waiting for others to leave.  Returns 0, 1 or -1 (see
 * above): QCOW2_ERR_NO_SPACE if the file cannot grow.
 */
extern int q2_space_take_fresh (struct q2_space *space,
                                const struct q2_io *io,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Take back clusters that were handed out and never linked.  What cannot be
 * taken back is leaked.
 */
extern void q2_space_undo (struct q2_space *space, const struct q2_io *io,
                           uint64_t cluster, uint64_t nr)
  __attribute__ ((__nonnull__));

/* Take one reference from each cluster of the runs; those that have none
 * left are free, and, with 'trim', given back to the host before that.  Runs
 * that are done are taken from the list.  Returns 0, 1 (see above) or -1, and
 * then what is left in the list is to be tried again.
 */
extern int q2_space_release (struct q2_space *space, const struct q2_io *io,
                             struct q2_frees *frees, bool trim,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- runs.c: what changes to the image itself need ------------------ */

/* Hand out exactly 'nr' clusters that follow each other, with refcount 1: for
 * tables that are one piece.  Before they are written as such, the caller adds
 * them to the overlap set and then waits until everybody in flight has left:
 * somebody who has trusted an entry of a cluster that was in use before may
 * still be writing there.  On failure nothing has changed.  Returns 0, 1
 * (see above) or -1.
 */
extern int q2_space_alloc_run (struct q2_space *space, const struct q2_io *io,
                               uint64_t nr, uint64_t *ret_cluster,
                               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Add one reference to each cluster of the run, which takes those that are
 * done off the run.  A cluster without references is corruption; one whose
 * refcount has no room for more is QCOW2_ERR_UNSUPPORTED.  Returns 0, 1 (see
 * above) or -1, and then what is left of the run has not changed: what was
 * taken off it, the caller releases.
 */
extern int q2_space_raise (struct q2_space *space, const struct q2_io *io,
                           struct q2_free_run *run, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The refcount of a cluster, 0 if it has none.  Called without a lock.
 * Returns 0, Q2_SPACE_COMMIT_FIRST or -1.
 */
extern int q2_space_get (struct q2_space *space, const struct q2_io *io,
                         uint64_t cluster, uint64_t *ret_value,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- bytes.c: compressed clusters, packed ---------------------------- */

/* Hand out room for 'nr' streams of the given sizes (at least 1 byte each, at
 * most a cluster), packed one behind the other from a multiple of 512 on, or
 * of the host's minimum block, to *ret_host_off: stream i lies behind those
 * before it, and the rest of the last block is nobody else's.  Each cluster
 * gets a reference for each stream that lies in it, at least in part.
 * *ret_nr, at least 1, says for how many streams there was room: refcounts
 * have limits, and the room behind what was handed out before is used.
 * On failure nothing has changed.  Returns 0, 1 (see above) or -1.
 */
extern int q2_space_alloc_bytes (struct q2_space *space,
                                 const struct q2_io *io,
                                 const uint32_t *sizes, size_t nr,
                                 size_t *ret_nr, uint64_t *ret_host_off,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Host offset of the end of the last cluster that is in use, but not less
 * than 'min', by looking back from the end of the file.
 */
extern int q2_space_find_end (struct q2_space *space, const struct q2_io *io,
                              uint64_t min, uint64_t *ret_end,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The refcount of a cluster, 0 if it has none.  Returns 0, 1 (see
 * above) or -1.
 */
extern int q2_space_get (struct q2_space *space, const struct q2_io *io,
                         uint64_t cluster, uint64_t *ret_value,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- watch.c: for a check of an image that is being written to ------- */

/* These are told of every refcount that changes, under space.lock; NULL: none.
 */
extern void q2_space_watch (struct q2_space *space,
                            struct q2_suspects *suspects)
  __attribute__ ((__nonnull__ (1)));

/* Refcounts as they are now, of up to 'nr' clusters; *ret_nr of them.  False:
 * *ret_need has to be loaded first.
 */
extern bool q2_space_peek (struct q2_space *space, uint64_t cluster,
                           uint64_t nr, uint64_t *ret_values,
                           uint64_t *ret_nr, struct q2_need *ret_need)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* One suspect, under the lock under which its refcount changes: the refcount,
 * and whether it was touched.  If it was not, and 'lower', a refcount that is
 * higher than 'count' becomes 'count'.  False: *ret_need comes first.
 */
extern bool q2_space_judge (struct q2_space *space,
                            const struct q2_suspects *suspects, size_t i,
                            uint64_t count, bool lower,
                            uint64_t *ret_value, bool *ret_touched,
                            struct q2_need *ret_need)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Get what a _locked function of refcounts.h needs.  Called without a lock.
 * Returns 0, Q2_SPACE_COMMIT_FIRST or -1.
 */
extern int q2_space_load (struct q2_space *space, const struct q2_io *io,
                          const struct q2_need *need,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Where the refcount table is, and its entries from 'first' on, up to 'max' of
 * them: host offsets of blocks, or 0.  Returns how many; 0: there are no more.
 */
extern uint64_t q2_space_blocks (struct q2_space *space, uint64_t first,
                                 uint64_t max, uint64_t *ret_host_offs,
                                 uint64_t *ret_table_off,
                                 uint64_t *ret_table_clusters)
  __attribute__ ((__nonnull__));

/* The first cluster from 'cluster' on that has a refcount block; UINT64_MAX:
 * none has.
 */
extern uint64_t q2_space_next_covered (struct q2_space *space,
                                       uint64_t cluster)
  __attribute__ ((__nonnull__));

/* The cluster has no refcount at all. */
extern bool q2_space_is_uncovered (struct q2_space *space, uint64_t cluster)
  __attribute__ ((__nonnull__));

/* The first of the clusters [cluster, cluster+nr) whose refcount is 0, or the
 * end of the range.  As long as all are known to be counted no lock is taken.
 * Returns 0, 1 (see above) or -1.
 */
extern int q2_space_find_uncounted (struct q2_space *space,
                                    const struct q2_io *io, uint64_t cluster,
                                    uint64_t nr, uint64_t *ret_cluster,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Nothing is free that a request in flight may still use. */
extern bool q2_space_is_settled (struct q2_space *space)
  __attribute__ ((__nonnull__));

/* So many changes wait to be written that it is time for a commit. */
extern bool q2_space_is_pressed (struct q2_space *space)
  __attribute__ ((__nonnull__));
/* Half as many: time for who changes many, before others have to wait. */
extern bool q2_space_is_filling (struct q2_space *space)
  __attribute__ ((__nonnull__));

/* ---- Commit: see refcounts.h ---------------------------------------- */

/* A refcount table that is no longer in use is let go by the next commit. */
extern bool q2_space_has_old_table (struct q2_space *space)
  __attribute__ ((__nonnull__));

extern bool q2_space_is_dirty (struct q2_space *space)
  __attribute__ ((__nonnull__));
/* What this commit does about refcounts that are raised in the file ahead of
 * those who need them (ahead.c): it takes all of them back; or it leaves them;
 * or it raises more if most are used up.
 */
enum q2_ahead_way { Q2_AHEAD_NONE, Q2_AHEAD_KEEP, Q2_AHEAD_MORE };
extern int q2_space_gather (struct q2_space *space, const struct q2_io *io,
                            enum q2_ahead_way way,
                            struct q2_refcounts_dirty *ret_dirty,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_space_write (struct q2_space *space,
                           const struct q2_refcounts_dirty *dirty,
                           const struct q2_io *io, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* If that came so far, the clusters of refcount tables that are no longer in
 * use are added to 'frees'.
 */
extern void q2_space_end_gather (struct q2_space *space,
                                 struct q2_refcounts_dirty *dirty,
                                 enum q2_commit_progress progress,
                                 struct q2_frees *frees)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_ALLOC_SPACE_H */
