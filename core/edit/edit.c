/* SPDX-License-Identifier: BSD-3-Clause */
/* edit.c - a change of an open image itself, rather than of its disk.
 *
 * Owns      what all such changes begin and end with, and the order in which
 *           what they make becomes the image's.
 * Method    see edit.h.  What was handed out or raised is noted, so that it
 *           can be given back until the header names it.  After a failed
 *           switch the file has either header, so it is kept, at worst as a
 *           leak.
 * Locks     the gate is closed, so no change runs and none is in flight; or it
 *           is claimed, and the edit knows what others may change.  The rest
 *           guards itself (docs/LOCKING.md).
 */
#include "config.h"

#include "edit/edit.h"

#include "image/request.h"
#include "track/following.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Releasing changes refcounts, which makes another commit necessary. */
#define MAX_COMMITS 16

/* While changes go on. */
#define MAX_ROUNDS_AHEAD 3
#define SHORT_MS 20

int
q2_edit_fail_busy (const char *what, struct qcow2_error *err)
{
  return q2_fail (err, QCOW2_ERR_BUSY, QCOW2_NO_OFFSET,
                  "%s, because a request has not ended for more than %u "
                  "seconds", what, Q2_WRITER_PATIENCE_MS / 1000);
}

int
q2_edit_settle (struct q2_edit *e, const char *what, struct qcow2_error *err)
{
  return q2_writer_settle (e->w, e->w->patience_ms) ? 0
    : q2_edit_fail_busy (what, err);
}

int
q2_edit_check (const struct qcow2_image *image, const char *what,
               struct qcow2_error *err)
{
  const struct qcow2_info info = q2_image_info (image);

  if (image->view != NULL || info.version < 2)
    return q2_fail (err, QCOW2_ERR_UNSUPPORTED, QCOW2_NO_OFFSET,
                    "%s: it is no image of version 2 or 3, but %s", what,
                    image->view != NULL ? "a part of one"
                    : info.version == 1 ? "of version 1" : "a raw file");
  if (!info.writable)
    return q2_fail_advise (err, QCOW2_ERR_READ_ONLY, info.read_only_advice,
                           QCOW2_NO_OFFSET, "%s: the image is read-only: %s",
                           what, info.why_read_only);
  return q2_assume (!image->inspect, err) ? 0 : -1;
}

/* The gate stays closed as long as it has not ended, unless it is beside. */
static bool
is_begun (const struct q2_edit *e)
{
  return e->begun && (e->beside || q2_gate_is_closed (&e->image->gate));
}

static const enum q2_purpose purposes[] = {
  [Q2_EDIT_IMAGE] = Q2_FOR_IMAGE, [Q2_EDIT_DISK] = Q2_FOR_DISK,
  [Q2_EDIT_BITMAPS] = Q2_FOR_BITMAPS,
};

/* What others were about to do with the image as it was, they do anew. */
static void
note_closed (struct q2_edit *e)
{
  atomic_fetch_add (&e->image->edits, 1);
  /* One that could not be ended: see transact_part.c. */
  q2_since_free (e->w->since);
  e->w->since = NULL;
  q2_track_purge (&e->w->track);
}

/* From the next commit on the file has no refcounts that are higher than here,
 * but for what is let go: who reads them in the file finds what is true.  Who
 * relies on that makes this commit first.
 */
static void
begin (struct q2_edit *e)
{
  q2_writer_hold_refcounts (e->w);
  e->begun = true;
}

/* What it has changed in tables, and could not commit, is of any kind: the
 * next commit is not short.
 */
static void
end (struct q2_edit *e)
{
  if (e->begun) {
    q2_mutex_lock (&e->w->link_lock);
    e->w->data_first = true;
    q2_mutex_unlock (&e->w->link_lock);
    q2_writer_release_refcounts (e->w);
  }
  e->begun = e->beside = false;
}

int
q2_edit_begin_closed (struct q2_edit *e, struct qcow2_image *image,
                      const struct qcow2_io *host, enum q2_edit_kind kind,
                      const char *what, struct qcow2_error *err)
{
  struct q2_writer *const w = &image->writer;

  *e = (struct q2_edit) {
    .image = image, .w = w, .io = q2_image_io (image, host),
  };
  if (!q2_assume (q2_gate_is_closed (&image->gate), err))
    return -1;
  note_closed (e);
  if (q2_edit_check (image, what, err) == -1)
    return -1;
  begin (e);
  /* What an edit of the disk changes is in no bitmap. */
  if (q2_writer_begin (w, &e->io, purposes[kind], err) == 0 &&
      q2_edit_commit (e, err) == 0 &&
      (kind != Q2_EDIT_DISK ||
       q2_writer_give_up_bitmaps (w, &e->io, err) == 0) &&
      q2_assume (w->prepared, err))
    return 0;
  end (e);
  q2_writer_note_error (w, &e->io, err);
  return q2_request_end_reading (&e->io, -1, err);
}

