/* SPDX-License-Identifier: BSD-3-Clause */
/* trees.h - letting go of parts of the L1 table, with all below them. */
#ifndef QCOW2_EDIT_TREES_H
#define QCOW2_EDIT_TREES_H

#include "edit/edit.h"

/* L1 entries in CPU byte order, all of one table. */
struct q2_trees {
  uint64_t *l1;                 /* NULL: none; to be freed */
  uint64_t nr;
};

/* Read entries [first, end) of the L1 table that the header names. */
extern int q2_trees_read (const struct q2_edit *edit, uint64_t first,
                          uint64_t end, struct q2_trees *ret_trees,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

extern void q2_trees_free (struct q2_trees *trees)
  __attribute__ ((__nonnull__));

/* True if an entry names a table. */
extern bool q2_trees_are_any (const struct q2_edit *edit,
                              const struct q2_trees *trees)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Nothing in the file refers to these entries any more, durably: take one
 * reference from each table and from everything that its entries refer to.
 * What cannot be read is leaked, and the first reason is returned.
 */
extern int q2_trees_let_go (struct q2_edit *edit,
                            const struct q2_trees *trees,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make entries [first, end of the table) of the disk's L1 table empty, and let
 * go of what they named; the disk has nothing there.  Commits.
 */
extern int q2_trees_drop (struct q2_edit *edit, uint64_t first,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_EDIT_TREES_H */
