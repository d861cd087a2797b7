/* SPDX-License-Identifier: BSD-3-Clause */
/* live.h - checking an image that is being written to.
 *
 * What is counted may be out of date a moment later.  So a first walk only
 * finds suspects, clusters of which something seems to be wrong, and a second
 * one counts their references while whoever changes any of them says so
 * (base/suspects.h).  What has not been touched from before the second walk
 * until it is judged had the same references, and the same refcount, all the
 * time; so they were counted exactly.
 *
 * Each L1 entry is one way to a cluster, and each way is looked at once.  L2
 * tables of the disk as it is now are read as they are in memory, the rest,
 * which only an edit of the image changes, in the file.  The caller knows of
 * edits, and forgets what was found meanwhile.
 */
#ifndef QCOW2_CHECK_LIVE_H
#define QCOW2_CHECK_LIVE_H

#include "base/suspects.h"
#include "check/recount.h"

/* The image as it is in memory, as the caller knows it.  All of them return
 * 0, or -1 with *err filled in.
 */
struct q2_live {
  void *opaque;
  uint64_t l1_entries;          /* of the disk; the file may have more */
  /* An L1 entry, and the table that it points to, all of it; nothing is read
   * if there is none, or 'ret_table' is NULL.
   */
  int (*read_table) (void *opaque, uint64_t l1_index, uint64_t *ret_entry,
                     unsigned char *ret_table, struct qcow2_error *err);
  /* Where the refcount table is, and up to 'max' entries of it: host offsets
   * of blocks, or 0.  *ret_nr is 0 at the end.
   */
  int (*blocks) (void *opaque, uint64_t first, uint64_t max,
                 uint64_t *ret_host_offs, uint64_t *ret_nr,
                 uint64_t *ret_table_off, uint64_t *ret_table_clusters,
                 struct qcow2_error *err);
  /* Refcounts of up to 'max' clusters; at least one.  The first one could not
   * be read if q2_is_unread_refcount.
   */
  int (*refcounts) (void *opaque, uint64_t cluster, uint64_t max,
                    uint64_t *ret_values, uint64_t *ret_nr,
                    struct qcow2_error *err);
  /* The first cluster from this one on that has a refcount block, or
   * UINT64_MAX.
   */
  uint64_t (*next_covered) (void *opaque, uint64_t cluster);
};

/* What has been counted of a suspect. */
struct q2_tally {
  uint64_t table_off, index;    /* of an entry of the disk as it is now that
                                   points to it */
  uint64_t l1_index;            /* of the L1 entry that it is, or that leads to
                                   it; UINT64_MAX: none in memory */
  uint32_t count;
  unsigned uses;                /* bit n: as enum q2_use n */
  unsigned flags;               /* Q2_COUNT_COPIED, _PLAIN */
  uint32_t copied, plain;       /* how many entries have the flag, or not */
};

/* What both walks need. */
struct q2_live_check {
  const struct q2_io *io;
  const struct q2_header *header;
  const struct q2_geometry *geo;
  const struct q2_live *live;
  struct q2_findings *findings; /* of the first walk: what needs no second
                                   look; only in the first window */
  struct q2_suspects *suspects;
  struct q2_tally *tallies;     /* as many */
  uint64_t memory;              /* bytes for counts */
  q2_progress_fn progress;      /* or NULL */
  void *opaque;
  uint64_t begin, stop;         /* the window: suspects are clusters in there;
                                   'stop' becomes lower if they, or memory, do
                                   not suffice */

  /* Results of the first walk: */
  uint64_t allocated, compressed;       /* clusters of the disk */
  uint64_t end;                 /* behind the last cluster in use */
  uint64_t unread_block;        /* one more than the index of the last refcount
                                   block that could not be read; 0: none.  The
                                   next window goes on with it */
  /* Of both: parts that were not walked. */
  uint64_t skipped;
};

/* From 'begin' on: find suspects, and sort them. */
extern int q2_live_suspect (struct q2_live_check *check,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* Count them: fills in the tallies. */
extern int q2_live_count (struct q2_live_check *check,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Two uses that exclude each other. */
static inline bool
q2_tally_overlaps (const struct q2_tally *t)
{
  const unsigned meta = 1u << Q2_USE_META;

  return (t->uses & (t->uses - 1)) != 0 ||
    ((t->uses & meta) != 0 && t->count > 1);
}

/* Flags of entries that contradict a refcount. */
static inline uint32_t
q2_tally_wrong_flags (const struct q2_tally *t, uint64_t refcount)
{
  return refcount == 1 ? t->plain : t->copied;
}

#endif /* QCOW2_CHECK_LIVE_H */
