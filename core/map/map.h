/* SPDX-License-Identifier: BSD-3-Clause */
/* map.h - maps guest ranges to runs: where the bytes of the disk are.
 *
 * A run is a piece of the disk that one host action answers.  Runs are
 * merged as far as possible: clusters that follow each other both on the
 * disk and in the file are one run, whatever the cluster size.
 */
#ifndef QCOW2_MAP_MAP_H
#define QCOW2_MAP_MAP_H

#include "format/l2e.h"
#include "meta/tables.h"

enum q2_run_kind {
  Q2_RUN_UNALLOCATED,           /* reads from the backing image, or zeros */
  Q2_RUN_ZERO,                  /* reads as zeros */
  Q2_RUN_DATA,                  /* the bytes at host_off */
  Q2_RUN_COMPRESSED,            /* part of one compressed cluster */
};

struct q2_run {
  enum q2_run_kind kind;
  uint64_t guest_off;
  uint64_t len;                 /* guest bytes, > 0 */
  uint64_t host_off;            /* DATA: of the first byte; COMPRESSED: of
                                   the cluster's stream */
  uint64_t csize;               /* COMPRESSED: host bytes, at most */
};

/* Map [guest_off, guest_off+len), which must lie inside the disk, len > 0, to
 * at most 'max' runs that start at guest_off and leave no gaps.  They may
 * cover less than 'len' bytes: call again for the rest.  Fails only if not
 * even the first byte could be mapped.
 */
extern int q2_map_runs (struct q2_tables *tables, const struct q2_io *io,
                        uint64_t guest_off, uint64_t len,
                        struct q2_run *ret_runs, size_t max, size_t *ret_nr,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same for callers that walk the disk once without reading it: their
 * tables do not evict those that others use.
 */
extern int q2_map_scan (struct q2_tables *tables, const struct q2_io *io,
                        uint64_t guest_off, uint64_t len,
                        struct q2_run *ret_runs, size_t max, size_t *ret_nr,
                        struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Fill in *err for a guest offset whose entry is INVALID; returns -1. */
extern int q2_map_fail_invalid (const struct q2_tables *tables,
                                uint64_t guest_off,
                                const struct q2_mapping *mapping,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __cold__));

#endif /* QCOW2_MAP_MAP_H */
