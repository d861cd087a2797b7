/* SPDX-License-Identifier: BSD-3-Clause */
/* mask.h - views that show a part of a disk, and zeros for the rest.
 *
 * A mask says of each byte of a disk, its base, whether it is set, that is,
 * shown.  All others are holes.  Set bytes never are: they are data or, as
 * far as the base knows, zeros (QCOW2_EXTENT_ZERO_ALLOCATED), so that who
 * copies them need not read them.
 */
#ifndef QCOW2_VIEW_MASK_H
#define QCOW2_VIEW_MASK_H

#include "base/assume.h"
#include "image/image.h"

struct q2_mask {
  const struct q2_mask_ops *ops;
};

struct q2_mask_run {
  uint64_t len;                 /* bytes of the disk, > 0 */
  bool set;
};

/* Runs being gathered; neighbours differ. */
struct q2_mask_runs {
  struct q2_mask_run *run;
  size_t nr, max;
};

/* Any number of threads may call these at once. */
struct q2_mask_ops {
  /* Fail if the mask has become stale.  Optional (NULL). */
  int (*check) (struct q2_mask *mask, struct qcow2_error *err);

  /* Add at least one run from guest_off on, up to guest_off + len or until
   * there is no room; len > 0.  With 'scan' the caller will not read the disk
   * there; see meta/cache.h.  Runs added before a failure are valid.
   */
  int (*runs) (struct q2_mask *mask, const struct q2_io *io,
               uint64_t guest_off, uint64_t len, bool scan,
               struct q2_mask_runs *runs, struct qcow2_error *err);

  /* On a slow host: prepare for a query of all runs of the range. Optional
   * (NULL).
   */
  void (*preload) (struct q2_mask *mask, const struct q2_io *io,
                   uint64_t guest_off, uint64_t len);

  void (*free) (struct q2_mask *mask);
};

/* False if there is no room; then nothing has changed. */
static inline bool
q2_mask_add (struct q2_mask_runs *runs, uint64_t len, bool set)
{
  (void) q2_check (len > 0 && runs->nr <= runs->max);
  if (runs->nr > 0 && runs->run[runs->nr - 1].set == set)
    runs->run[runs->nr - 1].len += len;
  else {
    if (runs->nr == runs->max)
      return false;
    runs->run[runs->nr++] = (struct q2_mask_run) { len, set };
  }
  return true;
}

/* Open a view of 'base', which is 'parent' or a view of it.  Takes ownership
 * of the mask, and of a base that is not the parent, even if it fails.
 */
extern struct qcow2_image *
q2_mask_open (struct qcow2_image *parent, struct qcow2_image *base,
              struct q2_mask *mask, const char *why_read_only,
              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_VIEW_MASK_H */
