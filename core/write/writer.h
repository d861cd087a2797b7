/* SPDX-License-Identifier: BSD-3-Clause */
/* writer.h - the write side of an image.
 *
 * write.c     guest writes: in place, or into new clusters
 * allocate.c  writing where an entry has to change: new clusters, copy on
 *             write
 * room.c      space for that, and whether a place that an entry names can be
 *             trusted
 * change.c    how a request waits
 * bitmaps.c   bitmaps that are kept up
 * load.c      entries, as they are in memory
 * entries.c   entries that are changed, and L2 tables of our own
 * sharing.c   L2 tables while a snapshot is being taken
 * zero.c      zeroing and trimming
 * guest.c     what becomes of a guest's write: zeros, compressed clusters
 * pack.c      compressing clusters
 * pack_put.c  putting their streams into the file
 * commit.c    making it durable: who does, and who waits for it
 * steps.c     ... in the order of docs/ORDERING.md
 * batches.c   what commits have let go, until it is free
 * watch.c     what a check has to know of changes
 * metadata.c  where metadata is, which must not be overwritten
 * protect.c   such metadata that has to be looked for
 * activate.c  what happens before the first write, and at the end
 * unclosed.c  images that were not closed
 * features.c  feature bits, and what errors mean for the image
 * states.c    what may be done to the image
 *
 * Locks (docs/LOCKING.md): 'clusters' and 'l1' are range locks that are held
 * over I/O by the request that is changing those entries; link_lock guards
 * the entries and the list of what they let go, for a few instructions.
 *
 * A request is "in flight" (base/flight.h) while it uses host offsets that it
 * has looked up.  It is not while it waits for another request, or for a
 * commit, or else two could wait for each other.
 */
#ifndef QCOW2_WRITE_WRITER_H
#define QCOW2_WRITE_WRITER_H

#include "check/repair.h"
#include "alloc/space.h"
#include "base/budget.h"
#include "base/flight.h"
#include "base/lock.h"
#include "base/plant.h"
#include "base/ranges.h"
#include "codec/compressor.h"
#include "read/reader.h"
#include "format/entry.h"
#include "meta/superblock.h"
#include "track/since.h"
#include "track/track.h"
#include "write/sharing.h"
#include "write/states.h"

#include <time.h>

/* What an image is prepared for. */
enum q2_purpose {
  Q2_FOR_DISK,                  /* its disk changes */
  Q2_FOR_IMAGE,                 /* the disk stays as it is, so that bitmaps
                                   stay true */
  Q2_FOR_BITMAPS,               /* and entries of the bitmap directory, and
                                   what they lead to, may be broken */
};

/* What a commit has let go, until no request uses it any more. */
struct q2_batch {
  struct q2_batch *next;
  struct q2_frees frees;
  size_t sorted;                /* how many runs there were when they were
                                   sorted the last time */
  uint64_t stamp;               /* see q2_flight_stamp */
};

/* How long a request waits for others to let go of space. */
#define Q2_WRITER_PATIENCE_MS 30000

struct q2_writer {
  /* Constant once the image is open: */
  const struct q2_geometry *geo;
  struct q2_superblock *superblock;     /* the image's */
  struct q2_reader *reader;
  struct q2_tables *tables;     /* the reader's */
  struct q2_store *store;       /* the image's */
  enum qcow2_discard discard;
  bool keep_snapshot_space;
  enum qcow2_overlap_check overlap_check;
  enum qcow2_setting lazy;      /* KEEP: as the header says */
  bool ahead;                   /* refcounts are raised in the file before
                                   there is need (alloc/ahead.c) */
  qcow2_log_fn log;
  void *log_opaque;
  qcow2_corrupt_fn corrupt;     /* NULL: nobody wants to know */
  void *corrupt_opaque;
  struct q2_track track;        /* see there; 'first' is no constant */
  struct q2_since *since;       /* what changes from a moment on; changed while
                                   the gate is closed; NULL: nobody asks */
  struct qcow2_scan first_scan; /* at opening; ns 0: none */
  unsigned patience_ms;         /* tests have less */
  bool compress;                /* whole clusters of what is written */
  enum qcow2_detect_zeroes detect_zeroes;
  struct q2_compressors *compressors;   /* owned; NULL if it is only read */
  struct qcow2_budget *budget;  /* the image's */

