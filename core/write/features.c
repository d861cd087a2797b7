/* SPDX-License-Identifier: BSD-3-Clause */
/* features.c - feature bits while the image is written to, and what errors
 * mean for the image.
 *
 * Owns      which bits are changed, and when: before the first change
 *           (ORDER-7), when the image turns out to be corrupt, at the end.
 * Method    the superblock writes them; what is flushed is published.  An
 *           error that says more than that one request has failed moves the
 *           image to another state (states.h).
 * Locks     none of its own; the superblock's is held over the writing.
 */
#include "config.h"

#include "write/writer.h"

#include "meta/bitmaps.h"

#include "base/assume.h"
#include "base/plant.h"

/* Bits that are to be changed, cleared before they are set. */
struct features {
  uint64_t clear_incompatible, set_incompatible, clear_autoclear;
};

static int
write_edited (struct q2_writer *w, struct q2_superblock_edit *edit,
              const struct q2_io *io, struct qcow2_error *err)
{
  /* All of it is the header's if its first byte is. */
  if (q2_overlap_check (w->overlap, 0, 1, Q2_META_HEADER, err) == -1 ||
      q2_superblock_write (edit, io, Q2_SPAN_FEATURES, err) == -1)
    return -1;
  if (q2_io_flush (io, err) == 0)
    return 0;
  q2_writer_become_failed (w);
  return -1;
}

/* Change feature bits durably. */
static int
change (struct q2_writer *w, const struct q2_io *io,
        const struct features *f, struct qcow2_error *err)
{
  struct q2_superblock_edit edit;
  int r;

  q2_superblock_begin (w->superblock, &edit);
  edit.header.incompatible &= ~f->clear_incompatible;
  edit.header.incompatible |= f->set_incompatible;
  edit.header.autoclear &= ~f->clear_autoclear;
  r = write_edited (w, &edit, io, err);
  q2_superblock_end (&edit, r == 0);
  return r;
}

/* ---- The beginning and the end -------------------------------------- */

/* Bits that say that something is up to date, which we do not know and so
 * cannot keep up to date; enabled bitmaps, kept up in memory at most;
 * and, if refcounts may be written late, that.  The flush makes all of it
 * durable.
 */
int
q2_writer_take_back_promises (struct q2_writer *w, const struct q2_io *io,
                              enum q2_purpose purpose,
                              struct qcow2_error *err)
{
  const bool for_disk = purpose == Q2_FOR_DISK;
  const uint64_t known = Q2_AUTOCLEAR_BITMAPS | Q2_AUTOCLEAR_DATA_RAW;
  const struct q2_header h = q2_writer_header (w);
  const struct features f = {
    .clear_autoclear = ~known,
    .set_incompatible =
      q2_writer_is_lazy (w) && !Q2_PLANTED (Q2_PLANT_LAZY_UNMARKED)
      ? Q2_INCOMPAT_DIRTY : 0,
  };

  if (h.version < 3 ||
      ((h.autoclear & f.clear_autoclear) == 0 &&
       (f.set_incompatible == 0 || q2_writer_is_marked (w)) &&
       (h.nr_bitmaps == 0 || !for_disk)))
    return 0;
  if (for_disk)
    q2_track_load (&w->track, io, w->overlap);
  if (for_disk &&
      q2_bitmaps_mark_in_use (io, &h, w->geo, w->overlap, q2_track_keeps,
                              &w->track, err) == -1)
    return -1;
  return change (w, io, &f, err);
}

int
q2_writer_mark_closed (struct q2_writer *w, const struct q2_io *io,
                       struct qcow2_error *err)
{
  const struct features f = { .clear_incompatible = Q2_INCOMPAT_DIRTY };

  /* If they are miscounted the bit stays, for the next one who opens it. */
  return q2_writer_is_lazy (w) && !w->miscounted ? change (w, io, &f, err) : 0;
}

int
q2_writer_mark_miscounted (struct q2_writer *w, const struct q2_io *io,
                           struct qcow2_error *err)
{
  const struct features f = { .set_incompatible = Q2_INCOMPAT_DIRTY };

  if (q2_writer_header (w).version < 3)
    return 0;
  if (!q2_writer_is_marked (w) && change (w, io, &f, err) == -1)
    return -1;
  if (!q2_assume (q2_writer_header (w).incompatible & Q2_INCOMPAT_DIRTY,
                  err))
    return -1;
  w->miscounted = true;
  return 0;
}

int
q2_writer_unmark_miscounted (struct q2_writer *w, const struct q2_io *io,
                             struct qcow2_error *err)
{
  const struct features f = { .clear_incompatible = Q2_INCOMPAT_DIRTY };

  if (!w->miscounted)
    return 0;
  if (!q2_assume (q2_writer_header (w).version >= 3, err))
    return -1;
  if (!q2_writer_is_lazy (w) && change (w, io, &f, err) == -1)
    return -1;
  w->miscounted = false;
  return 0;
}

/* ---- Errors --------------------------------------------------------- */

/* Who is told finds the mark in the header, if there can be one. */
static void
mark_corrupt (struct q2_writer *w, const struct q2_io *io,
              const struct qcow2_error *err)
{
  const struct features f = { .set_incompatible = Q2_INCOMPAT_CORRUPT };
  struct qcow2_error why;

  q2_writer_log (w, QCOW2_LOG_WARNING, "the image is corrupt: it is marked so "
                 "and not written to any more", QCOW2_ADVICE_REPAIR);
  if (q2_writer_header (w).version >= 3 && change (w, io, &f, &why) == -1)
    q2_writer_log (w, QCOW2_LOG_WARNING, why.text, why.advice);
  if (w->corrupt)
    w->corrupt (w->corrupt_opaque, err);
}

void
q2_writer_note_error (struct q2_writer *w, const struct q2_io *io,
                      const struct qcow2_error *err)
{
  if (err->kind == QCOW2_ERR_BUG && q2_writer_become_buggy (w))
    q2_writer_log (w, QCOW2_LOG_WARNING,
                   "nothing is written to the image any more",
                   QCOW2_ADVICE_REOPEN);
  if (err->kind == QCOW2_ERR_CORRUPT && q2_writer_become_corrupt (w))
    mark_corrupt (w, io, err);
}
