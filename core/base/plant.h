/* SPDX-License-Identifier: BSD-3-Clause */
/* plant.h - places where a test can plant a bug, mostly one of ordering.
 *
 * The crash tests must be able to show that they would notice.  In a core
 * compiled with -DQ2_PLANTS (the tests' own copy) the global q2_planted names
 * the bug to commit; everywhere else Q2_PLANTED is constant false and leaves
 * no trace in the code.
 */
#ifndef QCOW2_BASE_PLANT_H
#define QCOW2_BASE_PLANT_H

enum q2_plant {
  Q2_PLANT_NONE,
  Q2_PLANT_SKIP_FLUSH_2A,       /* no flush between refcounts and entries */
  Q2_PLANT_SKIP_FLUSH_2B,       /* none after linking refcount blocks */
  Q2_PLANT_EARLY_RELEASE,       /* free space before its unlink is durable */
  Q2_PLANT_EARLY_L1,            /* publish L1 entries before 2a's flush */
  Q2_PLANT_REUSE,               /* free space at once, without any commit */
  Q2_PLANT_RELEASE_GATHERING,   /* release what the next commit unlinks */
  Q2_PLANT_JOIN_RUNNING,        /* a flush is content with a running commit */
  Q2_PLANT_SKIP_DATA_FLUSH,     /* 2a flushes the image, not its data file */
  Q2_PLANT_TRIM_DATA,           /* a data file's clusters are trimmed before
                                   their entries are durable */
  Q2_PLANT_FORGET_BELOW,        /* copy on write takes zeros, not the bytes of
                                   the backing image */
  Q2_PLANT_ZEROS_ARE_ZEROS,     /* on an encrypted disk, too */
  Q2_PLANT_REWRITE_LIVE_TABLE,  /* a refcount table that the header names,
                                   after step 3 has failed */
  Q2_PLANT_REWRITE_DOUBTFUL_TABLE,      /* one it may name, after 2b has */
  Q2_PLANT_FREE_TABLE_EARLY,    /* a repair frees a refcount table that the
                                   header names */
  Q2_PLANT_REBUILD_IN_PLACE,    /* a new refcount block over the old one */
  Q2_PLANT_FORGET_TABLE,        /* one that has moved, if 2a or 2b fails */
  Q2_PLANT_EARLY_SWITCH,        /* the header names what is not durable */
  Q2_PLANT_LAZY_SWITCH,         /* and is not durable when it has */
  Q2_PLANT_BITMAPS_EARLY_RELEASE,       /* old bitmaps, before the switch */
  Q2_PLANT_BITMAPS_IN_PLACE,    /* a directory over the old one */
  Q2_PLANT_BITMAPS_KEEP_PROMISE,        /* a new one is not marked as in use
                                           by the next write */
  Q2_PLANT_BITMAPS_STORE_NOTHING,       /* no bits, when one that was kept up
                                           in memory is not in use any more */
  Q2_PLANT_BITMAPS_SET_NOTHING, /* no bits, when the disk changes */
  Q2_PLANT_BITMAPS_NO_FLUSH,    /* of them before the disk changes */
  Q2_PLANT_BITMAPS_EARLY_ENTRY, /* one that names bits that are not durable */
  Q2_PLANT_BITMAPS_RETIRE_ALL,  /* bits that are exact, too */
  Q2_PLANT_BITMAPS_RETIRE_KEPT, /* bits that the file has no more still count
                                   as durable */
  Q2_PLANT_BITMAPS_SET_LATE,    /* when the disk has changed */
  Q2_PLANT_BITMAPS_NO_MARK,     /* on one whose bits could not be written */
  Q2_PLANT_BITMAPS_NEXT_UNMARKED,       /* the next directory, while others
                                           write */
  Q2_PLANT_KEEP_COPIED,         /* entries of a table that is shared now */
  Q2_PLANT_KEEP_COPIED_L1,      /* the entry of that table */
  Q2_PLANT_FORGET_SHARING,      /* a write copies a table that has to be shared
                                   with a snapshot first */
  Q2_PLANT_COPY_FLAGS,          /* ... and COPIED flags with it */
  Q2_PLANT_SHARE_UNSETTLED,     /* a table as it is in the file, before what is
                                   in memory is there */
  Q2_PLANT_FORGET_SINCE,        /* what changes between the moment of a
                                   checkpoint and its bitmaps */
  Q2_PLANT_APPLY_FORGET,        /* what differs from the snapshot that is
                                   applied is in no bitmap */
  Q2_PLANT_APPLY_LATE,          /* or only when the disk is that already */
  Q2_PLANT_LOWER_EARLY,         /* refcounts, before a snapshot is gone */
  Q2_PLANT_OWN_UNMARKED,        /* entries, without the dirty bit meanwhile */
  Q2_PLANT_OWN_EARLY,           /* entries, before their refcount is durable */
  Q2_PLANT_LET_GO_EARLY,        /* what the old header names is let go before
                                   the switch */
  Q2_PLANT_CUT_EARLY,           /* what is behind the new end of the disk */
  Q2_PLANT_DROP_EARLY,          /* what L1 entries name, before they are
                                   durably empty */
  Q2_PLANT_EMPTY_EARLY,         /* an image is emptied before what it has is
                                   durable in its backing image */
  Q2_PLANT_COUNT_ONCE,          /* streams of a cluster count as one */
  Q2_PLANT_FORGET_DECOMPRESSED, /* to drop what was made of streams that are
                                   no more */
  Q2_PLANT_KEEP_DECOMPRESSED,   /* what was made of streams that only a
                                   snapshot had which is deleted */
  Q2_PLANT_FORGET_TOUCH,        /* nobody tells a check what he changes */
  Q2_PLANT_KEEP_AHEAD,          /* what was read ahead of what is written */
  Q2_PLANT_KEEP_LOADING,        /* ... of what is read ahead just then */
  Q2_PLANT_READ_CHANGING,       /* read ahead what is being written */
  Q2_PLANT_FRESH_OLD,           /* an entry counts as fresh whatever the disk
                                   had there, such as a layer below */
  Q2_PLANT_FRESH_REUSED,        /* ... in a cluster that was in use */
  Q2_PLANT_FRESH_NOISE,         /* ... on an encrypted disk */
  Q2_PLANT_FRESH_GROWTH,        /* ... in a file whose size is not durable */
  Q2_PLANT_FRESH_TABLE,         /* ... in an L1 table, for a new L2 table */
  Q2_PLANT_COVER_ALL,           /* no refcount is urgent */
  Q2_PLANT_COVER_EARLY,         /* they are covered before that is durable, or
                                   although it is not */
  Q2_PLANT_COVER_FREED,         /* covered ones are written as 0 if they are */
  Q2_PLANT_LAZY_CLEAN,          /* the dirty bit is cleared before the last
                                   commit, which does not look at it */
  Q2_PLANT_COVER_TAKEN,         /* those that are covered no more are written
                                   as 0, whatever they are */
  Q2_PLANT_LAZY_UNMARKED,       /* a lazy image is one without the dirty bit,
                                   too, which is not set */
  Q2_PLANT_LAZY_TRUST,          /* the dirty bit counts as set although a
                                   write that clears it has failed */
  Q2_PLANT_SKIP_REPAIR,         /* an image that was not closed is used as it
                                   is */
  Q2_PLANT_FORGET_FLAGS,        /* a commit that fails forgets that the next
                                   one needs two flushes */
  Q2_PLANT_FORGET_PENDING,      /* a check does not wait for what is let go,
                                   and not free yet */
};

#ifdef Q2_PLANTS
extern int q2_planted;          /* the test's */
#define Q2_PLANTED(name) (q2_planted == (name))
#else
#define Q2_PLANTED(name) (0)
#endif

#endif /* QCOW2_BASE_PLANT_H */
