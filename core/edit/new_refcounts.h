/* SPDX-License-Identifier: BSD-3-Clause */
/* new_refcounts.h - a second refcount table, to take the place of the first.
 */
#ifndef QCOW2_EDIT_NEW_REFCOUNTS_H
#define QCOW2_EDIT_NEW_REFCOUNTS_H

#include "edit/edit.h"

struct q2_new_refcounts {
  struct q2_edit *edit;
  unsigned order;               /* of their width */
  bool only_fewer;              /* do nothing unless it takes less room */
  struct q2_progress *progress;
  const char *cancelled;        /* see q2_progress_add */

  /* Made: */
  uint64_t table_off;           /* 0: nothing */
  uint32_t table_clusters;
  uint64_t end;                 /* host offset of the end of the last cluster
                                   that is in use then */
};

/* Make a refcount table with all blocks that are needed, which is true once
 * the header names it.  No refcount may change afterwards, not even after the
 * switch, as those in memory are the old ones: the image is to be ended.
 */
extern int q2_new_refcounts_make (struct q2_new_refcounts *n,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Let the header name it, if there is one. */
extern void q2_new_refcounts_set (const struct q2_new_refcounts *n,
                                  struct q2_header_parts *parts)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_EDIT_NEW_REFCOUNTS_H */