static int
prepare_beside (struct q2_edit *e, struct qcow2_error *err)
{
  int r;

  q2_gate_enter (&e->image->gate);
  r = q2_writer_begin (e->w, &e->io, Q2_FOR_IMAGE, err);
  q2_gate_leave (&e->image->gate);
  return r == 0 && !q2_assume (e->w->prepared, err) ? -1 : r;
}

int
q2_edit_begin_beside (struct q2_edit *e, struct qcow2_image *image,
                      const struct qcow2_io *host, const char *what,
                      struct qcow2_error *err)
{
  *e = (struct q2_edit) {
    .image = image, .w = &image->writer, .io = q2_image_io (image, host),
  };
  if (q2_edit_check (image, what, err) == -1 ||
      q2_edit_freeze (e, what, Q2_WRITER_PATIENCE_MS, err) == -1)
    return -1;
  /* Now no change is inside: a check that is counting learns that it has to
   * begin again, and does not until this is over (live_rounds.c).
   */
  atomic_fetch_add (&image->edits, 1);
  atomic_store (&image->editing, true);
  begin (e);
  q2_edit_thaw (e);
  if (prepare_beside (e, err) == 0)
    return 0;
  end (e);
  atomic_store (&image->editing, false);
  q2_writer_note_error (e->w, &e->io, err);
  return q2_request_end_reading (&e->io, -1, err);
}

int
q2_edit_freeze (struct q2_edit *e, const char *what, unsigned ms,
                struct qcow2_error *err)
{
  if (q2_gate_close_claimed (&e->image->gate, ms) != 0)
    return q2_edit_fail_busy (what, err);
  e->beside = false;
  return 0;
}

void
q2_edit_thaw (struct q2_edit *e)
{
  e->beside = true;
  q2_gate_let_on (&e->image->gate);
}

int
q2_edit_close (struct q2_edit *e, const char *what, struct qcow2_error *err)
{
  if (!q2_assume (e->beside, err) ||
      q2_edit_commit_ahead (e->image, e->io.host, err) == -1 ||
      q2_edit_freeze (e, what, e->w->patience_ms, err) == -1)
    return -1;
  note_closed (e);
  atomic_store (&e->image->editing, false);
  return 0;
}

/* Each round has less to write: what came while the one before was running.
 * As a client's flush this is outside of the gate, so that whoever closes it
 * meanwhile need not wait.
 */
int
q2_edit_commit_ahead (struct qcow2_image *image, const struct qcow2_io *host,
                      struct qcow2_error *err)
{
  struct q2_writer *const w = &image->writer;
  const struct q2_io io = q2_image_io (image, host);
  uint64_t ms = UINT64_MAX;
  int r = 0;

  if (!w->prepared)
    return 0;
  for (unsigned i = 0; r == 0 && i < MAX_ROUNDS_AHEAD && ms > SHORT_MS &&
       !q2_gate_is_closed (&image->gate); ++i) {
    const uint64_t start = q2_now_ms ();

    r = q2_writer_commit (w, &io, err);
    ms = q2_now_ms () - start;
  }
  if (r == -1)
    q2_writer_note_error (w, &io, err);
  return q2_request_end_reading (&io, r, err);
}

int
q2_edit_begin (struct q2_edit *e, struct qcow2_image *image,
               const struct qcow2_io *host, enum q2_edit_kind kind,
               const char *what, struct qcow2_error *err)
{
  if (q2_edit_check (image, what, err) == -1 ||
      q2_edit_commit_ahead (image, host, err) == -1)
    return -1;
  if (q2_gate_close (&image->gate, Q2_WRITER_PATIENCE_MS) != 0)
    return q2_edit_fail_busy (what, err);
  if (q2_edit_begin_closed (e, image, host, kind, what, err) == 0)
    return 0;
  q2_gate_open (&image->gate);
  return -1;
}

/* ---- New structures -------------------------------------------------- */

