/* SPDX-License-Identifier: BSD-3-Clause */
/* tree_impl.h - what the files of tree.h share: tree_walk.c has the walk,
 * tree.c adds references, tree_lower.c takes them away.  Nobody else includes
 * this.
 */
#ifndef QCOW2_EDIT_TREE_IMPL_H
#define QCOW2_EDIT_TREE_IMPL_H

#include "base/pace.h"
#include "edit/tree.h"

#define Q2_TREE_PIECE (UINT64_C (64) << 10)

/* A piece of a table, which is in tree->buf.  It takes from *left, which ends
 * the walk when it is 0.
 */
typedef int (*q2_tree_piece_fn) (struct q2_tree *tree, uint64_t host_off,
                                 uint64_t len, uint64_t *left,
                                 struct qcow2_error *err);

static inline uint64_t
q2_tree_table (const struct q2_tree *tree, uint64_t i)
{
  return q2_l1e_table (tree->edit->w->geo, tree->tables.l1[i]);
}

/* Read the table piece by piece, and call fn until *left is 0. */
extern int q2_tree_walk (struct q2_tree *tree, uint64_t table,
                         q2_tree_piece_fn fn, uint64_t *left,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* One more table is done. */
extern int q2_tree_tell (struct q2_tree *tree, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Take the first so many references back that the walk through a table meets;
 * each cluster has others.
 */
extern int q2_tree_take_back (struct q2_tree *tree, uint64_t table,
                              uint64_t references, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* What many changes of a tree do after each table: commit before writers have
 * to, and leave the processor to them.
 */
extern int q2_tree_rest (const struct q2_tree *tree, struct q2_pace *pace,
                         struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Sectors of tree->buf in which flags were changed. */
struct q2_tree_flags {
  uint64_t from, to;
};
extern void q2_tree_set_flag (struct q2_tree *tree, uint64_t i, bool copied,
                              struct q2_tree_flags *flags)
  __attribute__ ((__nonnull__));
extern int q2_tree_write_flags (struct q2_tree *tree, uint64_t host_off,
                                const struct q2_tree_flags *flags,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_EDIT_TREE_IMPL_H */
