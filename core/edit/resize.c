/* SPDX-License-Identifier: BSD-3-Clause */
/* resize.c - changes the size of the disk.
 *
 * Owns      which changes are allowed.
 * Method    a disk that grows is made ready before the header says so; one
 *           that shrinks is left as it is until then, and what is behind its
 *           end is let go afterwards, so that a crash or a failure costs no
 *           byte of the old disk.
 * Locks     the gate is closed, and the image is nobody else's: its geometry
 *           and its tables change.
 */
#include "config.h"

#include "edit/resize.h"

#include "base/bits.h"
#include "base/error.h"
#include "meta/snapshots.h"

#include <errno.h>
#include <inttypes.h>

#define SECTOR UINT64_C (512)

/* ---- What is allowed -------------------------------------------------- */

static int
check_direction (const struct q2_resize *r, unsigned flags,
                 struct qcow2_error *err)
{
  const uint64_t from = r->old_geo.virtual_size;
  const uint64_t to = r->new_geo.virtual_size;

  if (to < from && !(flags & QCOW2_RESIZE_SHRINK))
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "the disk has %" PRIu64 " bytes and would be cut to %"
                    PRIu64 ", which loses what is behind them", from, to);
  if (to < from && r->preallocation != QCOW2_PREALLOCATE_OFF)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "only a disk that becomes larger can be preallocated");
  return 0;
}

/* A snapshot whose size is not told has the disk's, whatever that is. */
static int
check_snapshot (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
                struct qcow2_error *err)
{
  (void) opaque;
  return s->extra_len >= Q2_SNAPSHOT_LEAST_EXTRA ? 0
    : q2_fail_advise (err, QCOW2_ERR_UNSUPPORTED, QCOW2_ADVICE_REPAIR,
                      host_off, "the disk cannot change its size: an entry of "
                      "the snapshot table at offset 0x%" PRIx64 " does not "
                      "tell that of its snapshot", host_off);
}

static int
check_image (struct qcow2_image *image, const struct qcow2_io *host,
             struct qcow2_error *err)
{
  const struct q2_header h = q2_image_header (image);
  const struct q2_io io = q2_image_io (image, host);
  uint64_t bytes;

  if (h.version < 3 && h.nr_snapshots > 0)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "the disk cannot change its size: an image of version 2 "
                    "cannot tell the sizes of its %u snapshots; delete them, "
                    "or change the image to version 3", h.nr_snapshots);
  return q2_snapshots_walk (&io, &h, &image->geo, check_snapshot, NULL, &bytes,
                            err);
}

/* It is the size that is impossible, not the image. */
static int
fail_size (struct qcow2_error *err)
{
  if (err->kind == QCOW2_ERR_CORRUPT) {
    err->kind = QCOW2_ERR_INVALID;
    err->errnum = EINVAL;
    err->offset = QCOW2_NO_OFFSET;
  }
  return -1;
}

int
q2_resize_plan (struct q2_resize *r, struct qcow2_image *image,
                const struct qcow2_io *host, uint64_t new_size,
                unsigned flags, struct qcow2_error *err)
{
  const struct q2_header h = q2_image_header (image);
  const struct q2_geometry_params params = {
    .version = h.version, .cluster_bits = h.cluster_bits,
    .extended_l2 = h.incompatible & Q2_INCOMPAT_EXTENDED_L2,
    .data_file = h.incompatible & Q2_INCOMPAT_DATA_FILE,
    .refcount_order = h.refcount_order,
    .virtual_size = new_size > UINT64_MAX - SECTOR ? new_size
      : q2_align_up (new_size, SECTOR),
  };

  r->old_geo = image->geo;
  r->l1_off = h.l1_offset;
  r->l1_entries = h.l1_entries;
  r->zeroed = params.virtual_size;
  if (q2_geometry_init (&r->new_geo, &params, err) == -1)
    return fail_size (err);
  if (check_direction (r, flags, err) == -1)
    return -1;
  return r->new_geo.virtual_size == r->old_geo.virtual_size ? 0
    : check_image (image, host, err);
}

/* ---- The operation ---------------------------------------------------- */

static int
run (struct q2_resize *r, struct qcow2_error *err)
{
  const uint64_t from = r->old_geo.virtual_size;
  const uint64_t to = r->new_geo.virtual_size;

  return to > from ? q2_resize_grow (r, err)
    : to < from ? q2_resize_shrink (r, err) : 0;
}

int
qcow2_resize (struct qcow2_image *image, const struct qcow2_io *host,
              uint64_t new_size, unsigned flags,
              enum qcow2_preallocation preallocation,
              const struct qcow2_progress *progress, struct qcow2_error *err)
{
  static const char what[] = "the disk cannot change its size";
  struct q2_resize r = { .preallocation = preallocation };
  int result;

  q2_progress_init (&r.progress, progress);
  if (q2_edit_check (image, what, err) == -1 ||
      q2_resize_plan (&r, image, host, new_size, flags, err) == -1 ||
      q2_edit_begin (&r.edit, image, host, Q2_EDIT_IMAGE, what, err) == -1)
    return -1;
  result = run (&r, err);
  q2_frees_destroy (&r.old);
  result = q2_edit_end_last (&r.edit, result, err);
  if (result == 0 && r.new_geo.virtual_size < r.old_geo.virtual_size)
    q2_edit_cut_file (&r.edit, r.end);
  return result;
}