/* Note what is to be given back after a failure. */
static int
reserve_note (struct q2_edit *e, struct qcow2_error *err)
{
  return q2_frees_reserve (&e->made, 1) ? 0
    : q2_fail_nomem (err, "what is being made");
}

/* There is no space: what others have let go until now, and requests may use,
 * is waited for.
 */
static bool
make_space (struct q2_edit *e, const struct qcow2_error *err)
{
  uint64_t last = Q2_DRAIN_BEGIN;
  struct qcow2_error ignored;

  return e->beside && err->kind == QCOW2_ERR_NO_SPACE &&
    q2_writer_is_dirty (e->w) &&
    q2_writer_drain (e->w, &e->io, e->w->patience_ms, &last, &ignored) == 0;
}

/* ORDER-13: what was in use a moment ago may still be written to by a request
 * that has found it through another entry of a damaged image.  Those that read
 * do no harm.
 */
static int
settle_writes (struct q2_edit *e, enum q2_meta_class class,
               struct qcow2_error *err)
{
  if (!e->beside || class == Q2_META_NONE ||
      q2_space_is_settled (e->w->space))
    return 0;
  if (q2_edit_freeze (e, "new structures cannot be written",
                      e->w->patience_ms, err) == -1)
    return -1;
  q2_edit_thaw (e);
  return 0;
}

int
q2_edit_alloc (struct q2_edit *e, uint64_t bytes, enum q2_meta_class class,
               uint64_t *ret_host_off, struct qcow2_error *err)
{
  const unsigned bits = e->w->geo->cluster_bits;
  const uint64_t nr = (bytes >> bits) +
    ((bytes & (e->w->geo->cluster_size - 1)) != 0);
  uint64_t cluster;
  bool again = true;
  int r;

  if (!q2_assume (nr > 0, err) || !q2_assume (is_begun (e), err) ||
      reserve_note (e, err) == -1)
    return -1;
  while ((r = q2_space_alloc_run (e->w->space, &e->io, nr, &cluster, err)) !=
         0) {
    if (r == Q2_SPACE_COMMIT_FIRST ? q2_edit_commit (e, err) == -1
        : !again || !make_space (e, err))
      return -1;
    again &= r != -1;
  }
  /* The first cluster is the header's, whatever refcounts say. */
  if (!q2_assume (cluster > 0 &&
                  (cluster + nr) << bits <= q2_io_size (&e->io), err))
    return -1;
  if (class != Q2_META_NONE &&
      q2_overlap_add (e->w->overlap, cluster << bits, nr << bits, class, err)
      == -1) {
    q2_space_undo (e->w->space, &e->io, cluster, nr);
    return -1;
  }
  q2_frees_add (&e->made, cluster, nr);
  if (settle_writes (e, class, err) == -1)
    return -1;
  *ret_host_off = cluster << bits;
  return 0;
}

int
q2_edit_alloc_some (struct q2_edit *e, uint64_t stream, uint64_t want,
                    uint64_t *ret_host_off, uint64_t *ret_nr,
                    struct qcow2_error *err)
{
  struct q2_space_run run;
  bool again = true;
  int r;

  if (!q2_assume (want > 0 && is_begun (e), err) ||
      reserve_note (e, err) == -1)
    return -1;
  while ((r = q2_space_alloc (e->w->space, &e->io, stream, want, &run, err))
         != 0) {
    if (r == -1 ? !again || !make_space (e, err)
        : r == Q2_SPACE_COMMIT_FIRST
        ? q2_edit_commit (e, err) == -1
        : q2_edit_settle (e, "space cannot be used", err) == -1)
      return -1;
    again &= r != -1;
  }
  if (!q2_assume (run.cluster > 0 && run.nr > 0 && run.nr <= want, err))
    return -1;
  q2_frees_add (&e->made, run.cluster, run.nr);
  *ret_host_off = run.cluster << e->w->geo->cluster_bits;
  *ret_nr = run.nr;
  return 0;
}