  /* Changed by the functions of states.h only: */
  _Atomic enum q2_writer_state state;
  _Atomic bool prepared;        /* once it was active */
  _Atomic uint64_t disk_epoch;  /* odd: and what changes of the disk make
                                   untrue is marked (ORDER-7) */

  _Atomic bool miscounted;      /* a change of the image has set the dirty bit,
                                   since refcounts may be too high */

  struct q2_mutex activate_lock;        /* guards: */
  pthread_cond_t activated;             /* it is no more */
  bool activating;              /* and while that is set, whoever has set it
                                   has for himself, as opening has: */
  struct q2_repair *repair;     /* to be written first; NULL: none */
  enum q2_unclosed_state unclosed;
  struct qcow2_error repair_error;      /* why it is unrepairable */

  /* Constant, and not NULL, from the moment 'prepared' is set; before that
   * theirs who prepare the image:
   */
  struct q2_overlap *overlap;
  struct q2_space *space;
  bool bitmaps_known;           /* protect.c has looked at all of them */
  bool bitmaps_share;           /* and seen a cluster that two have in common
                                   */

  /* Guard themselves: */
  struct q2_flight flight;
  struct q2_ranges clusters;    /* of the disk, whose entries change */
  struct q2_ranges l1;          /* L1 entries that change */
  struct q2_sharing sharing;    /* tables of a snapshot that is being taken */

  struct q2_mutex solid_lock;   /* one thread at a time makes tables solid
                                   (meta/tables.h), and guards: */
  unsigned char *new_tables;    /* a bit for each L1 entry: its table was
                                   written as a whole; NULL: none was */

  struct q2_mutex link_lock;    /* guards entries, and: */
  struct q2_frees unlinked;     /* since the last commit's step 1 */
  bool data_first;              /* an entry has changed since then that must
                                   not be durable before its data is */
  bool hopeful;                 /* and one that may be, or could if the file's
                                   size were durable */
  struct q2_suspects *suspects; /* to be told of changes, or NULL; see watch.c
                                   */

  struct q2_mutex commit_lock;  /* guards: */
  pthread_cond_t committed;
  uint64_t gathering;           /* number of the commit not yet begun */
  uint64_t finished;            /* the last one that succeeded */
  bool committing;
  struct q2_batch *first_batch, **last_batch;

  struct q2_mutex release_lock; /* one thread at a time releases */

  /* Atomics.  Runs of clusters: in the commit that is running, and in batches.
   * Each is counted in 'unlinked' or in one of these until its space is free.
   */
  _Atomic uint64_t nr_committing, nr_pending;
  _Atomic uint64_t releases;    /* how often space became free */
  _Atomic uint64_t commits;
  _Atomic uint64_t short_commits;       /* of these: changed tables, and took
                                           one flush */
  _Atomic unsigned exact;       /* so many want refcounts in the file to be
                                   what they are */
  _Atomic unsigned packing;     /* requests that are compressing */
};

static inline struct q2_header
q2_writer_header (const struct q2_writer *w)
{
  return q2_superblock_header (w->superblock);
}

/* Whether the dirty bit is set while the image is written to. */
static inline bool
q2_writer_is_lazy (const struct q2_writer *w)
{
  return w->lazy == QCOW2_SETTING_KEEP
    ? q2_writer_header (w).compatible & Q2_COMPAT_LAZY_REFCOUNTS
    : w->lazy == QCOW2_SETTING_ON;
}

/* The dirty bit is set, durably: whoever opens the image after a crash counts
 * its refcounts anew (ORDER-8).
 */
static inline bool
q2_writer_is_marked (const struct q2_writer *w)
{
  return q2_superblock_is_dirty_surely (w->superblock);
}

