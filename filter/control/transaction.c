/* SPDX-License-Identifier: BSD-3-Clause */
/* transaction.c - commands that change bitmaps, alone or several at one point
 * in time.
 *
 * Owns      "transaction", and what is one for one action; checkpoints.
 * Method    plan.c has the actions.  A checkpoint is a transaction that is
 *           made of a few words: for each image a new bitmap that is kept up
 *           from now on, the end of the one before it, and a snapshot, which a
 *           backup reads.
 * Locks     none here.
 */
#include "config.h"

#include "control/verbs.h"

#include "control/arguments.h"
#include "control/plan.h"

/* ---- One action -------------------------------------------------------- */

json_t *
verb_action (struct call *call)
{
  struct plan *const plan = plan_begin (call);
  json_t *result = NULL;

  if (plan == NULL)
    return NULL;
  if (plan_add (plan, call->name, call->arguments))
    result = plan_run (plan);
  plan_end (plan);
  return result;
}

/* ---- Several ------------------------------------------------------------ */

static const struct argument action_arguments[] = {
  { "type", JSON_STRING, false }, { "data", JSON_OBJECT, false },
  { NULL, JSON_NULL, false }
};

static bool
add_item (struct plan *plan, struct call *call, json_t *item)
{
  if (!json_is_object (item)) {
    call_fail (call, "Invalid parameter type for 'actions', expected: array "
               "of objects");
    return false;
  }
  return arguments_check (action_arguments, item, call) &&
    plan_add (plan, json_string_value (json_object_get (item, "type")),
              json_object_get (item, "data"));
}

json_t *
verb_transaction (struct call *call)
{
  json_t *const actions = json_object_get (call->arguments, "actions");
  struct plan *const plan = plan_begin (call);
  bool ok = plan != NULL;
  json_t *result = NULL;

  for (size_t i = 0; ok && i < json_array_size (actions); ++i)
    ok = add_item (plan, call, json_array_get (actions, i));
  if (ok)
    result = plan_run (plan);
  if (plan != NULL)
    plan_end (plan);
  return result;
}

/* ---- Checkpoints -------------------------------------------------------- */

/* Texts of 'data' are borrowed by the plan, so it must last: it goes into
 * 'keep'.
 */
static bool
add_data (struct plan *plan, struct call *call, json_t *keep,
          const char *type, json_t *data)
{
  if (data != NULL && json_array_append_new (keep, data) == 0)
    return plan_add (plan, type, data);
  call_fail (call, "out of memory");
  return false;
}

static bool
add_node (struct plan *plan, struct call *call, json_t *keep, json_t *node)
{
  json_t *const given = call->arguments;
  json_t *const disable = json_object_get (given, "disable");
  json_t *const add = json_object_get (given, "add");
  json_t *const granularity = json_object_get (given, "granularity");

  if (!json_is_string (node)) {
    call_fail (call, "Invalid parameter type for 'nodes', expected: array of "
               "strings");
    return false;
  }
  if (disable != NULL &&
      !add_data (plan, call, keep, "block-dirty-bitmap-disable",
                 json_pack ("{s:O,s:O}", "node", node, "name", disable)))
    return false;
  if (add != NULL) {
    json_t *const data = json_pack ("{s:O,s:O,s:b}", "node", node, "name", add,
                                    "persistent", 1);

    if (granularity != NULL)
      json_object_set (data, "granularity", granularity);
    if (!add_data (plan, call, keep, "block-dirty-bitmap-add", data))
      return false;
  }
  return add_data (plan, call, keep, "blockdev-snapshot-internal-sync",
                   json_pack ("{s:O,s:O}", "device", node, "name",
                              json_object_get (given, "snapshot")));
}

json_t *
verb_checkpoint (struct call *call)
{
  json_t *const nodes = json_object_get (call->arguments, "nodes");
  struct plan *const plan = plan_begin (call);
  json_t *const keep = json_array ();
  bool ok = plan != NULL && keep != NULL;
  json_t *result = NULL;

  if (ok && json_array_size (nodes) == 0) {
    call_fail (call, "Parameter 'nodes' names no image");
    ok = false;
  }
  for (size_t i = 0; ok && i < json_array_size (nodes); ++i)
    ok = add_node (plan, call, keep, json_array_get (nodes, i));
  if (ok)
    result = plan_run (plan);
  if (plan != NULL)
    plan_end (plan);
  json_decref (keep);
  return result;
}
