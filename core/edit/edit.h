/* SPDX-License-Identifier: BSD-3-Clause */
/* edit.h - a change of an open image itself, rather than of its disk.
 *
 *   q2_edit_begin     prepare the image, hold changes back, make all that they
 *                     have done durable
 *   q2_edit_alloc     clusters for new structures, to which nothing points
 *   q2_edit_write
 *   q2_edit_raise     references to clusters that new structures name, too
 *   q2_edit_commit    all of that is durable, refcounts first
 *   q2_edit_switch    commit, then change the header: the one moment from
 *                     which the image is the new one
 *   q2_edit_let_go    what the old header named, to be free after a commit
 *   q2_edit_end       commit, or take back what was made in vain
 *
 * What already is in the file may change before the switch, too, if the old
 * image is the same with it and without it: then q2_edit_keep comes first.
 *
 * Until the switch a failure, or a crash, leaves the old image, perhaps with
 * leaks; from it on the new one.  Reads and flushes go on meanwhile; they see
 * the image as q2_tables and the superblock have it.
 *
 * One edit of an image at a time: the gate is closed from begin to end, or, if
 * the edit takes care of what others change meanwhile, claimed (beside).
 */
#ifndef QCOW2_EDIT_EDIT_H
#define QCOW2_EDIT_EDIT_H

#include "edit/progress.h"
#include "image/image.h"

struct q2_edit {
  struct qcow2_image *image;
  struct q2_writer *w;
  struct q2_io io;
  struct q2_frees made;         /* handed out or raised, not yet the image's */
  bool begun;                   /* and not ended */
  bool beside;                  /* now, changes of the disk go on */
  bool switched;                /* the header may name what was made */
  enum qcow2_outcome outcome;   /* does it? */
  const char *done;             /* what is made then, a sentence for errors of
                                   what follows; or NULL */
  bool aside;                   /* QCOW2_ERR_CORRUPT, now, is about something
                                   that the disk does not need: the image is
                                   not marked as corrupt */
};

enum q2_edit_kind {
  Q2_EDIT_IMAGE,                /* the disk reads as before: bitmaps of it stay
                                   true, and are left alone */
  Q2_EDIT_DISK,                 /* enabled bitmaps are marked as in use first,
                                   as by a guest's write */
  Q2_EDIT_BITMAPS,              /* as IMAGE; also if the bitmap directory is
                                   broken, which the caller repairs */
};

/* Fail if the image cannot be changed at all; 'what' as for q2_edit_begin,
 * which does this, too.  Nothing has been written then, which is why those who
 * have more to refuse do that between the two.
 */
