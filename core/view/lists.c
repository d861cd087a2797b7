/* SPDX-License-Identifier: BSD-3-Clause */
/* lists.c - lists the snapshots and the bitmaps of an image.
 *
 * Owns      what is told of each, and beginning again if the image is edited
 *           meanwhile.
 * Method    what an edit lets go is used again only after the header has
 *           switched.  So what was read is true if the header that led there
 *           is still the current one.  A list of usual length is read before
 *           its first entry is passed on: then it is read again, until it is
 *           true.  Listing snapshots reads no L1 table: there may be 65,536 of
 *           them, and only opening a snapshot checks its own.
 *           What is kept up in memory is looked at inside the gate, together
 *           with the list that it belongs to.
 * Locks     none, but for that.
 */
#include "config.h"

#include "view/bitmap_view.h"
#include "view/snapshot_view.h"

#include "base/assume.h"
#include "base/error.h"
#include "meta/bitmaps.h"

#define MAX_TRIES 100

struct listing {
  struct qcow2_image *image;
  const struct q2_io *io;
  struct q2_header header;              /* that has led there */
  uint64_t edits;                       /* image->edits before that */
  bool passed_on;                       /* an entry was */
  bool bitmaps;                         /* else snapshots */
  bool inside;                          /* the gate: nobody edits the image */
  qcow2_bitmap_fn bitmap_fn;
  qcow2_snapshot_fn snapshot_fn;
  void *fn_opaque;
};

static int
check_current (const struct listing *l, struct qcow2_error *err)
{
  const struct q2_header h = q2_image_header (l->image);
  const struct q2_header *const was = &l->header;

  /* Bits of features change in place, without an edit. */
  if (h.number == was->number || (atomic_load (&l->image->edits) == l->edits &&
                   h.snapshots_offset == was->snapshots_offset &&
                   h.nr_snapshots == was->nr_snapshots &&
                   h.bitmap_dir_offset == was->bitmap_dir_offset &&
                   h.nr_bitmaps == was->nr_bitmaps &&
                   h.virtual_size == was->virtual_size))
    return 0;
  return q2_fail (err, QCOW2_ERR_BUSY, QCOW2_NO_OFFSET, "the %s of the image "
                  "were changed while they were listed",
                  l->bitmaps ? "bitmaps" : "snapshots");
}

/* The table may be longer than what is read of it at once. */
static int
list_snapshot (void *opaque, const struct q2_snapshot *s, uint64_t host_off,
               struct qcow2_error *err)
{
  struct listing *const l = opaque;
  const struct qcow2_snapshot snapshot = {
    .id = { s->id, s->id_len }, .name = { s->name, s->name_len },
    .date_sec = s->date_sec, .date_nsec = s->date_nsec,
    .disk_size = s->disk_size, .vm_state_size = s->vm_state_size,
    .vm_clock_ns = s->vm_clock_ns, .icount = s->icount,
  };

  (void) host_off;
  if (check_current (l, err) == -1)
    return -1;
  l->passed_on = true;
  return l->snapshot_fn (l->fn_opaque, &snapshot) != 0;
}

static bool
is_kept_up (const struct listing *l, const struct q2_bitmap *b)
{
  if (!(b->flags & Q2_BITMAP_AUTO) || !(b->flags & Q2_BITMAP_IN_USE))
    return b->flags & Q2_BITMAP_AUTO;
  return l->inside && q2_writer_keeps_bitmap (&l->image->writer, b);
}

/* All of the directory was read before the first of them. */
static int
list_bitmap (void *opaque, const struct q2_bitmap *b, uint64_t host_off,
             struct qcow2_error *err)
{
  struct listing *const l = opaque;
  const struct qcow2_bitmap bitmap = {
    .name = { b->name, b->name_len },
    .granularity = UINT64_C (1) << b->granularity_bits,
    .enabled = b->flags & Q2_BITMAP_AUTO,
    .in_use = b->flags & Q2_BITMAP_IN_USE,
    .kept_up = is_kept_up (l, b),
    .why_unusable = q2_bitmap_why_unusable (l->image, &l->header, b),
  };

  (void) host_off;
  if (!l->passed_on && check_current (l, err) == -1)
    return -1;
  l->passed_on = true;
  return l->bitmap_fn (l->fn_opaque, &bitmap) != 0;
}

static int
walk (struct listing *l, struct qcow2_error *err)
{
  uint64_t ignored;

  return l->bitmaps
    ? q2_bitmaps_walk (l->io, &l->header, &l->image->geo, list_bitmap, l, err)
    : q2_snapshots_walk (l->io, &l->header, &l->image->geo, list_snapshot, l,
                         &ignored, err);
}

static int
list (struct listing *l, struct qcow2_error *err)
{
  int r = -1;

  for (unsigned i = 0; r == -1 && i < MAX_TRIES; ++i) {
    l->edits = atomic_load (&l->image->edits);
    l->header = q2_image_header (l->image);
    r = walk (l, err);
    /* If the table is not current its faults may be somebody's data. */
    if (r == -1 && (check_current (l, err) == 0 || l->passed_on))
      break;
  }
  return r == -1 || q2_check_end (err) == -1 ? -1 : 0;
}

int
qcow2_list_snapshots (struct qcow2_image *image, const struct qcow2_io *host,
                      qcow2_snapshot_fn fn, void *fn_opaque,
                      struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (image, host);
  struct listing l = {
    .image = image, .io = &io, .snapshot_fn = fn, .fn_opaque = fn_opaque,
  };

  return list (&l, err);
}

static int
list_bitmaps (struct qcow2_image *image, const struct qcow2_io *host,
              bool inside, qcow2_bitmap_fn fn, void *fn_opaque,
              struct qcow2_error *err)
{
  const struct q2_io io = q2_image_io (image, host);
  struct listing l = {
    .image = image, .io = &io, .bitmaps = true, .inside = inside,
    .bitmap_fn = fn, .fn_opaque = fn_opaque,
  };

  return list (&l, err);
}

int
qcow2_list_bitmaps (struct qcow2_image *image, const struct qcow2_io *host,
                    qcow2_bitmap_fn fn, void *fn_opaque,
                    struct qcow2_error *err)
{
  return list_bitmaps (image, host, false, fn, fn_opaque, err);
}

/* Going through the gate is no change that keeps the image from being idle. */
int
qcow2_list_bitmaps_kept (struct qcow2_image *image,
                         const struct qcow2_io *host, qcow2_bitmap_fn fn,
                         void *fn_opaque, struct qcow2_error *err)
{
  int r;

  q2_gate_enter (&image->gate);
  atomic_fetch_add (&image->idle.changes, 1);
  r = list_bitmaps (image, host, true, fn, fn_opaque, err);
  q2_gate_leave (&image->gate);
  return r;
}
