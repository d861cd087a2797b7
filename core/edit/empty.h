/* SPDX-License-Identifier: BSD-3-Clause */
/* empty.h - letting go of all that an image has of its disk. */
#ifndef QCOW2_EDIT_EMPTY_H
#define QCOW2_EDIT_EMPTY_H

#include "edit/edit.h"

/* Fail if it cannot be done; nothing is written. */
extern int q2_empty_check (const struct qcow2_image *image,
                           struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* See qcow2_make_empty; 'kind' says whether the disk changes by that. */
extern int q2_empty (struct qcow2_image *image, const struct qcow2_io *host,
                     enum q2_edit_kind kind,
                     const struct qcow2_progress *progress,
                     struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5), __warn_unused_result__));

#endif /* QCOW2_EDIT_EMPTY_H */
