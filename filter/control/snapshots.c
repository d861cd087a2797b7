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
#include "control/target.h"
#include "share/disk.h"
#include "share/views.h"

#include <string.h>

static struct qcow2_name
name_of (const char *text)
{
  return (struct qcow2_name) { text, text ? strlen (text) : 0 };
}

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

/* The first one that is meant. */
struct search {
  struct qcow2_name id, name;   /* empty: any */
  json_t *found;                /* as verb_query_snapshots has it */
  bool id_is_taken;             /* by another one before it */
};

static bool
same (const struct qcow2_name *a, const struct qcow2_name *b)
{
  return a->len == b->len && memcmp (a->bytes, b->bytes, a->len) == 0;
}

static int
look_at (void *opaque, const struct qcow2_snapshot *s)
{
  struct search *const search = opaque;

  if (search->id.len > 0 && !same (&s->id, &search->id))
    return 0;
  if (search->name.len > 0 && !same (&s->name, &search->name)) {
    search->id_is_taken = search->id.len > 0;
    return 0;
  }
  search->found = verb_snapshot_json (s);
  return 1;
}

/* Somebody else may have deleted it since the last time, and made another one
 * of the same name: not that one.
 */
static bool
look_up (struct call *call, const struct target *t, struct search *search)
{
  json_t *const before = search->found;
  struct qcow2_error err;
  bool found;

  search->found = NULL;
  search->id_is_taken = false;
  if (qcow2_list_snapshots (t->image, t->io, look_at, search, &err) == -1) {
    json_decref (before);
    call_fail_engine (call, t->name, &err);
    return false;
  }
  found = search->found != NULL &&
    (before == NULL || json_equal (before, search->found));
  json_decref (before);
  if (!found) {
    call->kind = "name";
    call_fail (call, "%s: there is no snapshot with the id '%.200s' and the "
               "name '%.200s'", t->name,
               search->id.len > 0 ? search->id.bytes : "",
               search->name.len > 0 ? search->name.bytes : "");
    return false;
  }
  if (search->id_is_taken)
    call_fail (call, "%s: another snapshot has the same id; give only its "
               "name", t->name);
  return !search->id_is_taken;
}

/* With both, the engine is told the id, which is the first such one. */
static json_t *
delete (struct call *call, struct target *t, struct search *search)
{
  const bool by_id = search->id.len > 0;
  const struct qcow2_progress progress = { job_go_on, call };
  struct again again = { .nap = 0 };
  struct qcow2_error err;

  do {
    if (!look_up (call, t, search))
      return NULL;
    views_close_idle (t->disk);
    /* The engine begins with what cannot be undone. */
    if (!job_set_final (call->job, true))
      return call_fail (call, "%s: cancelled; the snapshot is still there",
                        t->name);
    if (qcow2_snapshot_delete (t->image, t->io,
                               by_id ? &search->id : &search->name, by_id,
                               &progress, &err) == 0)
      return json_incref (search->found);
    (void) job_set_final (call->job, false);
  } while (again_soon (&again, &err));
  return call_fail_engine (call, t->name, &err);
}

json_t *
verb_snapshot_delete (struct call *call)
{
  struct search search = {
    .id = name_of (call_text (call, "id")),
    .name = name_of (call_text (call, "name")),
  };
  struct target t;
  json_t *result;

  if (search.id.len == 0 && search.name.len == 0)
    return call_fail (call, "Name or id must be provided");
  if (!target_open (&t, call, call_text (call, "device"), true))
    return NULL;
  result = delete (call, &t, &search);
  target_close (&t);
  json_decref (search.found);
  if (result != NULL)
    tell ("X_Q2_SNAPSHOT_DELETED", call_text (call, "device"),
          json_string_value (json_object_get (result, "name")),
          json_string_value (json_object_get (result, "id")));
  return result;
}
