/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshot_view.h - the internal snapshots of an image.
 *
 * Views rely on this: all that a snapshot's L1 table reaches stays unchanged.
 * Tables and clusters have refcounts, a writer of the active disk copies those
 * with more than one reference; one that a view shows is not deleted, and none
 * is applied while a view is open (edit/snapshot.h).  So bytes read once stay
 * valid, two references to the same place mean the same bytes, and requests
 * need not be in flight (base/flight.h).
 */
#ifndef QCOW2_VIEW_SNAPSHOT_VIEW_H
#define QCOW2_VIEW_SNAPSHOT_VIEW_H

#include "image/image.h"
#include "format/snapshot.h"
#include "meta/snapshots.h"

/* A snapshot found in the table; its id and name are not valid. */
struct q2_found_snapshot {
  struct q2_snapshot s;
  uint64_t host_off;            /* of its entry */
  uint64_t header_number;       /* of the one that led there */
};

/* Walk the snapshot table of an image. */
extern int q2_image_walk_snapshots (struct qcow2_image *image,
                                    const struct qcow2_io *host,
                                    q2_snapshot_fn fn, void *opaque,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 5), __warn_unused_result__));

/* All but 'header_number', which is for who has begun to look. */
extern void q2_snapshot_keep (const struct q2_snapshot *snapshot,
                              uint64_t host_off,
                              struct q2_found_snapshot *ret_found)
  __attribute__ ((__nonnull__));

/* Find the first snapshot of that name, or id. */
extern int q2_snapshot_find (struct qcow2_image *image,
                             const struct qcow2_io *host,
                             const struct qcow2_name *name, bool by_id,
                             struct q2_found_snapshot *ret_found,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Open its tables, and pin it; *ret_geo becomes the geometry of its disk and
 * must outlive them.  Fails with QCOW2_ERR_BUSY if the image was changed since
 * it was found.
 */
extern struct q2_tables *
q2_snapshot_tables (struct qcow2_image *image, const struct qcow2_io *host,
                    const struct q2_found_snapshot *found,
                    struct q2_geometry *ret_geo, struct q2_pin *ret_pin,
                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Open a view of it. */
extern struct qcow2_image *
q2_snapshot_open (struct qcow2_image *image, const struct qcow2_io *host,
                  const struct q2_found_snapshot *found,
                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- vm_state.c ------------------------------------------------------- */

/* See qcow2_open_vm_state; it is not counted yet. */
extern struct qcow2_image *
q2_vm_state_open (struct qcow2_image *image, const struct qcow2_io *host,
                  const struct qcow2_name *name, bool by_id,
                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_VIEW_SNAPSHOT_VIEW_H */
