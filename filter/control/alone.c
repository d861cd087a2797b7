/* SPDX-License-Identifier: BSD-3-Clause */
/* alone.c - images that are changed while nobody else uses them.
 *
 * Owns      having an image for a command; the commands that apply a snapshot
 *           and that empty an image.  resize.c has the one that makes a disk
 *           smaller.
 * Method    what is open of the image afterwards is not what the file has, so
 *           nobody else may use it: no client, of the disk or of a part of it,
 *           and no job.  Who comes meanwhile waits, as while an image is being
 *           opened (share/state.c), and opens it anew.  A client that has just
 *           left is waited for.  What is refused in any case is refused before
 *           the image is closed to others.
 * Locks     none here, and none held; states.lock for a moment.
 */
#include "config.h"

#include "control/alone.h"

#include "qcow2.h"
#include "report.h"
#include "control/again.h"
#include "control/jobs.h"
#include "control/lookup.h"
#include "control/verbs.h"
#include "share/disk.h"
#include "share/state.h"

bool
alone_begin (struct target *t, struct call *call)
{
  struct again again = { .nap = 0 };
  struct qcow2_error err;

  while (t->is_lent || !state_claim (t->peek.access.state))
    if (t->is_lent || !again_in_a_moment (&again)) {
      call->kind = "busy";
      call_fail (call, "%s%sthis is only possible while no client uses the "
                 "image, or a part of it, and no job; disconnect them first",
                 t->name, t->name[0] ? ": " : "");
      return false;
    }
  /* Whatever fails from here on, clients lose nothing. */
  if (qcow2_flush (t->image, t->io, &err) == -1) {
    call_fail_engine (call, t->name, &err);
    return false;
  }
  t->disk->kept = true;
  return true;
}

/* What has failed after the change has ended the image, too. */
bool
alone_is_done (struct target *t, struct call *call, int r,
               const struct qcow2_error *err)
{
  (void) holds (!t->is_lent && !t->disk->ended);
  t->disk->ended = r == 0 || err->outcome != QCOW2_OUTCOME_NOT_DONE;
  if (r == 0)
    return true;
  /* Nobody may read what a job has said. */
  if (t->disk->ended)
    report (t->name, err);
  call_fail_engine (call, t->name, err);
  return err->outcome == QCOW2_OUTCOME_DONE;
}

/* ---- Applying a snapshot ------------------------------------------------ */

static bool
look_up (struct call *call, const struct target *t, struct lookup *lookup)
{
  const int r = lookup_snapshot (lookup, call, t);
  const bool by_id = lookup->id.bytes != NULL;

  if (r == 0) {
    call->kind = "name";
    call_fail (call, "%s%sthere is no snapshot with the %s '%.200s'", t->name,
               t->name[0] ? ": " : "", by_id ? "id" : "name",
               by_id ? lookup->id.bytes : lookup->name.bytes);
  }
  return r == 1;
}

/* Once more when nobody else can delete it. */
static bool
apply (struct call *call, struct target *t, struct lookup *lookup)
{
  const bool by_id = lookup->id.bytes != NULL;
  const struct qcow2_progress progress = {
    .fn = job_go_on, .opaque = call, .last = job_go_last,
  };
  struct qcow2_error err;
  int r;

  if (!look_up (call, t, lookup) || !alone_begin (t, call) ||
      !look_up (call, t, lookup))
    return false;
  r = qcow2_snapshot_apply (t->image, t->io,
                            by_id ? &lookup->id : &lookup->name, by_id,
                            &progress, &err);
  return alone_is_done (t, call, r, &err);
}

json_t *
verb_snapshot_apply (struct call *call)
{
  const char *const id = call_text (call, "id");
  const char *const name = call_text (call, "name");
  const char *const device = call_text (call, "device");
  struct lookup lookup = { lookup_name (id), lookup_name (name), NULL, false };
  struct target t;
  bool ok;

  if ((id == NULL) == (name == NULL))
    return call_fail (call, "Give the name or the id of a snapshot, one of "
                      "them");
  if (!target_open (&t, call, device, true))
    return NULL;
  ok = apply (call, &t, &lookup);
  target_close (&t);
  if (ok)
    call_event ("X_Q2_SNAPSHOT_APPLIED",
                json_pack ("{s:s,s:O,s:O}", "device", device,
                           "name", json_object_get (lookup.found, "name"),
                           "id", json_object_get (lookup.found, "id")));
  if (ok && call->class == NULL)
    return lookup.found;
  json_decref (lookup.found);
  return NULL;
}

/* ---- Emptying an image -------------------------------------------------- */

json_t *
verb_empty (struct call *call)
{
  const char *const device = call_text (call, "device");
  const struct qcow2_progress progress = {
    .fn = job_go_on, .opaque = call, .last = job_go_last,
  };
  struct qcow2_error err;
  struct target t;
  bool ok;
  int r;

  if (!target_open (&t, call, device, true))
    return NULL;
  ok = alone_begin (&t, call);
  if (ok) {
    r = qcow2_make_empty (t.image, t.io, &progress, &err);
    ok = alone_is_done (&t, call, r, &err);
  }
  target_close (&t);
  if (ok)
    call_event ("X_Q2_EMPTIED", json_pack ("{s:s}", "device", device));
  return ok && call->class == NULL ? json_object () : NULL;
}
