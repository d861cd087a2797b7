/* SPDX-License-Identifier: BSD-3-Clause */
/* unclosed.c - images that were not closed.
 *
 * Owns      when their tables are scanned, and repaired.
 * Method    a scan when the image is opened, so that whoever did that learns
 *           what is wrong; unless it was scanned not long ago, and took long.
 *           The first change begins with the repair, or fails.  What came of a
 *           scan that may go better the next time, since a host did not answer
 *           or a client did not wait, is not the last word.
 * Locks     none: nobody else uses the image when it is opened, or prepares it
 *           for the first change; see activate.c.
 */
#include "config.h"

#include "write/writer.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/plant.h"

static bool
is_unclosed (const struct q2_header *h)
{
  return h->version >= 3 && (h->incompatible & Q2_INCOMPAT_DIRTY);
}

static void
scan (struct q2_writer *w, const struct q2_io *io)
{
  const struct q2_header h = q2_writer_header (w);

  if (!is_unclosed (&h) || Q2_PLANTED (Q2_PLANT_SKIP_REPAIR))
    return;
  w->repair = q2_repair_scan (io, &h, w->geo, w->log, w->log_opaque,
                              &w->repair_error);
  w->unclosed =
    w->repair ? Q2_UNCLOSED_REPAIR_DUE : Q2_UNCLOSED_UNREPAIRABLE;
  if (w->unclosed == Q2_UNCLOSED_UNREPAIRABLE)
    q2_writer_log (w, QCOW2_LOG_WARNING, w->repair_error.text,
                   w->repair_error.advice);
}

/* The same is said again of what has failed, and what has not is put off. */
static void
take_known (struct q2_writer *w, const struct qcow2_scan *known)
{
  if (!known->failed) {
    w->unclosed = Q2_UNCLOSED_SCAN_DUE;
    q2_writer_log (w, QCOW2_LOG_WARNING, "the image was not closed cleanly, "
                   "and was scanned a while ago; it is scanned again before "
                   "the first write", QCOW2_ADVICE_NONE);
    return;
  }
  w->unclosed = Q2_UNCLOSED_UNREPAIRABLE;
  w->repair_error = known->error;
  q2_writer_log (w, QCOW2_LOG_WARNING, w->repair_error.text,
                 w->repair_error.advice);
}

void
q2_writer_first_scan (struct q2_writer *w, const struct q2_io *io,
                      const struct qcow2_scan *known)
{
  const uint64_t start = q2_meter_now ();
  const struct q2_header h = q2_writer_header (w);

  if (!is_unclosed (&h))
    return;
  if (known != NULL) {
    take_known (w, known);
    return;
  }
  scan (w, io);
  w->first_scan = (struct qcow2_scan) {
    .ns = q2_max (q2_meter_now () - start, 1) * 1000,
    .failed = w->unclosed == Q2_UNCLOSED_UNREPAIRABLE,
    .error = w->repair_error,
  };
}

/* What went wrong the last time may be gone, and so may be who did not wait
 * for it, but it is not known how far it got then.  The fields that a repair
 * changes are read again, and so is all that it looks at.
 */
static void
scan_again (struct q2_writer *w, const struct q2_io *io)
{
  const enum qcow2_error_kind kind = w->repair_error.kind;

  if (kind != QCOW2_ERR_IO && kind != QCOW2_ERR_NOMEM &&
      kind != QCOW2_ERR_NO_SPACE && kind != QCOW2_ERR_ABANDONED)
    return;
  if (q2_superblock_reload (w->superblock, io, &w->repair_error) == -1 ||
      q2_tables_reload (w->tables, io, &w->repair_error) == -1)
    return;
  w->unclosed = Q2_UNCLOSED_CLEAN;
  scan (w, io);
}

static int
write_repair (struct q2_writer *w, const struct q2_io *io,
              struct qcow2_error *err)
{
  int r = q2_repair_write (w->repair, io, w->superblock, w->geo, err);

  q2_repair_free (w->repair);
  w->repair = NULL;
  w->unclosed = Q2_UNCLOSED_CLEAN;
  if (r == 0)
    r = q2_tables_reload (w->tables, io, err);
  if (io->shared->flush_failed)
    q2_writer_become_failed (w);
  if (r == -1) {                /* nobody knows how far that got */
    w->unclosed = Q2_UNCLOSED_UNREPAIRABLE;
    w->repair_error = *err;
  }
  return r;
}

/* The refcounts of an image that was not closed are made true. */
int
q2_writer_repair (struct q2_writer *w, const struct q2_io *io,
                  struct qcow2_error *err)
{
  q2_check (w->state != Q2_WRITER_OPEN && !w->prepared);
  if (w->unclosed == Q2_UNCLOSED_SCAN_DUE) {
    w->unclosed = Q2_UNCLOSED_CLEAN;
    scan (w, io);
  }
  if (w->unclosed == Q2_UNCLOSED_UNREPAIRABLE)
    scan_again (w, io);
  if (w->unclosed == Q2_UNCLOSED_UNREPAIRABLE) {
    *err = w->repair_error;
    return -1;
  }
  return w->unclosed == Q2_UNCLOSED_REPAIR_DUE ? write_repair (w, io, err) : 0;
}
