/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmaps.h - the set of persistent bitmaps, on its way to be another one.
 *
 * bitmaps.c         actions, one after another, and the switch to the new set
 * bitmap_set.c      the set in memory, and its directory
 * bitmap_table.c    tables: made, claimed, released
 * bitmap_merge.c    a bitmap from several
 * bitmap_broken.c   a directory without the entries that make it unusable
 * bitmap_store.c    bitmaps that were kept up in memory (track/track.h)
 * bitmap_follow.c   a set that is made while the disk changes
 *
 * Nothing that the file has is changed until the header is: tables, bits and
 * the directory are always made anew.
 */
#ifndef QCOW2_EDIT_BITMAPS_H
#define QCOW2_EDIT_BITMAPS_H

#include "edit/edit.h"
#include "format/bitmap.h"
#include "meta/bitmaps.h"
#include "track/bitmap_reader.h"

/* One bitmap as it is to be.  Its name and extra data point into the old
 * directory, or to what the caller has passed.
 */
struct q2_bitmap_slot {
  struct q2_bitmap b;           /* table_offset 0: none of its bits is set, and
                                   it has no table yet */
  bool made;                    /* its table was made by this edit */
  bool enabled;                 /* by this edit */
  uint32_t hash;                /* of its name; q2_bitmap_set_add sets it */
};

/* A table that is no bitmap's any more, with the bits it refers to. */
struct q2_bitmap_table {
  uint64_t offset;
  uint32_t entries;
  bool made;                    /* by this edit */
};

struct q2_bitmap_set {
  struct q2_edit *edit;
  const struct q2_geometry *geo;
  struct q2_bitmap_dir old;     /* the directory of the file */
  struct q2_bitmap_slot *slots;
  size_t nr, max;
  struct q2_bitmap_table *dropped;
  size_t nr_dropped, max_dropped;
  bool changed;                 /* it differs from what the file has */
  bool alone;                   /* no two bitmaps share a cluster */
  bool live;                    /* the disk changes meanwhile, and what is kept
                                   up stays so (bitmap_follow.c) */
  bool has_pinned;              /* a view reads one that is to be disabled:
                                   q2_bitmaps_rehearse */
  struct q2_tracked *next;      /* to be kept up once this is the image's */
  struct q2_progress progress;

  /* The new directory, and the old one: */
  uint64_t dir_offset, dir_bytes;
  uint64_t old_dir_offset;      /* 0: none */
};

/* What is left when the caller cancels. */
#define Q2_BITMAPS_CANCELLED                                                  \
  "changing the bitmaps was cancelled; they are as they were"

/* ---- bitmaps.c -------------------------------------------------------- */

