/* SPDX-License-Identifier: BSD-3-Clause */
/* resize_live.c - makes a disk larger while clients use it.
 *
 * Owns      what has to be taken care of because there are others.
 * Method    as any disk that grows (resize_grow.c).  Changes of the disk wait;
 *           reads go on inside the old disk, where no entry changes, and the
 *           table that they are read from is replaced by one with the same
 *           entries.  Nobody asks for what is behind the old end until the
 *           header has the new size.
 *           A raw data file needs all its tables at once; they are made before
 *           changes wait (resize_ahead.c).
 *           Bitmaps that are kept up are stored first, and loaded by the next
 *           change of the disk again: between the two they are those of a file
 *           that nobody has open, and are treated like those.
 * Locks     the gate is claimed from the first look at the size to the end,
 *           and closed from the first change of what the image has.
 */
#include "config.h"

#include "edit/bitmaps.h"
#include "edit/resize.h"

#include "base/error.h"

#include <stdlib.h>

static const char what[] = "the disk cannot become larger while it is used";

/* Nothing has been written. */
static int
check (struct q2_resize *r, struct qcow2_image *image,
       const struct qcow2_io *host, uint64_t new_size,
       struct qcow2_error *err)
{
  if (q2_resize_plan (r, image, host, new_size, QCOW2_RESIZE_SHRINK, err)
      == -1)
    return -1;
  if (r->new_geo.virtual_size < r->old_geo.virtual_size)
    return q2_fail (err, QCOW2_ERR_INVALID, QCOW2_NO_OFFSET,
                    "a disk that is used can only become larger");
  if (image->store.raw && q2_resize_check_ahead (r, err) == -1)
    return -1;
  return q2_resize_check_pins (r, image, host, err);
}

/* The gate is claimed.  -1: it is open, and nothing has changed. */
static int
close_gate (struct q2_resize *r, struct qcow2_image *image,
            const struct qcow2_io *host, struct qcow2_error *err)
{
  int result = -1;

  if (!image->store.raw) {
    if (q2_gate_close_claimed (&image->gate, image->writer.patience_ms) == 0)
      return 0;
    result = q2_edit_fail_busy (what, err);
  }
  else if (q2_edit_begin_beside (&r->edit, image, host, what, err) == 0) {
    if (q2_resize_ahead (r, err) == 0 &&
        q2_edit_close (&r->edit, what, err) == 0)
      return 0;
    return q2_edit_end (&r->edit, -1, err);
  }
  q2_gate_open (&image->gate);
  return result;
}

/* The gate is closed. */
static int
run (struct q2_resize *r, struct qcow2_image *image,
     const struct qcow2_io *host, struct qcow2_error *err)
{
  /* Else they are kept up as before. */
  int result = q2_bitmaps_write_back (image, host, err);

  const bool stored = result == 0;

  if (stored && !r->edit.begun)
    result = q2_edit_begin_closed (&r->edit, image, host, Q2_EDIT_IMAGE, what,
                                   err);
  if (result == 0)
    result = q2_resize_grow (r, err);
  q2_frees_destroy (&r->old);
  if (r->edit.begun)
    result = q2_edit_end_closed (&r->edit, result, err);
  if (stored)
    q2_writer_renew_promises (&image->writer);
  return result;
}

static int
grow (struct q2_resize *r, struct qcow2_image *image,
      const struct qcow2_io *host, uint64_t new_size, struct qcow2_error *err)
{
  int result = check (r, image, host, new_size, err);

  if (result == -1 || r->new_geo.virtual_size == r->old_geo.virtual_size) {
    q2_gate_open (&image->gate);
    return result;
  }
  if (close_gate (r, image, host, err) == -1)
    return -1;
  result = run (r, image, host, err);
  q2_gate_open (&image->gate);
  return result;
}

int
qcow2_grow (struct qcow2_image *image, const struct qcow2_io *host,
            uint64_t new_size, const struct qcow2_progress *progress,
            struct qcow2_error *err)
{
  struct q2_resize r = { .preallocation = QCOW2_PREALLOCATE_OFF };
  int result;

  q2_progress_init (&r.progress, progress);
  if (q2_edit_check (image, what, err) == -1 ||
      q2_edit_commit_ahead (image, host, err) == -1)
    return -1;
  if (q2_gate_claim (&image->gate, image->writer.patience_ms) != 0)
    return q2_edit_fail_busy (what, err);
  result = grow (&r, image, host, new_size, err);
  free (r.ahead);
  return result;
}