/* Which class of requests that is, for statistics and faults. */
static enum qcow2_io_class
io_class (enum q2_meta_class class)
{
  switch (class) {
  case Q2_META_L1:
  case Q2_META_INACTIVE_L1:
    return QCOW2_IO_L1;
  case Q2_META_L2:
  case Q2_META_INACTIVE_L2:
  case Q2_META_SHARED_L2:
    return QCOW2_IO_L2;
  case Q2_META_REFCOUNT_TABLE:
  case Q2_META_REFCOUNT_BLOCK:
    return QCOW2_IO_REFCOUNT;
  case Q2_META_NONE:
  case Q2_META_HEADER:
  case Q2_META_SNAPSHOT_TABLE:
  case Q2_META_ENCRYPTION_HEADER:
  case Q2_META_BITMAP_DIRECTORY:
  case Q2_META_BITMAP_TABLE:
  case Q2_META_BITMAP_BITS:
    break;
  }
  return QCOW2_IO_HEADER;
}

int
q2_edit_write (struct q2_edit *e, const void *buf, uint64_t len,
               uint64_t host_off, enum q2_meta_class class,
               struct qcow2_error *err)
{
  /* The header changes by q2_edit_switch only. */
  if (!q2_assume (is_begun (e), err) ||
      !q2_assume (class != Q2_META_HEADER && len > 0 &&
                  host_off >= e->w->geo->cluster_size, err) ||
      q2_overlap_check (e->w->overlap, host_off, len, class, err) == -1)
    return -1;
  return q2_io_write (&e->io, buf, len, host_off, io_class (class), err);
}

int
q2_edit_raise (struct q2_edit *e, uint64_t cluster, uint64_t nr,
               struct qcow2_error *err)
{
  struct q2_free_run run = { cluster, nr };
  int r;

  if (!q2_assume (is_begun (e), err))
    return -1;
  do {
    const uint64_t before = run.cluster;

    if (reserve_note (e, err) == -1)
      return -1;
    r = q2_space_raise (e->w->space, &e->io, &run, err);
    if (run.cluster != before)
      q2_frees_add (&e->made, before, run.cluster - before);
    if (r == Q2_SPACE_COMMIT_FIRST && q2_edit_commit (e, err) == -1)
      return -1;
  } while (r == Q2_SPACE_COMMIT_FIRST);
  return r == 0 && !q2_assume (run.cluster == cluster + nr, err) ? -1 : r;
}

void
q2_edit_keep (struct q2_edit *e)
{
  q2_check (is_begun (e));
  e->made.nr = 0;
}

int
q2_edit_give_back (struct q2_edit *e, uint64_t cluster, uint64_t nr,
                   struct qcow2_error *err)
{
  if (reserve_note (e, err) == -1 ||
      !q2_assume (q2_frees_remove (&e->made, cluster, nr), err))
    return -1;
  q2_edit_let_go (e, cluster, nr);
  return 0;
}

/* ---- Durable --------------------------------------------------------- */

int
q2_edit_commit (struct q2_edit *e, struct qcow2_error *err)
{
  if (!q2_assume (is_begun (e), err))
    return -1;
  for (unsigned i = 0; i < MAX_COMMITS; ++i) {
    if (q2_writer_commit (e->w, &e->io, err) == -1)
      return -1;
    /* Else readers keep what was let go; or others write on. */
    if (e->beside || !q2_writer_is_dirty (e->w))
      break;
  }
  return 0;
}

int
q2_edit_switch (struct q2_edit *e, q2_superblock_edit_fn fn, void *opaque,
                unsigned flags, struct qcow2_error *err)
{
  const unsigned bits = e->w->geo->cluster_bits;

  /* A request may have found it corrupt while it was edited beside. */
  if (q2_writer_check_usable (e->w, err) == -1)
    return -1;
  if ((!Q2_PLANTED (Q2_PLANT_EARLY_SWITCH) && q2_edit_commit (e, err) == -1) ||
      q2_overlap_check (e->w->overlap, 0, UINT64_C (1) << bits,
                        Q2_META_HEADER, err) == -1)
    return -1;
  if (q2_superblock_change (e->w->superblock, &e->io, fn, opaque, flags, err)
      == 0) {
    e->switched = true;
    e->outcome = QCOW2_OUTCOME_DONE;
    return 0;
  }
  /* It is not known which image the file is, so nothing may be written to
   * either.
   */
  if (e->w->superblock->in_doubt) {
    e->switched = true;
    if (e->outcome == QCOW2_OUTCOME_NOT_DONE)   /* it is the first */
      e->outcome = QCOW2_OUTCOME_UNKNOWN;
    q2_writer_become_failed (e->w);
  }
  return -1;
}

