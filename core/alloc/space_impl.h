/* SPDX-License-Identifier: BSD-3-Clause */
/* space_impl.h - what the files behind space.h share.
 *
 * space.c    reservations, handing out, the way through a commit
 * search.c   the search for free clusters
 * cover.c    refcount blocks and tables that are missing
 * release.c  what becomes free, and where the file ends
 * runs.c     runs of an exact length, and more references
 * bytes.c    room for compressed clusters
 * watch.c    what a check has to know
 * gather.c   what a commit takes, and which refcounts it raises ahead of need
 *
 * Locks: claim_lock: one thread at a time searches, and may wait for the
 * file to grow, a table to be read, or new ones to be written; who needs
 * clusters that are reserved for him does not need it.  solid_lock: one thread
 * at a time makes slices solid, which is rare and writes a few zeros.  lock
 * guards everything, and is not held over I/O.  They are taken in this order.
 */
#ifndef QCOW2_ALLOC_SPACE_IMPL_H
#define QCOW2_ALLOC_SPACE_IMPL_H

#include "base/lock.h"
#include "alloc/known.h"
#include "alloc/space.h"


#define Q2_SPACE_WINDOWS 16
#define Q2_SPACE_MAX_WINDOW 1024
#define Q2_SPACE_NONE UINT64_MAX

/* Clusters reserved for a stream: those of the disk from 'stream' on go to
 * those of the file from 'start' on, in whichever order they are asked for.
 */
struct q2_space_window {
  uint64_t stream;              /* what the first cluster is for */
  uint64_t start;               /* clusters of the file */
  uint64_t size;                /* 0: no window */
  uint64_t left;                /* how many were not handed out */
  uint64_t taken[Q2_SPACE_MAX_WINDOW / 64];     /* bits: handed out */
  bool zero;                    /* see struct q2_space_run */
  uint64_t written;             /* for tables: so many from the first on were
                                   written, as zeros, before they are taken */
  bool alone;                   /* for tables: each is written when it is */
  uint64_t stamp;               /* s->freed_stamp when it was reserved */
  uint64_t last_use;
};

struct q2_space {
  const struct q2_geometry *geo;
  struct q2_overlap *overlap;
  struct q2_mutex claim_lock;
  struct q2_mutex solid_lock;
  struct q2_mutex lock;
  struct q2_flight *flight;
  struct q2_refcounts rc;
  struct q2_known known;        /* changed under lock */
  uint64_t freed_stamp;         /* when a refcount last became 0; see
                                   q2_flight_stamp */
  struct q2_space_window windows[Q2_SPACE_WINDOWS];
  uint64_t clock;               /* for last_use */
  uint64_t cursor;
  uint64_t lowest_freed;        /* behind the cursor; Q2_SPACE_NONE: nothing */
  uint64_t lowest_skipped;      /* the same, left out for alignment */
  uint64_t packed_off;          /* host offset of the room that is left in
                                   the last cluster with streams; 0: none */
  bool packs;                   /* room for streams was asked for */
  uint64_t never_used;          /* clusters from here on were never handed
                                   out, and are not in the file as it was */
};

/* The highest refcount that the image can store. */
static inline uint64_t
q2_space_max_refcount (const struct q2_space *space)
{
  return UINT64_MAX >> (64 - (1u << space->geo->refcount_order));
}

/* Set the refcounts of a run that nobody else uses to 'value', all of them or
 * none.  Called without 'lock'.  Returns 0, Q2_SPACE_COMMIT_FIRST or -1.
 */
