/* SPDX-License-Identifier: BSD-3-Clause */
/* amend.h - a change of what kind of image it is.
 *
 * amend.c            the order, and the header
 * amend_check.c      which changes are possible
 * amend_zeros.c      entries that say "zeros" become ones of version 2
 * new_refcounts.c    refcounts of another width
 */
#ifndef QCOW2_EDIT_AMEND_H
#define QCOW2_EDIT_AMEND_H

#include "edit/edit.h"
#include "edit/new_refcounts.h"

struct q2_amend {
  struct q2_edit edit;
  const struct qcow2_amend_options *options;
  struct q2_progress progress;  /* in clusters of tables */

  unsigned version, refcount_order;     /* as they are to be */
  bool lazy;
  struct q2_new_refcounts refcounts;
};

#define Q2_AMEND_CANCELLED \
  "the change of the image was cancelled; it is what it was"

/* Fill in what is to be, and fail if the image cannot become that. */
extern int q2_amend_check (struct q2_amend *a, struct qcow2_image *image,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same for what only the tables of the image tell. */
extern int q2_amend_check_snapshots (struct q2_amend *a,
                                     struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* No entry says "zeros" any more, in no table. */
extern int q2_amend_expand_zeros (struct q2_amend *a, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* backing.c: the rules for a name in the header, and setting it. */
extern int q2_backing_check (const struct qcow2_image *image,
                             const struct qcow2_name *file,
                             const struct qcow2_name *format,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 4), __warn_unused_result__));
extern int q2_backing_set (struct q2_header_parts *parts,
                           const struct qcow2_name *file,
                           const struct qcow2_name *format,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 4), __warn_unused_result__));

#endif /* QCOW2_EDIT_AMEND_H */
