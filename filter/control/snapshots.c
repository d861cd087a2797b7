/* SPDX-License-Identifier: BSD-3-Clause */
/* snapshots.c - deleting snapshots of images that are being served.
 *
 * Owns      the command that does; plan.c takes them.
 * Method    reads and changes of the disk go on meanwhile.  A snapshot cannot
 *           be deleted while somebody has it open, or a difference with it;
 *           views that are only kept for the next client are closed first, and
 *           a client that has just left is waited for.  As in QEMU what was
 *           deleted is returned.
 * Locks     none here; changes of one image wait for each other in the engine.
 */
#include "config.h"

#include "control/verbs.h"

#include "qcow2.h"
#include "control/again.h"
#include "control/jobs.h"
#include "control/lookup.h"
#include "control/target.h"
#include "share/disk.h"
#include "share/views.h"

static void
tell (const char *event, const char *device, const char *name, const char *id)
{
  json_t *const data = json_pack ("{s:s,s:s}", "device", device, "name",
                                  name);

  if (id != NULL)
    json_object_set_new (data, "id", json_string (id));
  call_event (event, data);
}

/* ---- Deleting one ------------------------------------------------------ */

static bool
look_up (struct call *call, const struct target *t, struct lookup *lookup)
{
  const int r = lookup_snapshot (lookup, call, t);

  if (r == 0) {
    call->kind = "name";
    call_fail (call, "%s: there is no snapshot with the id '%.200s' and the "
               "name '%.200s'", t->name,
               lookup->id.bytes ? lookup->id.bytes : "",
               lookup->name.bytes ? lookup->name.bytes : "");
  }
  else if (r == 1 && lookup->id_is_taken)
    call_fail (call, "%s: another snapshot has the same id; give only its "
               "name", t->name);
  return r == 1 && !lookup->id_is_taken;
}

/* With both, the engine is told the id, which is the first such one.  Returns
 * what is deleted, which call_fail may have been called after.
 */
static json_t *
delete (struct call *call, struct target *t, struct lookup *lookup)
{
  const bool by_id = lookup->id.len > 0;
  const struct qcow2_progress progress = { .fn = job_go_on, .opaque = call };
  struct again again = { .nap = 0 };
  struct qcow2_error err;

  do {
    if (!look_up (call, t, lookup))
      return NULL;
    views_close_idle (t->disk);
    /* The engine begins with what cannot be undone. */
    if (!job_set_final (call->job, true))
      return call_fail (call, "%s: cancelled; the snapshot is still there",
                        t->name);
    if (qcow2_snapshot_delete (t->image, t->io,
                               by_id ? &lookup->id : &lookup->name, by_id,
                               &progress, &err) == 0)
      return json_incref (lookup->found);
    (void) job_set_final (call->job, false);
  } while (again_soon (&again, &err));
  call_fail_engine (call, t->name, &err);
  return err.outcome == QCOW2_OUTCOME_DONE ? json_incref (lookup->found)
    : NULL;
}

/* As in QEMU an empty one says nothing. */
static struct qcow2_name
given (struct call *call, const char *key)
{
  const char *const text = call_text (call, key);

  return lookup_name (text && text[0] ? text : NULL);
}

json_t *
verb_snapshot_delete (struct call *call)
{
  struct lookup lookup = {
    .id = given (call, "id"),
    .name = given (call, "name"),
  };
  struct target t;
  json_t *result;

  if (lookup.id.len == 0 && lookup.name.len == 0)
    return call_fail (call, "Name or id must be provided");
  if (!target_open (&t, call, call_text (call, "device"), true))
    return NULL;
  result = delete (call, &t, &lookup);
  target_close (&t);
  json_decref (lookup.found);
  if (result != NULL)
    tell ("X_Q2_SNAPSHOT_DELETED", call_text (call, "device"),
          json_string_value (json_object_get (result, "name")),
          json_string_value (json_object_get (result, "id")));
  if (call->class == NULL)
    return result;
  json_decref (result);
  return NULL;
}