/* Of a clock that is never set. */
static inline uint64_t
q2_now_ms (void)
{
  struct timespec now;

  clock_gettime (CLOCK_MONOTONIC, &now);
  return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

/* A line for the caller's log, if there is one. */
static inline void
q2_writer_log (const struct q2_writer *w, enum qcow2_log_level level,
               const char *text, enum qcow2_advice advice)
{
  if (w->log)
    w->log (w->log_opaque, level, text, advice);
}

/* A request that changes the disk, on the stack of its thread. */
struct q2_change {
  struct q2_writer *w;
  const struct q2_io *io;
  unsigned token;               /* see q2_flight_enter */
};

static inline void
q2_change_enter (struct q2_change *c)
{
  c->token = q2_flight_enter (&c->w->flight);
}

static inline void
q2_change_leave (struct q2_change *c)
{
  q2_flight_leave (&c->w->flight, c->token);
}

/* ---- change.c: waiting, out of flight --------------------------------- */

extern int q2_change_commit (struct q2_change *change,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Lock clusters [first, end) of the disk, w->clusters; false if somebody else
 * had some of them, who is done now: then look again.
 */
extern bool q2_change_hold (struct q2_change *change, struct q2_range *range,
                            uint64_t first, uint64_t end)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same for those who are going to need space: nor if too much has been
 * changed, which has been committed then.
 */
extern int q2_change_hold_for_new (struct q2_change *change,
                                   struct q2_range *range, uint64_t first,
                                   uint64_t end, bool *ret_held,
                                   struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- bitmaps.c: -1 makes the image unusable ---------------------------- */

/* Bitmaps that are to be kept true in the file get clusters for all of their
 * bits, durably; those for which that fails are marked as in use.  No change
 * of the disk is running.
 */
extern int q2_writer_fill_bitmaps (struct q2_writer *w,
                                   const struct q2_io *io,
                                   struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* A request is about to change these bytes: returns when bitmaps know. */
extern int q2_writer_track (struct q2_writer *w, const struct q2_io *io,
                            uint64_t count, uint64_t guest_off,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Call it every few seconds; true now and then: call the next one, which is
 * q2_track_retire, inside the gate.
 */
extern bool q2_writer_may_retire_bitmaps (struct q2_writer *w)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_writer_retire_bitmaps (struct q2_writer *w,
                                     const struct q2_io *io,
                                     struct q2_gate *gate,
                                     struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Bitmaps that are kept true in the file become exact there, durably.  No
 * change is running.
 */
extern int q2_writer_settle_bitmaps (struct q2_writer *w,
                                     const struct q2_io *io,
                                     struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The disk is about to become another one: none is kept up any more, and all
 * that were are marked as in use, durably.  The gate is closed.
 */
extern int q2_writer_give_up_bitmaps (struct q2_writer *w,
                                      const struct q2_io *io,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

extern void q2_writer_init (struct q2_writer *w) __attribute__ ((__nonnull__));
extern void q2_writer_destroy (struct q2_writer *w)
  __attribute__ ((__nonnull__));

/* ---- The requests: see the functions of qcow2.h with these names ---- */

extern int q2_writer_pwrite (struct q2_writer *w, const struct q2_io *io,
                             const void *buf, uint64_t count,
                             uint64_t guest_off, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* The same, with the clusters compressed: whole ones. */
extern int q2_writer_pwrite_compressed (struct q2_writer *w,
                                        const struct q2_io *io,
                                        const void *buf, uint64_t count,
                                        uint64_t guest_off,
                                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* Fails if the image cannot have compressed clusters. */
extern int q2_writer_can_compress (const struct q2_writer *w,
                                   struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* What a guest writes: in the way that w->compress and w->detect_zeroes say.
 */
extern int q2_writer_pwrite_guest (struct q2_writer *w,
                                   const struct q2_io *io, const void *buf,
                                   uint64_t count, uint64_t guest_off,
                                   struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_writer_zero (struct q2_writer *w, const struct q2_io *io,
                           uint64_t count, uint64_t guest_off,
                           unsigned flags, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_writer_trim (struct q2_writer *w, const struct q2_io *io,
                           uint64_t count, uint64_t guest_off,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- metadata.c ----------------------------------------------------- */

/* Add the metadata that the header and L1 tables tell of to w->overlap;
 * refcount blocks are added by q2_space_new.
 */
extern int q2_writer_add_metadata (struct q2_writer *w,
                                   const struct q2_io *io,
                                   struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- protect.c ------------------------------------------------------ */

/* Add bitmaps and the L2 tables of snapshots, within bounds. */
extern int q2_writer_protect (struct q2_writer *w, const struct q2_io *io,
                              enum q2_purpose purpose,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- unclosed.c ----------------------------------------------------- */

/* When it is opened: find out what has to be repaired, if it was not closed.
 * If that cannot be done the first change fails.  'known': see qcow2_options,
 * or NULL.
 */
extern void q2_writer_first_scan (struct q2_writer *w, const struct q2_io *io,
                                  const struct qcow2_scan *known)
  __attribute__ ((__nonnull__ (1, 2)));
/* Before the first change. */
extern int q2_writer_repair (struct q2_writer *w, const struct q2_io *io,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- activate.c ----------------------------------------------------- */

/* Prepare the image for the first change, if that has not been done; fails if
 * the image must not be changed any more.
 */
extern int q2_writer_begin (struct q2_writer *w, const struct q2_io *io,
                            enum q2_purpose purpose, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Enabled bitmaps of the file, except those that are marked there, are as true
 * as when this number was even and the same.
 */
static inline uint64_t
q2_writer_disk_epoch (const struct q2_writer *w)
{
  return atomic_load (&w->disk_epoch);
}

static inline bool
q2_writer_is_for_disk (const struct q2_writer *w)
{
  return q2_writer_disk_epoch (w) % 2 == 1;
}

/* The bitmap is kept up, in the file or in memory.  The caller is inside the
 * gate.
 */
extern bool q2_writer_keeps_bitmap (struct q2_writer *w,
                                    const struct q2_bitmap *bitmap)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The image has made new promises: the next change of the disk takes them
 * back.  The gate is closed.
 */
extern void q2_writer_renew_promises (struct q2_writer *w)
  __attribute__ ((__nonnull__));

/* See qcow2_flush. */
extern int q2_writer_flush (struct q2_writer *w, const struct q2_io *io,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* See qcow2_end. */
extern int q2_writer_end (struct q2_writer *w, const struct q2_io *io,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* It has other tables, and another geometry; nobody else uses it. */
extern void q2_writer_forget_new_tables (struct q2_writer *w)
  __attribute__ ((__nonnull__));

/* ---- features.c ----------------------------------------------------- */

/* ORDER-7: durable when it returns.  Bitmaps are left alone unless the disk is
 * going to change.
 */
extern int q2_writer_take_back_promises (struct q2_writer *w,
                                         const struct q2_io *io,
                                         enum q2_purpose purpose,
                                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* From now on refcounts in the file may be higher than they should: set the
 * dirty bit durably, so that whoever opens the image after a crash counts
 * anew.  Does nothing in version 2.
 */
extern int q2_writer_mark_miscounted (struct q2_writer *w,
                                      const struct q2_io *io,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* They are right again, durably: clear the bit, unless there are other reasons
 * for it.
 */
extern int q2_writer_unmark_miscounted (struct q2_writer *w,
                                        const struct q2_io *io,
                                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Everything is durable: clear the dirty bit, if it is ours. */
extern int q2_writer_mark_closed (struct q2_writer *w, const struct q2_io *io,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* After an error of a change: if it means that the image is corrupt, mark it
 * so and stop writing; if it means that we are wrong, only stop writing.
 */
extern void q2_writer_note_error (struct q2_writer *w,
                                  const struct q2_io *io,
                                  const struct qcow2_error *err)
  __attribute__ ((__nonnull__));

/* ---- steps.c -------------------------------------------------------- */

/* One commit; on failure all that it has copied waits for the next one.  No
 * other runs.
 */
extern int q2_writer_take_steps (struct q2_writer *w, const struct q2_io *io,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- commit.c ------------------------------------------------------- */

/* Make durable what was done before this call.  Not in flight. */
extern int q2_writer_commit (struct q2_writer *w, const struct q2_io *io,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same, and leaves what is let go by it for others to release. */
extern int q2_writer_commit_only (struct q2_writer *w, const struct q2_io *io,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same as q2_writer_commit for a request that needs space: it waits for a
 * commit of another thread for w->patience_ms at most.  Returns 0, -1, or
 * Q2_WRITER_HUNG without an error.
 */
#define Q2_WRITER_HUNG 3        /* none of Q2_SPACE_... */
extern int q2_writer_commit_for_space (struct q2_writer *w,
                                       const struct q2_io *io,
                                       struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* From now on, until as many have released them, commits write refcounts as
 * they are: none ahead of need (ORDER-1), none late.  The caller makes the
 * first of these commits.
 */
static inline void
q2_writer_hold_refcounts (struct q2_writer *w)
{
  atomic_fetch_add (&w->exact, 1);
}

static inline void
q2_writer_release_refcounts (struct q2_writer *w)
{
  q2_check (atomic_fetch_sub (&w->exact, 1) > 0);
}

/* Something waits for a commit, or for being released after one. */
extern bool q2_writer_is_dirty (struct q2_writer *w)
  __attribute__ ((__nonnull__));

/* So much has been changed that it is time for a commit. */
extern bool q2_writer_is_pressed (struct q2_writer *w)
  __attribute__ ((__nonnull__));

/* ---- watch.c: for a check of an image that is being written to --------- */

/* From now on the suspects (base/suspects.h) are told of every change of a
 * reference or a refcount; NULL: no more.  What changes otherwise, by an edit
 * of the image, is for the caller to know.
 */
extern void q2_writer_watch (struct q2_writer *w,
                             struct q2_suspects *suspects)
  __attribute__ ((__nonnull__ (1)));

/* What was let go before the first of these calls, which has *last ==
 * Q2_DRAIN_BEGIN, is free, durably unlinked.  Returns 0, -1, or, without an
 * error, Q2_WRITER_HUNG after about 'ms' milliseconds: requests still use it,
 * or there is much of it; then call it again.  Not in flight.
 */
#define Q2_DRAIN_BEGIN UINT64_MAX
extern int q2_writer_drain (struct q2_writer *w, const struct q2_io *io,
                            unsigned ms, uint64_t *last,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Suspect number 'i', which has 'count' users, as has been counted since it is
 * watched.
 */
struct q2_leak {
  const struct q2_suspects *suspects;
  size_t i;
  uint64_t count;
};
/* Look at its refcount; *ret_same: it is as it was when the suspects began to
 * be watched, and so are the references.  With 'lower' a refcount that is
 * higher than the count, then, becomes that, in the same moment.
 */
extern int q2_writer_judge (struct q2_writer *w, const struct q2_io *io,
                            const struct q2_leak *leak, bool lower,
                            uint64_t *ret_refcount, bool *ret_same,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Refcounts of up to 'nr' clusters from 'cluster' on: at least one, and
 * *ret_nr of them.
 */
extern int q2_writer_refcounts (struct q2_writer *w, const struct q2_io *io,
                                uint64_t cluster, uint64_t nr,
                                uint64_t *ret_values, uint64_t *ret_nr,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- batches.c ------------------------------------------------------ */

/* The clusters that a commit has unreferenced wait to be released; empties
 * 'frees' and takes 'batch', which is memory for it.
 */
extern void q2_writer_add_batch (struct q2_writer *w, struct q2_frees *frees,
                                 struct q2_batch *batch)
  __attribute__ ((__nonnull__ (1, 2)));

/* Release the clusters that commits have unreferenced until now, and that no
 * request uses any more.  A thread that is doing that already is waited for,
 * 'ms' milliseconds at most.  Returns 0, -1, or, without an error,
 * Q2_SPACE_COMMIT_FIRST or Q2_WRITER_HUNG.
 */
extern int q2_writer_release (struct q2_writer *w, const struct q2_io *io,
                              unsigned ms, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same, for a thread that is in no hurry, as that of a check, which may be
 * given little of the processor: it holds the lock for a moment at a time, so
 * that who commits meanwhile releases space at its own pace.  What was let go
 * until the flight's stamp 'last' is released; Q2_WRITER_HUNG: not all of it
 * in 'ms' milliseconds, so call it again.
 */
extern int q2_writer_release_gently (struct q2_writer *w,
                                     const struct q2_io *io, uint64_t last,
                                     unsigned ms, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Wait until everybody who is in flight now has left, for 'ms' milliseconds at
 * most; false if somebody has not.  Not in flight.
 */
extern bool q2_writer_settle (struct q2_writer *w, unsigned ms)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- room.c --------------------------------------------------------- */

/* It is to be written where it is, because an entry says so: fail if its
 * refcount is 0, so that somebody else could get it at any moment, if it does
 * not begin in the file, or if it is metadata.  As long as the caller is in
 * flight it stays what it is.  Returns 0, Q2_SPACE_COMMIT_FIRST or -1.
 */
extern int q2_writer_check_trusted (const struct q2_change *c,
                                    uint64_t host_off, uint64_t len,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Clusters for a stream, see q2_space_alloc; when there is no space, what
 * waits to be released is waited for.  Leaves and enters meanwhile.
 */
extern int q2_writer_alloc (struct q2_change *c, uint64_t stream,
                            uint64_t want, struct q2_space_run *ret_run,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same for room for compressed clusters, see q2_space_alloc_bytes. */
extern int q2_writer_alloc_bytes (struct q2_change *c, const uint32_t *sizes,
                                  size_t nr, size_t *ret_nr,
                                  uint64_t *ret_host_off,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* These clusters read as zeros after a crash, whatever becomes of what is
 * written there now; *ret_hopeful: they do if the file is that large then,
 * which has to be made durable first.
 */
extern bool q2_writer_is_unused (const struct q2_change *c,
                                 const struct q2_space_run *run,
                                 bool *ret_hopeful)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* What entries that will be let go refer to is in the file, which has not
 * grown for what takes their place yet.
 */
extern int q2_writer_check_old (const struct q2_change *c,
                                const struct q2_entry *e, uint64_t nr,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- allocate.c ----------------------------------------------------- */

/* Write guest bytes to clusters whose entries have to change for that: as
 * much as can be done in one go.  The caller holds the clusters of the range
 * and is in flight.  *ret_done may be 0: the entries are not as the caller
 * thought.
 */
extern int q2_writer_write_new (struct q2_change *c, const void *buf,
                                uint64_t count, uint64_t guest_off,
                                uint64_t *ret_done, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- load.c --------------------------------------------------------- */

/* Load up to 'max' entries from a cluster of the disk on, as many as its
 * slice has; all unallocated if there is no table.
 */
#define Q2_MAX_ENTRIES 512
extern int q2_writer_load (struct q2_change *c, uint64_t guest_cluster,
                           uint64_t max, struct q2_entry *ret_entries,
                           uint64_t *ret_nr, bool *ret_table_owned,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* All entries of the table of a non-empty L1 entry, as they are in memory. */
extern int q2_writer_read_table (struct q2_change *c, uint64_t l1_index,
                                 unsigned char *ret_table,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- entries.c ------------------------------------------------------ */

/* The table of the L1 entry may be changed: make one, or a copy of one that
 * is shared.  May leave and enter.
 */
extern int q2_writer_own_table (struct q2_change *c, uint64_t l1_index,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Replace the entries of 'nr' clusters from cluster number 'guest_cluster'
 * on, all in one slice of a table that may be changed, by the raw ones given;
 * of each old entry for which let_go is true the clusters are let go.  May
 * leave and enter.  The caller holds the clusters.
 */
struct q2_link {
  uint64_t guest_cluster, nr;
  const unsigned char *raw;
  const struct q2_entry *old;
  const bool *let_go;
  bool fresh;                   /* the entries are as good without the bytes
                                   that they refer to, if there are any: what
                                   is durable there reads as the disk did */
  bool hopeful;                 /* they would be if the file's size were
                                   durable */
};
extern int q2_writer_link (struct q2_change *c, const struct q2_link *link,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_WRITE_WRITER_H */