int
q2_edit_try (struct q2_edit *e, q2_superblock_edit_fn fn, void *opaque,
             unsigned flags, struct qcow2_error *err)
{
  if (!q2_assume (is_begun (e) && !e->switched, err))
    return -1;
  return q2_superblock_change (e->w->superblock, &e->io, fn, opaque,
                               flags | Q2_SUPERBLOCK_TRY, err);
}

void
q2_edit_let_go (struct q2_edit *e, uint64_t cluster, uint64_t nr)
{
  struct q2_writer *const w = e->w;
  const unsigned bits = w->geo->cluster_bits;

  if (!q2_check (is_begun (e)) || !q2_check (nr > 0))
    return;
  q2_overlap_remove (w->overlap, cluster << bits, nr << bits);
  q2_mutex_lock (&w->link_lock);
  q2_touch (w->suspects, cluster, nr);
  if (q2_frees_reserve (&w->unlinked, 1))
    q2_frees_add (&w->unlinked, cluster, nr);
  q2_mutex_unlock (&w->link_lock);
}

void
q2_edit_let_go_bytes (struct q2_edit *e, uint64_t host_off, uint64_t len)
{
  const unsigned bits = e->w->geo->cluster_bits;

  if (len > 0)
    q2_edit_let_go (e, host_off >> bits,
                    q2_align_up (len, e->w->geo->cluster_size) >> bits);
}

/* ---- The end --------------------------------------------------------- */

void
q2_edit_take_back (struct q2_edit *e)
{
  struct qcow2_error why;

  for (size_t i = 0; i < e->made.nr; ++i)
    q2_edit_let_go (e, e->made.runs[i].cluster, e->made.runs[i].nr);
  e->made.nr = 0;
  if (q2_edit_commit (e, &why) == -1)
    q2_writer_log (e->w, QCOW2_LOG_DEBUG, why.text, why.advice);
}

/* Who asked for the change is to know what came of it. */
static int
fail_end (const struct q2_edit *e, struct qcow2_error *err)
{
  char text[160];

  err->outcome = e->outcome;
  if (e->done == NULL || e->outcome == QCOW2_OUTCOME_NOT_DONE)
    return -1;
  if (e->outcome == QCOW2_OUTCOME_DONE)
    snprintf (text, sizeof text, "%s, but what follows has failed", e->done);
  else
    snprintf (text, sizeof text, "it is not known whether %s, since that "
              "could not be written", e->done);
  return q2_fail_outcome (err, e->outcome, text);
}

int
q2_edit_end_closed (struct q2_edit *e, int result, struct qcow2_error *err)
{
  q2_check (is_begun (e));
  q2_check (result == 0 || result == -1);
  if (result == -1 && !e->switched)
    q2_edit_take_back (e);
  else if (result == 0)
    result = q2_edit_commit (e, err);
  q2_frees_destroy (&e->made);
  end (e);
  if (q2_check_end (err) == -1)
    result = -1;
  if (result == -1 && !(e->aside && err->kind == QCOW2_ERR_CORRUPT))
    q2_writer_note_error (e->w, &e->io, err);
  return result == 0 ? 0 : fail_end (e, err);
}

int
q2_edit_end (struct q2_edit *e, int result, struct qcow2_error *err)
{
  result = q2_edit_end_closed (e, result, err);
  atomic_store (&e->image->editing, false);
  q2_gate_open (&e->image->gate);
  return result;
}

int
q2_edit_end_last (struct q2_edit *e, int result, struct qcow2_error *err)
{
  result = q2_edit_end_closed (e, result, err);
  if (result == 0 &&
      q2_request_end_reading (&e->io, q2_writer_end (e->w, &e->io, err), err)
      == -1)
    result = fail_end (e, err);
  if (result == -1 && e->switched)
    q2_writer_become_failed (e->w);
  q2_gate_open (&e->image->gate);
  return result;
}

void
q2_edit_cut_file (struct q2_edit *e, uint64_t end)
{
  const struct qcow2_io *const host = e->io.host;
  struct qcow2_error why;
  int r = 0;

  if (host->ops->shorten == NULL || !q2_check (!e->begun))
    return;
  if (end == 0)
    r = q2_space_find_end (e->w->space, &e->io, 0, &end, &why);
  if (r == 0 && end < q2_io_size (&e->io))
    r = host->ops->shorten (host->opaque, end);
  if (r != 0)
    q2_writer_log (e->w, QCOW2_LOG_DEBUG, "the image file was not cut at the "
                   "end of what is in use", QCOW2_ADVICE_NONE);
}