/* Fail if the image cannot have bitmaps. */
extern int q2_bitmaps_check_possible (const struct qcow2_image *image,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Fail if one of the part's actions would, as far as names, limits and open
 * views say: before anything is done that takes long.  The set is not to be
 * used any more.
 */
extern int q2_bitmaps_rehearse (struct q2_bitmap_set *set,
                                const struct qcow2_part *part,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* What has changed since the moment that the actions are of is added to those
 * bitmaps that they name, and that are enabled now.
 */
extern int q2_bitmaps_add_since (struct q2_bitmap_set *set,
                                 const struct qcow2_part *part,
                                 const struct q2_since *since,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Carry out the part's actions on the set. */
extern int q2_bitmaps_act (struct q2_bitmap_set *set,
                           const struct qcow2_part *part,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* That set is the image's: those that were kept up, and are named by the
 * part's actions, have been stored, or are gone.
 */
extern void q2_bitmaps_drop_tracked (struct q2_edit *edit,
                                     const struct qcow2_part *part)
  __attribute__ ((__nonnull__));

/* ---- bitmap_set.c ----------------------------------------------------- */

/* Load the set of the file.  Fails with QCOW2_ERR_CORRUPT if the directory has
 * an entry that breaks a rule, or two of one name.  On success the caller
 * destroys it.  Beside changes of the disk the set is for names only, unless
 * it is live: then what is not kept up any more is in use in it.
 */
extern int q2_bitmap_set_init (struct q2_bitmap_set *set,
                               struct q2_edit *edit, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_bitmap_set_init_live (struct q2_bitmap_set *set,
                                    struct q2_edit *edit,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* All zero is allowed, but for 'edit'. */
extern void q2_bitmap_set_destroy (struct q2_bitmap_set *set)
  __attribute__ ((__nonnull__));

/* log2 of the smallest granularity, of the largest possible if it is empty. */
extern unsigned q2_bitmap_set_finest (const struct q2_bitmap_set *set)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The bitmap of that name; NULL: there is none. */
extern struct q2_bitmap_slot *
q2_bitmap_set_find (const struct q2_bitmap_set *set,
                    const struct qcow2_name *name)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Add it at the end. */
extern int q2_bitmap_set_add (struct q2_bitmap_set *set,
                              const struct q2_bitmap_slot *slot,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

extern void q2_bitmap_set_remove (struct q2_bitmap_set *set,
                                  struct q2_bitmap_slot *slot)
  __attribute__ ((__nonnull__));

/* Two slots have the same name: the second of them, or NULL. */
extern int q2_bitmap_set_find_double (const struct q2_bitmap_set *set,
                                      const struct q2_bitmap_slot **ret,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Fail if a view reads the bitmap whose table is there. */
extern int q2_bitmap_set_check_pin (const struct q2_bitmap_set *set,
                                    uint64_t table_offset,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* In three steps, for a set that has changed or not: write tables that are
 * missing, and the directory; ...
 */
extern int q2_bitmap_set_prepare (struct q2_bitmap_set *set,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* ... if it has changed: change the header with that function, which calls the
 * one behind it with the set; ...
 */
extern int q2_bitmap_set_switch (struct q2_bitmap_set *set,
                                 q2_superblock_edit_fn fn, void *opaque,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 4), __warn_unused_result__));
extern int q2_bitmap_set_edit_header (void *set,
                                      struct q2_header_parts *parts,
                                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* ... and release what is no longer used. */
extern void q2_bitmap_set_finish (struct q2_bitmap_set *set)
  __attribute__ ((__nonnull__));

/* All of them, if the set has changed. */
extern int q2_bitmap_set_publish (struct q2_bitmap_set *set,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- bitmap_table.c --------------------------------------------------- */

/* Called for each entry of a table that is not 0, in order.  -1: stop. */
typedef int (*q2_bitmap_entry_fn) (void *opaque, uint64_t index,
                                   uint64_t entry, struct qcow2_error *err);

/* The table must lie in the file. */
extern int q2_bitmap_table_walk (const struct q2_io *io,
                                 const struct q2_bitmap_table *table,
                                 q2_bitmap_entry_fn fn, void *opaque,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 5), __warn_unused_result__));

/* Give the bitmap a table of the entries, or without any (NULL), of zeros. */
extern int q2_bitmap_table_make (struct q2_bitmap_set *set,
                                 struct q2_bitmap_slot *slot,
                                 const unsigned char *entries,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 4), __warn_unused_result__));

/* The bitmap does not have its table any more: it is released after the
 * switch.  Fails with QCOW2_ERR_CORRUPT if some of it is other metadata.
 */
extern int q2_bitmap_table_drop (struct q2_bitmap_set *set,
                                 struct q2_bitmap_slot *slot,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The clusters are no other metadata and not in 'mine', to which they are
 * added; else QCOW2_ERR_CORRUPT.
 */
extern int q2_bitmap_claim_alone (const struct q2_bitmap_set *set,
                                  struct q2_overlap *mine, uint64_t host_off,
                                  uint64_t len, enum q2_meta_class class,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* After the switch.  What cannot be released is leaked, with a line in the
 * log.
 */
extern void q2_bitmap_set_release (struct q2_bitmap_set *set,
                                   uint64_t old_dir_offset)
  __attribute__ ((__nonnull__));

/* ---- bitmap_merge.c --------------------------------------------------- */

/* Set all bits of the bitmap that one of the sources has set: bits of coarser
 * or finer granularity stand for the parts of the disk that they touch.  Calls
 * the progress function; all of it counts as 'total'.
 */
extern int q2_bitmap_merge (struct q2_bitmap_set *set,
                            struct q2_bitmap_slot *slot,
                            struct q2_bitmap_reader *sources, size_t nr,
                            uint64_t total, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- bitmap_store.c --------------------------------------------------- */

/* If the bitmap was kept up in memory: in this set it has its bits, and is not
 * in use.  Who publishes the set forgets what was in memory (q2_track_drop).
 */
extern int q2_bitmap_store_tracked (struct q2_bitmap_set *set,
                                    struct q2_bitmap_slot *slot,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Store the bitmaps that are kept up: the file has them exactly, they are not
 * in use, and are not kept up any more.  The gate is closed, and before it is
 * opened the caller calls q2_writer_renew_promises.  On failure they stay as
 * they are, and are kept up.
 */
extern int q2_bitmaps_write_back (struct qcow2_image *image,
                                  const struct qcow2_io *host,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- bitmap_follow.c -------------------------------------------------- */

/* The exact bits of a bitmap that is kept up, while changes run. */
struct q2_bitmap_copy {
  unsigned char *bits;          /* NULL: it is not kept up */
  uint64_t len;
};
extern int q2_bitmap_copy_make (const struct q2_bitmap_set *set,
                                const struct q2_bitmap *bitmap,
                                struct q2_bitmap_copy *ret,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_bitmap_copy_free (const struct q2_bitmap_set *set,
                                 struct q2_bitmap_copy *copy)
  __attribute__ ((__nonnull__));

/* The set is live: as q2_bitmap_store_tracked, with bits of at least all
 * changes that have begun.  It is kept up on until the set is published.
 */
extern int q2_bitmap_store_live (struct q2_bitmap_set *set,
                                 struct q2_bitmap_slot *slot,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Those that are enabled, and not kept up, are going to be: they get what that
 * needs in the file.  Before q2_bitmap_set_prepare.
 */
extern int q2_bitmap_set_make_next (struct q2_bitmap_set *set,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The set is live and prepared, and the gate is closed: the tracker follows
 * it.  Nothing is read or written.
 */
extern void q2_bitmap_set_follow (struct q2_bitmap_set *set,
                                  const struct q2_since *since)
  __attribute__ ((__nonnull__ (1)));

/* The gate is open again: the set becomes as true in the file as that of the
 * header.  If this fails, or the switch, q2_bitmap_set_unfollow lets go of it,
 * before anything that was made is given back; or else of the old one, before
 * q2_bitmap_set_finish.
 */
extern int q2_bitmap_set_catch_up (struct q2_bitmap_set *set,
                                   struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_bitmap_set_unfollow (struct q2_bitmap_set *set, bool switched)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_EDIT_BITMAPS_H */
