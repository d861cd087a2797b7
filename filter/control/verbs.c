/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs.c - the table of commands of the control socket.
 *
 * Owns      their names and arguments.  What QEMU has, too, has QEMU's name,
 *           arguments and meaning; "device" is the name of an export.
 * Method    no argument names a file, so whoever may use the socket can open
 *           nothing that clients could not open.
 * Locks     none: the table is constant.
 */
#include "config.h"

#include "control/verbs.h"

#include "control/arguments.h"

#include <string.h>

static json_t *query_commands (struct call *call);

static const struct argument device[] = {
  { "device", JSON_STRING, false }, { NULL, JSON_NULL, false }
};

static const struct argument device_size[] = {
  { "device", JSON_STRING, true }, { "node-name", JSON_STRING, true },
  { "size", JSON_INTEGER, false }, { "x-q2-shrink", JSON_TRUE, true },
  { NULL, JSON_NULL, false }
};

static const struct argument any_device[] = {
  { "device", JSON_STRING, true }, { NULL, JSON_NULL, false }
};

static const struct argument check[] = {
  { "node", JSON_STRING, false }, { "job-id", JSON_STRING, true },
  { "repair", JSON_STRING, true }, { "max-findings", JSON_INTEGER, true },
  { NULL, JSON_NULL, false }
};

static const struct argument id[] = {
  { "id", JSON_STRING, false }, { NULL, JSON_NULL, false }
};

static const struct argument checkpoint[] = {
  { "nodes", JSON_ARRAY, false }, { "snapshot", JSON_STRING, false },
  { "add", JSON_STRING, true }, { "granularity", JSON_INTEGER, true },
  { "disable", JSON_STRING, true }, { NULL, JSON_NULL, false }
};

static const struct argument transaction[] = {
  { "actions", JSON_ARRAY, false }, { NULL, JSON_NULL, false }
};

static const struct argument device_name_or_id[] = {
  { "device", JSON_STRING, false }, { "name", JSON_STRING, true },
  { "id", JSON_STRING, true }, { NULL, JSON_NULL, false }
};

/* Actions of a transaction, too, which plan.c checks. */
#define ACTION(name, job) { name, NULL, true, job, verb_action }

static const struct verb verbs[] = {
  ACTION ("block-dirty-bitmap-add", false),
  ACTION ("block-dirty-bitmap-clear", false),
  ACTION ("block-dirty-bitmap-disable", false),
  ACTION ("block-dirty-bitmap-enable", false),
  ACTION ("block-dirty-bitmap-merge", false),
  ACTION ("block-dirty-bitmap-remove", false),
  { "block_resize", device_size, false, false, verb_resize },
  { "blockdev-snapshot-delete-internal-sync", device_name_or_id, false, true,
    verb_snapshot_delete },
  ACTION ("blockdev-snapshot-internal-sync", true),
  { "job-cancel", id, false, false, verb_job_cancel },
  { "job-dismiss", id, false, false, verb_job_dismiss },
  { "query-commands", NULL, false, false, query_commands },
  { "query-jobs", NULL, false, false, verb_query_jobs },
  { "query-version", NULL, false, false, verb_query_version },
  { "transaction", transaction, false, true, verb_transaction },
  { "x-q2-check", check, false, false, verb_check },
  { "x-q2-checkpoint", checkpoint, false, true, verb_checkpoint },
  { "x-q2-empty", device, false, false, verb_empty },
  { "x-q2-flush", device, false, false, verb_flush },
  { "x-q2-query-bitmaps", device, false, false, verb_query_bitmaps },
  { "x-q2-query-check", id, false, false, verb_query_check },
  { "x-q2-query-images", any_device, false, false, verb_query_images },
  { "x-q2-query-snapshots", device, false, false, verb_query_snapshots },
  { "x-q2-query-stats", any_device, false, false, verb_query_stats },
  { "x-q2-snapshot-apply", device_name_or_id, false, true,
    verb_snapshot_apply },
};
#define NR_VERBS (sizeof verbs / sizeof verbs[0])

const struct verb *
verb_find (const char *name)
{
  for (size_t i = 0; i < NR_VERBS; ++i)
    if (strcmp (verbs[i].name, name) == 0)
      return &verbs[i];
  return NULL;
}

static json_t *
query_commands (struct call *call)
{
  json_t *const list = json_array ();

  (void) call;
  json_array_append_new (list, json_pack ("{s:s}", "name",
                                          "qmp_capabilities"));
  for (size_t i = 0; i < NR_VERBS; ++i)
    json_array_append_new (list, json_pack ("{s:s}", "name", verbs[i].name));
  return list;
}
