/* SPDX-License-Identifier: BSD-3-Clause */
/* plan_impl.h - what a plan is, for plan.c and plan_actions.c. */
#ifndef CONTROL_PLAN_IMPL_H
#define CONTROL_PLAN_IMPL_H

#include "control/plan.h"
#include "control/target.h"

#include "qcow2.h"

struct image {
  struct target target;
  const char *device;           /* as it was first called */
  struct qcow2_bitmap_action *actions;  /* PLAN_MAX_ACTIONS */
  size_t nr_actions;
  struct qcow2_snapshot_options snapshot;
  bool has_snapshot;
};

struct plan {
  struct call *call;
  uint64_t date_ns;             /* of its snapshots; no other plan has it */
  struct image images[QCOW2_MAX_PARTS];
  size_t nr_images, nr_actions;
};

/* One that the plan has already, perhaps under another name, or a new one,
 * opened for changes.  NULL having called call_fail.
 */
extern struct image *plan_get_image (struct plan *plan, const char *device);

#endif /* CONTROL_PLAN_IMPL_H */
