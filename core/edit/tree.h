/* SPDX-License-Identifier: BSD-3-Clause */
/* tree.h - all that an L1 table refers to: more or fewer references to it.
 *
 * The walk is the same in each direction: for each L2 table what its entries
 * refer to, in their order, then the table itself.  Memory: the L1 table, and
 * a piece of an L2 table.
 *
 * L2 tables are read and written in the file, past the table cache, so no
 * change of them may wait for a commit when this begins.  Writing flags in
 * place is safe at any moment: one that is clear costs a copy, and none is set
 * before it is true.
 */
#ifndef QCOW2_EDIT_TREE_H
#define QCOW2_EDIT_TREE_H

#include "edit/edit.h"
#include "write/owning.h"

struct q2_tree {
  struct q2_edit *edit;
  uint64_t host_off, stored;    /* L1 entries of it in the file */
  struct q2_shared_tables tables;       /* its entries, of which the disk has
                                           tables.nr at most, and which tables
                                           have been raised */
  uint64_t nr;                  /* entries, at least those in the file */
  uint64_t nr_new;              /* more of them, of tables that nobody else
                                   has: they are written, and that is all */
  uint64_t charge;              /* of the image's budget */
  struct q2_progress *progress; /* NULL: not wanted */
  const char *state;            /* if it is cancelled; NULL: it cannot be */
  uint64_t nr_shared;           /* tables, so far */
  uint64_t raised;              /* references, of the table that is walked */
  bool miscounted;              /* some of a table could not be taken back, or
                                   it is not known what is in: */
  uint64_t doubtful;            /* a table whose flags could not be written; it
                                   keeps its references; 0: none */
  struct q2_owning *owning;     /* while flags are set */
  unsigned char *buf;
  struct q2_frees runs;         /* of a piece of a table */
  struct q2_frees pending;      /* to be lowered */
};

/* Room for an L1 table of 'nr' entries, all empty.  Free it also on failure.
 */
extern int q2_tree_init (struct q2_tree *tree, struct q2_edit *edit,
                         uint64_t nr, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* The same, and read the L1 table of 'stored' entries at 'host_off'; there are
 * 'nr' in memory, or as many as stored if that is more.
 */
extern int q2_tree_load (struct q2_tree *tree, struct q2_edit *edit,
                         uint64_t host_off, uint64_t stored, uint64_t nr,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_tree_free (struct q2_tree *tree) __attribute__ ((__nonnull__));

/* L2 tables that there are. */
extern uint64_t q2_tree_tables (const struct q2_tree *tree)
  __attribute__ ((__nonnull__));

/* One more reference to everything, and no entry is COPIED any more: whoever
 * had it shares it.  Not durable before the next commit.  After a failure the
 * tables that are in tree->tables.shared are raised, and no others.
 */
extern int q2_tree_raise (struct q2_tree *tree, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same for the tables of the disk, of which a snapshot is being taken
 * (write/sharing.h), while others write to it.  All that it had is durable.
 */
extern int q2_tree_share (struct q2_tree *tree, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Its tables are a snapshot's now. */
extern void q2_tree_protect (struct q2_tree *tree)
  __attribute__ ((__nonnull__));

/* One reference less to all of it, or of those tables that were raised.  Needs
 * that nothing durable makes them, and that no request uses what it refers to
 * because of them: see q2_edit_settle.  The disk may change meanwhile.
 */
extern int q2_tree_lower (struct q2_tree *tree, bool only_shared,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same for the clusters of the L1 table in the file. */
extern int q2_tree_lower_l1 (struct q2_tree *tree, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Entries of the disk that are alone now, where 'tree' had a table, become
 * COPIED.  Refcounts must be durable.  The disk may change meanwhile.
 */
extern int q2_tree_own (struct q2_tree *tree, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* New clusters for the L1 table, with the entries that are new; and write it
 * there, without flags.
 */
extern int q2_tree_alloc_l1 (struct q2_tree *tree, enum q2_meta_class class,
                             uint64_t *ret_host_off, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_tree_write_l1 (struct q2_tree *tree, enum q2_meta_class class,
                             uint64_t host_off, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_EDIT_TREE_H */
