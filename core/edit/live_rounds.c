/* SPDX-License-Identifier: BSD-3-Clause */
/* live_rounds.c - the rounds of a check of an image that others write to.
 *
 * Owns      the moments in which the gate is closed, who is waited for, and
 *           whether the image was edited meanwhile.
 * Method    see live_check.c.
 * Locks     the gate is closed, or entered, as said there; none over a walk.
 */
#include "config.h"

#include "edit/live.h"

#include "base/assume.h"
#include "base/error.h"
#include "base/plant.h"

#include <time.h>

/* How often it is asked whether to go on while somebody is waited for. */
#define LOOK_MS 50
#define MAX_LOOK_MS 3200u

/* ---- Going on ----------------------------------------------------------- */

int
q2_live_go_on (struct q2_live_job *j, struct qcow2_error *err)
{
  if (j->options->progress == NULL ||
      j->options->progress (j->options->opaque, j->percent))
    return 0;
  return q2_fail (err, QCOW2_ERR_CANCELLED, QCOW2_NO_OFFSET,
                  "the check was cancelled");
}

/* -1 with j->edited: once more. */
int
q2_live_fail_edited (struct q2_live_job *j, struct qcow2_error *err)
{
  j->edited = true;
  return q2_fail (err, QCOW2_ERR_BUSY, QCOW2_NO_OFFSET, "the image, its "
                  "snapshots or its bitmaps are changed again and again while "
                  "it is checked");
}

bool
q2_live_was_edited (const struct q2_live_job *j)
{
  return atomic_load (&j->image->edits) != j->edits;
}

/* ---- Rounds ------------------------------------------------------------- */

/* Returns inside the gate, and nobody edits the image as long as the caller
 * stays there.  An edit beside changes may take long, and a check would take
 * for leaks what it counts ahead.
 */
int
q2_live_enter (struct q2_live_job *j, struct qcow2_error *err)
{
  const struct timespec pause = { 0, LOOK_MS * 1000000L };
  struct q2_gate *const gate = &j->image->gate;

  for (;;) {
    q2_gate_enter (gate);
    if (!atomic_load (&j->image->editing))
      return 0;
    q2_gate_leave (gate);
    if (q2_live_go_on (j, err) == -1)
      return -1;
    nanosleep (&pause, NULL);
  }
}

/* As the image is now, while nobody edits it. */
void
q2_live_look (struct q2_live_job *j)
{
  j->edits = atomic_load (&j->image->edits);
  j->edited = false;
  j->geo = q2_geometry_copy (&j->image->geo);
  j->header = q2_image_header (j->image);
  j->check.header = &j->header;
  j->live.l1_entries = j->geo.l1_needed;
}

static int
fail_hung (const struct q2_live_job *j, struct qcow2_error *err)
{
  return q2_fail (err, QCOW2_ERR_BUSY, QCOW2_NO_OFFSET, "the check cannot go "
                  "on, because a request has not ended for more than %u "
                  "seconds", j->w->patience_ms / 1000);
}

/* Whoever has the gate edits the image, or checks it. */
static int
close_gate (struct q2_live_job *j, struct qcow2_error *err)
{
  struct q2_gate *const gate = &j->image->gate;

  while (q2_gate_claim (gate, LOOK_MS) != 0)
    if (q2_live_go_on (j, err) == -1)
      return -1;
  if (q2_gate_close_claimed (gate, j->w->patience_ms) == 0)
    return 0;
  q2_gate_open (gate);
  return fail_hung (j, err);
}

static int
watch (struct q2_live_job *j, struct qcow2_error *err)
{
  if (!q2_assume (j->w->suspects == NULL, err) || close_gate (j, err) == -1)
    return -1;
  q2_live_look (j);
  q2_writer_watch (j->w, &j->suspects);
  q2_gate_open (&j->image->gate);
  return 0;
}