extern int q2_edit_check (const struct qcow2_image *image, const char *what,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Changes that have begun do not end: fail with QCOW2_ERR_BUSY. */
extern int q2_edit_fail_busy (const char *what, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make durable what there is, while changes go on: they have to wait for less
 * when the gate is closed then.  q2_edit_begin does this.
 */
extern int q2_edit_commit_ahead (struct qcow2_image *image,
                                 const struct qcow2_io *host,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* 'what' the caller is about to do, for errors: "snapshots cannot be
 * created".  -1: it has not begun.
 */
extern int q2_edit_begin (struct q2_edit *edit, struct qcow2_image *image,
                          const struct qcow2_io *host, enum q2_edit_kind kind,
                          const char *what, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same if the caller has closed the gate already.  From then on the edit
 * has: its end opens it.  -1: it is still closed, and the caller's.
 */
extern int q2_edit_begin_closed (struct q2_edit *edit,
                                 struct qcow2_image *image,
                                 const struct qcow2_io *host,
                                 enum q2_edit_kind kind, const char *what,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same if the caller has only claimed the gate, and the kind is
 * Q2_EDIT_IMAGE: the disk changes on.  The gate is closed for a moment, in
 * which nothing is read or written.  -1: it is claimed as before.
 */
extern int q2_edit_begin_beside (struct q2_edit *edit,
                                 struct qcow2_image *image,
                                 const struct qcow2_io *host,
                                 const char *what, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Hold changes back, for at most 'ms' milliseconds until none runs, and let
 * them go on.
 */
extern int q2_edit_freeze (struct q2_edit *edit, const char *what, unsigned ms,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_edit_thaw (struct q2_edit *edit) __attribute__ ((__nonnull__));

/* Go on as one that was begun with the gate closed, and has made things: until
 * the end changes are held back.  -1: it is beside as before.
 */
extern int q2_edit_close (struct q2_edit *edit, const char *what,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* 'bytes' (not 0) in whole clusters that follow each other; what is in them
 * is undefined.  'class' as for q2_overlap_add; Q2_META_NONE: data.
 */
extern int q2_edit_alloc (struct q2_edit *edit, uint64_t bytes,
                          enum q2_meta_class class, uint64_t *ret_host_off,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Up to 'want' clusters for data, in one run; for whoever takes more of them
 * if there are fewer.  'stream' as for q2_space_alloc.
 */
extern int q2_edit_alloc_some (struct q2_edit *edit, uint64_t stream,
                               uint64_t want, uint64_t *ret_host_off,
                               uint64_t *ret_nr, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Write to clusters of that class. */
extern int q2_edit_write (struct q2_edit *edit, const void *buf, uint64_t len,
                          uint64_t host_off, enum q2_meta_class class,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* One more reference to each of the clusters: see q2_space_raise. */
extern int q2_edit_raise (struct q2_edit *edit, uint64_t cluster, uint64_t nr,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Wait until all requests have ended that were running when this was called:
 * of what was read of the image before, readers use nothing any more.  'what'
 * as for q2_edit_begin.
 */
extern int q2_edit_settle (struct q2_edit *edit, const char *what,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Something in the file is going to name all that was made so far: it is not
 * given back any more, at worst leaked.
 */
extern void q2_edit_keep (struct q2_edit *edit) __attribute__ ((__nonnull__));

/* What was made since the last q2_edit_keep, or since the beginning, was made
 * in vain, and nothing in the file names it: give it back.
 */
extern void q2_edit_take_back (struct q2_edit *edit)
  __attribute__ ((__nonnull__));

/* The same for some of it, which must have been handed out as one. */
extern int q2_edit_give_back (struct q2_edit *edit, uint64_t cluster,
                              uint64_t nr, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make durable, in the order of docs/ORDERING.md, all that was done. */
extern int q2_edit_commit (struct q2_edit *edit, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Commit, then change the header: see q2_superblock_change. */
extern int q2_edit_switch (struct q2_edit *edit, q2_superblock_edit_fn fn,
                           void *opaque, unsigned flags,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5), __warn_unused_result__));

/* Whether q2_edit_switch would refuse a header like that one, which is not
 * written: before anything is done that takes long, or leaves traces.  'flags'
 * as for q2_superblock_change.
 */
extern int q2_edit_try (struct q2_edit *edit, q2_superblock_edit_fn fn,
                        void *opaque, unsigned flags, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5), __warn_unused_result__));

/* The image does not refer to these clusters any more, durably: take one
 * reference from each, and what class they had.  Without memory they are
 * leaked.
 */
extern void q2_edit_let_go (struct q2_edit *edit, uint64_t cluster,
                            uint64_t nr) __attribute__ ((__nonnull__));

/* The same for a table of 'len' bytes, perhaps none. */
extern void q2_edit_let_go_bytes (struct q2_edit *edit, uint64_t host_off,
                                  uint64_t len) __attribute__ ((__nonnull__));

/* End it, and let changes go on.  'result' is what came of it.  If that is -1
 * and the header was not switched what was made is given back; else all is
 * committed.  Returns what the caller is to return; with err->outcome.
 */
extern int q2_edit_end (struct q2_edit *edit, int result,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same, and the gate stays closed: it is the caller's again. */
extern int q2_edit_end_closed (struct q2_edit *edit, int result,
                               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same, and the image is not to be used any more: it is ended as by
 * qcow2_end, since what is open of it is not what the file has.  If the header
 * was not switched it can be used on; if it was, and this fails, nothing more
 * is written.
 */
extern int q2_edit_end_last (struct q2_edit *edit, int result,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* After q2_edit_end_last: cut the file at the end of what is in use, which is
 * at 'end', or has to be looked for if that is 0.  Where that is not possible
 * the space has been given back all the same.
 */
extern void q2_edit_cut_file (struct q2_edit *edit, uint64_t end)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_EDIT_EDIT_H */
