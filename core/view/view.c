/* SPDX-License-Identifier: BSD-3-Clause */
/* view.c - opens views.
 *
 * Owns      nothing; chooses the function for each kind of view, and tries
 *           again if the image was edited meanwhile.
 * Locks     none: the image may be in use.
 */
#include "config.h"

#include "view/bitmap_view.h"
#include "view/diff.h"
#include "view/layer_view.h"
#include "view/snapshot_view.h"

#include "base/assume.h"
#include "base/error.h"

static struct qcow2_image *
open_snapshot (struct qcow2_image *image, const struct qcow2_io *host,
               const struct qcow2_name *name, bool by_id,
               struct qcow2_error *err)
{
  struct q2_found_snapshot found;

  if (q2_snapshot_find (image, host, name, by_id, &found, err) == -1)
    return NULL;
  return q2_snapshot_open (image, host, &found, err);
}

static struct qcow2_image *
open_view (struct qcow2_image *image, const struct qcow2_io *host,
           enum qcow2_view_kind kind, const struct qcow2_name *name,
           struct qcow2_error *err)
{
  if (image->store.below_missing && kind != QCOW2_VIEW_LAYER) {
    q2_fail (err, QCOW2_ERR_REFUSED, QCOW2_NO_OFFSET,
             "the backing file of the image is missing");
    return NULL;
  }
  switch (kind) {
  case QCOW2_VIEW_SNAPSHOT:
    return open_snapshot (image, host, name, false, err);
  case QCOW2_VIEW_SNAPSHOT_ID:
    return open_snapshot (image, host, name, true, err);
  case QCOW2_VIEW_BITMAP:
    return q2_bitmap_open (image, host, name, err);
  case QCOW2_VIEW_DIFF:
    return q2_diff_open (image, host, name, err);
  case QCOW2_VIEW_LAYER:
    return q2_layer_open (image, name, err);
  }
  q2_fail (err, QCOW2_ERR_NOT_FOUND, QCOW2_NO_OFFSET,
           "there is no such kind of view");
  return NULL;
}

#define MAX_TRIES 8

/* What is opened. */
struct what {
  bool vm_state;
  bool by_id;                   /* of a VM state's snapshot */
  enum qcow2_view_kind kind;
};

/* Once; snapshots and bitmaps may be changed meanwhile. */
static struct qcow2_image *
open_once (struct qcow2_image *image, const struct qcow2_io *host,
           const struct what *what, const struct qcow2_name *name,
           struct qcow2_error *err)
{
  return what->vm_state
    ? q2_vm_state_open (image, host, name, what->by_id, err)
    : open_view (image, host, what->kind, name, err);
}

static struct qcow2_image *
try_to_open (struct qcow2_image *image, const struct qcow2_io *host,
             const struct what *what, const struct qcow2_name *name,
             struct qcow2_error *err)
{
  uint64_t number;
  struct qcow2_image *view = NULL;

  for (unsigned i = 0; i < MAX_TRIES && view == NULL; ++i) {
    number = q2_image_header (image).number;
    view = open_once (image, host, what, name, err);
    if (q2_image_header (image).number == number)
      break;
  }
  return view;
}

/* The disk stays as long as it is counted; what else it shows is pinned. */
static struct qcow2_image *
open_counted (struct qcow2_image *image, const struct qcow2_io *host,
              const struct what *what, const struct qcow2_name *name,
              struct qcow2_error *err)
{
  struct qcow2_image *view = NULL;

  atomic_fetch_add (&image->views, 1);
  if (atomic_load (&image->views_forbidden) > 0)
    q2_fail (err, QCOW2_ERR_BUSY, QCOW2_NO_OFFSET,
             "a snapshot of the image is being applied");
  else
    view = try_to_open (image, host, what, name, err);
  if (view == NULL)
    (void) q2_check (atomic_fetch_sub (&image->views, 1) > 0);
  else {
    (void) q2_check (view->parent == image && !view->counted);
    view->counted = true;
  }
  return view;
}

static struct qcow2_image *
open_checked (struct qcow2_image *image, const struct qcow2_io *host,
              const struct what *what, const struct qcow2_name *name,
              struct qcow2_error *err)
{
  struct qcow2_image *const view = open_counted (image, host, what, name, err);

  if (q2_check_end (err) == 0)
    return view;
  qcow2_close (view);
  return NULL;
}

struct qcow2_image *
qcow2_open_view (struct qcow2_image *image, const struct qcow2_io *host,
                 enum qcow2_view_kind kind, const struct qcow2_name *name,
                 struct qcow2_error *err)
{
  return open_checked (image, host, &(struct what) { .kind = kind }, name,
                       err);
}

struct qcow2_image *
qcow2_open_vm_state (struct qcow2_image *image, const struct qcow2_io *host,
                     const struct qcow2_name *name, bool by_id,
                     struct qcow2_error *err)
{
  return open_checked (image, host, &(struct what) {
      .vm_state = true, .by_id = by_id }, name, err);
}