static int
drain (struct q2_live_job *j, struct qcow2_error *err)
{
  uint64_t start = q2_now_ms (), last = Q2_DRAIN_BEGIN;
  uint64_t releases = atomic_load (&j->w->releases);
  unsigned ms = LOOK_MS;
  int r;

  /* Longer each time: where flushes are slow each request may take longer, and
   * there are always others.  Nothing hangs as long as space is released.
   */
  while ((r = q2_writer_drain (j->w, &j->io, ms, &last, err)) ==
         Q2_WRITER_HUNG) {
    const uint64_t now = atomic_load (&j->w->releases);

    ms = ms < MAX_LOOK_MS ? 2 * ms : ms;
    if (q2_live_go_on (j, err) == -1)
      return -1;
    if (last != Q2_DRAIN_BEGIN && now != releases)
      start = q2_now_ms ();
    releases = now;
    if (q2_now_ms () - start > j->w->patience_ms)
      return fail_hung (j, err);
  }
  return r;
}

/* If it fails the dirty bit stays, until the next one opens the image. */
static int
judge_and_own (struct q2_live_job *j, struct qcow2_error *err)
{
  struct q2_writer *const w = j->w;
  const bool mark = !w->miscounted && q2_live_may_own (j) &&
    !Q2_PLANTED (Q2_PLANT_OWN_UNMARKED);

  /* LIVE-1: they were watched all the time that they were counted. */
  if (!q2_assume (w->suspects == &j->suspects, err))
    return -1;
  if ((mark && q2_writer_mark_miscounted (w, &j->io, err) == -1) ||
      q2_live_judge (j, err) == -1 ||
      (j->repair && q2_live_own (j, err) == -1))
    return -1;
  if (!mark)
    return 0;
  return q2_writer_commit (w, &j->io, err) == -1 ? -1
    : q2_writer_unmark_miscounted (w, &j->io, err);
}

/* Nobody edits the image in here. */
static int
judge (struct q2_live_job *j, struct qcow2_error *err)
{
  int r;

  q2_gate_enter (&j->image->gate);
  if (q2_live_was_edited (j))
    r = q2_live_fail_edited (j, err);
  else
    r = judge_and_own (j, err);
  q2_gate_leave (&j->image->gate);
  return r;
}

/* A repair was begun because all refcounts could be read. */
static int
drain_or_skip (struct q2_live_job *j, struct qcow2_error *err)
{
  const int r = drain (j, err);

  j->undrained = r == -1 && !j->repair && q2_is_unread_refcount (err);
  return j->undrained ? 0 : r;
}

static int
drain_and_count (struct q2_live_job *j, struct qcow2_error *err)
{
  int r = drain_or_skip (j, err);

  if (r == 0)
    r = q2_live_count (&j->check, err);
  /* What was read may have been something else's. */
  return q2_live_was_edited (j) && (r == 0 || err->kind != QCOW2_ERR_CANCELLED)
    ? q2_live_fail_edited (j, err) : r;
}

int
q2_live_round (struct q2_live_job *j, struct qcow2_error *err)
{
  struct q2_findings silent = { .fn = NULL };
  int r;

  j->edited = false;
  j->check.skipped = 0;
  j->check.findings = &silent;
  r = watch (j, err);
  if (r == 0)
    r = drain_and_count (j, err);
  /* In a repair all references must have been seen, now as before. */
  if (r == 0 && j->repair && (j->check.skipped > 0 || silent.incomplete))
    r = q2_fail (err, QCOW2_ERR_IO, QCOW2_NO_OFFSET, "a table that could be "
                 "read before cannot be read any more");
  if (r == 0 && Q2_PLANTED (Q2_PLANT_FORGET_TOUCH))
    nanosleep (&(struct timespec) { .tv_nsec = 20000000 }, NULL);
  if (r == 0)
    r = judge (j, err);
  q2_writer_watch (j->w, NULL);
  j->check.findings = NULL;
  if (r == -1)
    return -1;
  j->findings.incomplete |= silent.incomplete || j->check.skipped > 0;
  q2_live_report (j);
  return 0;
}
