/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshots.h - walks the snapshot table of an image. */
#ifndef QCOW2_META_SNAPSHOTS_H
#define QCOW2_META_SNAPSHOTS_H

#include "format/header.h"
#include "format/snapshot.h"
#include "io/io.h"

/* One snapshot, whose entry lies at 'host_off'.  The id and the name are
 * only there during the call.  Returns 0 to go on, 1 to stop, which is no
 * error, or -1 with *err filled in.
 */
typedef int (*q2_snapshot_fn) (void *opaque,
                               const struct q2_snapshot *snapshot,
                               uint64_t host_off, struct qcow2_error *err);

/* Call fn for each snapshot, in the order of the table; *ret_bytes is how
 * long the table is, as far as it was walked.
 */
extern int q2_snapshots_walk (const struct q2_io *io,
                              const struct q2_header *header,
                              const struct q2_geometry *geo,
                              q2_snapshot_fn fn, void *opaque,
                              uint64_t *ret_bytes, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 4, 6, 7), __warn_unused_result__));

#endif /* QCOW2_META_SNAPSHOTS_H */
