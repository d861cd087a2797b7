/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot.h - what changes of snapshots share. */
#ifndef QCOW2_EDIT_SNAPSHOT_H
#define QCOW2_EDIT_SNAPSHOT_H

#include "edit/snaptable.h"
#include "edit/tree.h"
#include "view/snapshot_view.h"

/* Fail if the image cannot have snapshots; before anything is changed. */
extern int q2_snapshots_check_possible (const struct qcow2_image *image,
                                        const char *what,
                                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Find one by its name, or id. */
extern int q2_snaptable_get (const struct q2_snaptable *table,
                             const struct q2_edit *edit,
                             const struct qcow2_name *name, bool by_id,
                             struct q2_snapshot *ret, size_t *ret_pos,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Nobody may have a view open from here on, as it shows what is going to be
 * freed, until q2_views_allow.
 */
extern int q2_views_forbid (struct qcow2_image *image, const char *what,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_views_allow (struct qcow2_image *image)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_EDIT_SNAPSHOT_H */
