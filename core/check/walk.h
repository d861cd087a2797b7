/* SPDX-License-Identifier: BSD-3-Clause */
/* walk.h - what the parts of counting references share: recount.c knows
 * everything that refers to clusters, walk_use.c counts one reference,
 * walk_tables.c reads tables of entries, walk_l2.c reads L2 tables, and
 * live_walk.c what is in memory of an image that is being written to.
 * Nobody else includes this.
 */
#ifndef QCOW2_CHECK_WALK_H
#define QCOW2_CHECK_WALK_H

#include "check/fetch.h"
#include "check/live.h"
#include "check/recount.h"

/* Tables are read in pieces of this size; a whole L2 table at least. */
#define Q2_WALK_PIECE (UINT64_C (1) << 20)

/* From so many bytes of tables on, holes are asked for. */
#define Q2_WALK_MANY_BYTES (UINT64_C (64) << 20)

/* After so many pieces that cannot be read, the rest of what is read at once
 * is tried as a whole: each failure may take seconds.
 */
#define Q2_WALK_MAX_FAILURES 8u

struct q2_walk {
  const struct q2_io *io;
  const struct q2_header *h;
  const struct q2_geometry *geo;
  struct q2_counts *counts;
  struct q2_findings *findings; /* NULL: the first fault ends the walk */
  struct q2_scope *window;     /* of a check, or NULL */
  bool silent;                  /* a fault has been told before */
  uint64_t overlaps, skipped;   /* clusters with two uses, and parts that were
                                   not walked, told or not */
  struct q2_work work;
  uint64_t max_bytes;           /* of memory; for the message */
  bool believe_holes;
  uint64_t table_bytes;         /* that were looked at */
  uint64_t hole_bytes;          /* of these, were not read */
  uint64_t file_size;
  unsigned char *buf;
  size_t buf_size;
  struct q2_fetch *fetch;       /* or NULL */
  uint64_t fetched_end;         /* the cluster behind the last L2 table that it
                                   was asked for */
  bool flags_are_wrong;
  uint64_t table_off, index;    /* of the entry that is looked at */
  uint64_t allocated, compressed;       /* clusters of the active disk */
  q2_progress_fn progress;      /* or NULL */
  void *opaque;
  unsigned percent;

  struct q2_live_check *live;   /* the image is being written to; or NULL */
  bool counting;                /* ... and the suspects are known */
  uint64_t l1_index;            /* ... of the entry in memory that has led
                                   here, or UINT64_MAX */
};

/* What refers to a cluster. */
struct q2_user {
  const char *what;
  enum q2_use use;
  uint32_t times;
  unsigned flags;               /* Q2_COUNT_* */
  bool may_be_missing;          /* from the end of the file on */
};

/* A fault.  Returns -1 with *err filled in, or, in a check, 0: it has been
 * reported, and the walk goes on without what is faulty.
 */
extern int q2_walk_fault (struct q2_walk *w, enum qcow2_finding_kind kind,
                          enum qcow2_advice advice, uint64_t host_off,
                          uint64_t len, struct qcow2_error *err,
                          const char *fmt, ...)
  __attribute__ ((__nonnull__, __format__ (printf, 7, 8), __cold__));

/* *err is about a part of the image that has not been walked.  Returns -1, or
 * 0 in a check that can go on without; then references have been missed.
 */
extern int q2_walk_skip (struct q2_walk *w, enum qcow2_finding_kind kind,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __cold__, __warn_unused_result__));

/* An entry of the disk has the COPIED flag, but no cluster that could. */
extern int q2_walk_stray_flag (struct q2_walk *w, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* [host_off, host_off+len), len > 0, wherever it begins in its cluster. */
extern int q2_walk_use_bytes (struct q2_walk *w, uint64_t host_off,
                              uint64_t len, const struct q2_user *user,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* What must begin at a cluster; len may be 0. */
extern int q2_walk_use_clusters (struct q2_walk *w, uint64_t host_off,
                                 uint64_t len, const struct q2_user *user,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* A table that nothing else may overlap. */
extern int q2_walk_use_table (struct q2_walk *w, uint64_t host_off,
                              uint64_t len, const char *what,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Whether the host is asked for holes. */
extern bool q2_walk_asks (const struct q2_walk *w)
  __attribute__ ((__nonnull__));

/* The next part of [host_off, end), which tables are in, that has to be read;
 * empty and at 'end' if there is none.
 */
extern void q2_walk_next_data (struct q2_walk *w, uint64_t host_off,
                               uint64_t end, uint64_t *ret_start,
                               uint64_t *ret_end)
  __attribute__ ((__nonnull__));

/* [host_off, host_off+len) of a table, into w->buf. */
extern int q2_walk_read (struct q2_walk *w, uint64_t len, uint64_t host_off,
                         enum qcow2_io_class class, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* What is done with a range of tables when it is in w->buf, and the pieces in
 * which it is tried if it cannot be read as a whole.
 */
struct q2_walk_use {
  uint64_t piece;
  enum qcow2_io_class class;
  int (*fn) (struct q2_walk *w, uint64_t host_off, uint64_t len,
             void *opaque, struct qcow2_error *err);
  void *opaque;
};

/* [host_off, host_off+len), which fits into w->buf; what cannot be read is
 * left out: see q2_walk_skip.
 */
extern int q2_walk_range (struct q2_walk *w, uint64_t len, uint64_t host_off,
                          const struct q2_walk_use *use,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

typedef int (*q2_walk_entry_fn) (struct q2_walk *w, uint64_t entry,
                                 void *opaque, struct qcow2_error *err);

/* Call fn for each entry that is not 0, of what the file has of a table. */
extern int q2_walk_entries (struct q2_walk *w, uint64_t host_off,
                            uint64_t len, enum qcow2_io_class class,
                            q2_walk_entry_fn fn, void *opaque,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 5, 7), __warn_unused_result__));

/* All L2 tables that have been counted. */
extern int q2_walk_l2_tables (struct q2_walk *w, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Entries of an L2 table at 'table_off', all of it, to which 'times' L1
 * entries point, 'active' ones among them.
 */
extern int q2_walk_l2_entries (struct q2_walk *w, uint64_t table_off,
                               const unsigned char *table, uint32_t times,
                               bool active, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* So many of 'total' are done: -1 if that is enough. */
extern int q2_walk_tell (struct q2_walk *w, uint64_t done, uint64_t total,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Bits of an entry that should be 0; only a check asks. */
extern int q2_walk_reserved (struct q2_walk *w, uint64_t entry,
                             uint64_t reserved, const char *what,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* What an L1 entry refers to, or does not. */
extern int q2_walk_use_l1_entry (struct q2_walk *w, uint64_t entry,
                                 bool active, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Walk all that is to be walked: w->counts are the result. */
extern int q2_walk_image (struct q2_walk *w, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* live_walk.c: the refcount table and its blocks, and the tables of the disk,
 * as they are in memory.
 */
extern int q2_walk_live_refcounts (struct q2_walk *w,
                                   struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_walk_live_tables (struct q2_walk *w, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* live_use.c: one reference, in an image that is being written to. */
extern enum q2_counts_result
q2_walk_live_use (struct q2_walk *w, uint64_t cluster,
                  const struct q2_user *user)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_CHECK_WALK_H */