extern int q2_space_set_run (struct q2_space *space, const struct q2_io *io,
                             uint64_t cluster, uint64_t nr, uint64_t value,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Set the refcounts of a run that is covered to 'value', and note that;
 * returns how many of them could be set before something was needed.
 */
extern uint64_t q2_space_set_run_locked (struct q2_space *space,
                                         uint64_t cluster, uint64_t nr,
                                         uint64_t value,
                                         struct q2_need *ret_need)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same for a refcount that is lowered, if nobody has the clusters. */
extern uint64_t q2_space_lower_locked (struct q2_space *space,
                                       uint64_t cluster, uint64_t nr,
                                       uint64_t value,
                                       struct q2_need *ret_need)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The clusters are free again. */
extern void q2_space_note_freed_locked (struct q2_space *space,
                                        uint64_t cluster, uint64_t nr)
  __attribute__ ((__nonnull__));

/* Streams do not go on in these clusters, if they would have. */
extern void q2_space_end_packing_locked (struct q2_space *space,
                                         uint64_t cluster, uint64_t nr)
  __attribute__ ((__nonnull__));

/* Tables have a window of their own, under a number no cluster has. */
#define Q2_SPACE_TABLES (Q2_SPACE_NO_STREAM - 1)

/* The window that has a cluster for this one of the disk, which is the one
 * numbered *ret_i of the window; NULL if there is none.
 */
extern struct q2_space_window *
q2_space_find_window_locked (struct q2_space *space, uint64_t stream,
                             uint64_t *ret_i)
  __attribute__ ((__nonnull__));
/* The first cluster of a window from number i on that is taken, or is not. */
extern uint64_t q2_space_next_taken (const struct q2_space_window *window,
                                     uint64_t i, bool taken)
  __attribute__ ((__nonnull__));
extern void q2_space_drop_window_locked (struct q2_space *space,
                                         struct q2_space_window *window)
  __attribute__ ((__nonnull__));
extern struct q2_space_window *
q2_space_oldest_window_locked (struct q2_space *space)
  __attribute__ ((__nonnull__));

/* If a window begins or lies in [first, first+*nr), cut the run short there;
 * returns where to go on if that leaves nothing, else 0.
 */
extern uint64_t q2_space_avoid_windows_locked (const struct q2_space *space,
                                               uint64_t first, uint64_t *nr)
  __attribute__ ((__nonnull__));

/* Put what is reserved or skipped, and not used yet, back; true if there was
 * anything.
 */
extern bool q2_space_drop_windows (struct q2_space *space)
  __attribute__ ((__nonnull__));

/* Make a refcount block that covers the cluster, which is free, and put it
 * there; a larger refcount table too if that has to be.  Called with
 * claim_lock.  Returns 0, Q2_SPACE_COMMIT_FIRST or -1.
 */
extern int q2_space_cover (struct q2_space *space, const struct q2_io *io,
                           uint64_t cluster, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same for that and up to 'more' clusters behind the blocks, as many as
 * can be covered by blocks that are missing next to each other.
 */
extern int q2_space_cover_run (struct q2_space *space, const struct q2_io *io,
                               uint64_t cluster, uint64_t more,
                               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Clusters from here on cannot be used: past 2^56, or not in a file that
 * cannot grow.
 */
extern uint64_t q2_space_limit (const struct q2_space *space,
                                const struct q2_io *io)
  __attribute__ ((__nonnull__));

/* Find exactly 'nr' free clusters that follow each other, in the file and no
 * metadata; they stay free.  Called with claim_lock, which keeps others from
 * finding them.  Returns 0, Q2_SPACE_COMMIT_FIRST or -1.
 */
extern int q2_space_find_run (struct q2_space *space, const struct q2_io *io,
                              uint64_t nr, uint64_t *ret_cluster,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Whether these clusters are free, and then in the file and no metadata.
 * Called with claim_lock, as above.
 */
extern int q2_space_is_run_free (struct q2_space *space,
                                 const struct q2_io *io, uint64_t cluster,
                                 uint64_t nr, bool *ret_free,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* A search for single clusters that began at 'start' has passed over nothing
 * that is free up to 'end', and the next one need not look there again.  If
 * something became free meanwhile, it has to.
 */
extern void q2_space_advance_locked (struct q2_space *space, uint64_t start,
                                     uint64_t end)
  __attribute__ ((__nonnull__));

/* Where such a search begins. */
extern uint64_t q2_space_first_to_look (struct q2_space *space)
  __attribute__ ((__nonnull__));

/* Reserve a window for the stream.  Called with claim_lock.  Returns 0,
 * Q2_SPACE_COMMIT_FIRST or -1.
 */
extern int q2_space_claim (struct q2_space *space, const struct q2_io *io,
                           uint64_t stream, uint64_t want,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_ALLOC_SPACE_IMPL_H */
