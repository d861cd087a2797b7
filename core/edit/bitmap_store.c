/* SPDX-License-Identifier: BSD-3-Clause */
/* bitmap_store.c - storing bitmaps that were kept up in memory, and the end of
 * an image, which does that.
 *
 * Owns      taking back that they are in use.
 * Method    each bitmap whose bits have changed gets a new table, with bits
 *           in new clusters; the header switches to a directory in which those
 *           that are stored are not in use (SET-2).  All changes of the disk
 *           have ended and are durable by then.  A crash leaves bitmaps that
 *           are in use, or that are true.
 * Locks     the gate is closed.
 */
#include "config.h"

#include "edit/bitmaps.h"

#include "image/request.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

int
q2_bitmap_store_tracked (struct q2_bitmap_set *set,
                         struct q2_bitmap_slot *slot, struct qcow2_error *err)
{
  const struct q2_track *const track = &set->edit->w->track;
  struct q2_bitmap_reader reader;
  const unsigned char *bits;
  uint64_t len;
  bool changed;

  if (set->live)
    return q2_bitmap_store_live (set, slot, err);
  if (!q2_track_find (track, &slot->b, &bits, &len, &changed))
    return 0;
  /* All bits of the disk, and one that is enabled. */
  if (!q2_assume (len * 8 >= q2_bitmap_nr_bits (set->geo, &slot->b), err) ||
      !q2_assume (slot->b.flags & Q2_BITMAP_AUTO, err))
    return -1;
  set->changed = true;
  slot->b.flags &= ~Q2_BITMAP_IN_USE;
  if (!changed || Q2_PLANTED (Q2_PLANT_BITMAPS_STORE_NOTHING))
    return 0;
  q2_bitmap_reader_init_memory (&reader, set->geo, &set->edit->io, &slot->b,
                                bits, len);
  return q2_bitmap_merge (set, slot, &reader, 1, 0, err);
}

static int
store_all (struct q2_edit *edit, struct qcow2_error *err)
{
  struct q2_bitmap_set set;
  int r = 0;

  if (q2_bitmap_set_init (&set, edit, err) == -1)
    return -1;
  for (size_t i = 0; r == 0 && i < set.nr; ++i)
    r = q2_bitmap_store_tracked (&set, &set.slots[i], err);
  if (r == 0)
    r = q2_bitmap_set_publish (&set, err);
  q2_bitmap_set_destroy (&set);
  return r;
}

static const char what[] = "bitmaps cannot be stored";

static int
store_and_forget (struct q2_edit *edit, struct qcow2_error *err)
{
  if (store_all (edit, err) == -1)
    return -1;
  q2_track_forget (&edit->w->track);
  return 0;
}

/* The gate is closed. */
static int
store (struct qcow2_image *image, const struct qcow2_io *host,
       struct qcow2_error *err)
{
  struct q2_edit edit;

  if (q2_edit_begin_closed (&edit, image, host, Q2_EDIT_IMAGE, what, err)
      == -1)
    return -1;
  return q2_edit_end_closed (&edit, store_and_forget (&edit, err), err);
}

int
q2_bitmaps_write_back (struct qcow2_image *image, const struct qcow2_io *host,
                       struct qcow2_error *err)
{
  struct q2_writer *const w = &image->writer;
  const struct q2_io io = q2_image_io (image, host);
  int r = 0;

  if (q2_track_is_empty (&w->track))
    return 0;
  if (w->track.mode != QCOW2_BITMAPS_DURABLE)
    r = store (image, host, err);
  /* What clients have written comes first. */
  else if ((r = q2_writer_flush (w, &io, err)) == 0)
    r = q2_writer_settle_bitmaps (w, &io, err);
  if (r == 0)
    q2_track_forget (&w->track);
  return r;
}

static int
close_and_store (struct qcow2_image *image, const struct qcow2_io *host,
                 struct qcow2_error *err)
{
  int r;

  if (q2_gate_close (&image->gate, Q2_WRITER_PATIENCE_MS) != 0)
    return q2_edit_fail_busy (what, err);
  r = store (image, host, err);
  q2_gate_open (&image->gate);
  return r;
}

static void
end_lazy (struct qcow2_image *image, const struct qcow2_io *host)
{
  struct q2_writer *const w = &image->writer;
  struct qcow2_error why;

  if (close_and_store (image, host, &why) == 0)
    return;
  q2_writer_log (w, QCOW2_LOG_WARNING, why.text, why.advice);
  q2_writer_log (w, QCOW2_LOG_WARNING, "bitmaps could not be stored, and "
                 "stay marked as in use", QCOW2_ADVICE_NEW_BITMAP);
}

static void
end_durable (struct q2_writer *w, const struct q2_io *io)
{
  struct qcow2_error why;

  /* What clients have written comes first. */
  if (q2_writer_flush (w, io, &why) == -1)
    return;
  if (q2_writer_settle_bitmaps (w, io, &why) == -1)
    q2_writer_log (w, QCOW2_LOG_WARNING, why.text, why.advice);
  q2_track_forget (&w->track);
}

int
qcow2_end (struct qcow2_image *image, const struct qcow2_io *host,
           struct qcow2_error *err)
{
  struct q2_writer *const w = &image->writer;
  const struct q2_io io = q2_image_io (image, host);

  /* What clients have written does not depend on it. */
  if (!q2_track_is_empty (&w->track)) {
    if (w->track.mode == QCOW2_BITMAPS_DURABLE)
      end_durable (w, &io);
    else
      end_lazy (image, host);
  }
  return q2_request_end_reading (&io, q2_writer_end (w, &io, err), err);
}
