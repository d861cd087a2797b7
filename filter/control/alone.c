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
#include "control/verbs.h"
#include "share/disk.h"
#include "share/state.h"

#include <string.h>

bool
alone_begin (struct target *t, struct call *call)
{
  struct again again = { .nap = 0 };

  while (t->is_lent || !state_claim (t->peek.access.state))
    if (t->is_lent || !again_in_a_moment (&again)) {
      call->kind = "busy";
      call_fail (call, "%s%sthis is only possible while no client uses the "
                 "image, or a part of it, and no job; disconnect them first",
                 t->name, t->name[0] ? ": " : "");
      return false;
    }
  return true;
}

void
alone_set_ended (struct target *t)
{
  (void) holds (!t->is_lent && !t->disk->ended);
  t->disk->ended = true;
}

/* ---- Applying a snapshot ------------------------------------------------ */

static struct qcow2_name
name_of (const char *text)
{
  return (struct qcow2_name) { text, text ? strlen (text) : 0 };
}

struct search {
  struct qcow2_name name;
  bool by_id;
  json_t *found;                /* as verb_query_snapshots has it */
};

static int
look_at (void *opaque, const struct qcow2_snapshot *s)
{
  struct search *const search = opaque;
  const struct qcow2_name *const name = search->by_id ? &s->id : &s->name;

  if (name->len != search->name.len ||
      memcmp (name->bytes, search->name.bytes, name->len) != 0)
    return 0;
  search->found = verb_snapshot_json (s);
  return 1;
}

static bool
look_up (struct call *call, const struct target *t, struct search *search)
{
  struct qcow2_error err;

  json_decref (search->found);
  search->found = NULL;
  if (qcow2_list_snapshots (t->image, t->io, look_at, search, &err) == -1) {
    call_fail_engine (call, t->name, &err);
    return false;
  }
  if (search->found != NULL)
    return true;
  call->kind = "name";
  call_fail (call, "%s%sthere is no snapshot with the %s '%.200s'", t->name,
             t->name[0] ? ": " : "", search->by_id ? "id" : "name",
             search->name.bytes);
  return false;
}

/* Once more when nobody else can delete it. */
static bool
apply (struct call *call, struct target *t, struct search *search)
{
  const struct qcow2_progress progress = { job_go_on, call };
  struct qcow2_error err;

  if (!look_up (call, t, search) || !alone_begin (t, call) ||
      !look_up (call, t, search))
    return false;
  if (qcow2_snapshot_apply (t->image, t->io, &search->name, search->by_id,
                            &progress, &err) == -1) {
    call_fail_engine (call, t->name, &err);
    return false;
  }
  alone_set_ended (t);
  return true;
}

json_t *
verb_snapshot_apply (struct call *call)
{
  const char *const id = call_text (call, "id");
  const char *const name = call_text (call, "name");
  const char *const device = call_text (call, "device");
  struct search search = { .name = name_of (id ? id : name), .by_id = id };
  struct target t;
  bool ok;

  if ((id == NULL) == (name == NULL))
    return call_fail (call, "Give the name or the id of a snapshot, one of "
                      "them");
  if (!target_open (&t, call, device, true))
    return NULL;
  ok = apply (call, &t, &search);
  target_close (&t);
  if (ok)
    call_event ("X_Q2_SNAPSHOT_APPLIED",
                json_pack ("{s:s,s:O,s:O}", "device", device,
                           "name", json_object_get (search.found, "name"),
                           "id", json_object_get (search.found, "id")));
  if (ok)
    return search.found;
  json_decref (search.found);
  return NULL;
}

/* ---- Emptying an image -------------------------------------------------- */

json_t *
verb_empty (struct call *call)
{
  const char *const device = call_text (call, "device");
  const struct qcow2_progress progress = { job_go_on, call };
  struct qcow2_error err;
  struct target t;
  bool ok;

  if (!target_open (&t, call, device, true))
    return NULL;
  ok = alone_begin (&t, call);
  if (ok && qcow2_make_empty (t.image, t.io, &progress, &err) == -1) {
    call_fail_engine (call, t.name, &err);
    ok = false;
  }
  else if (ok)
    alone_set_ended (&t);
  target_close (&t);
  if (ok)
    call_event ("X_Q2_EMPTIED", json_pack ("{s:s}", "device", device));
  return ok ? json_object () : NULL;
}
