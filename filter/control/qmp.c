/* SPDX-License-Identifier: BSD-3-Clause */
/* qmp.c - what is said on the control socket.
 *
 * Owns      the framing of QEMU's machine protocol: greeting, negotiation,
 *           commands with "execute", "arguments" and "id", replies and errors.
 * Method    arguments are checked against the table of a command before it
 *           runs.
 * Locks     none: a message belongs to the thread of its peer.
 */
#include "config.h"

#include "control/as_job.h"
#include "control/qmp.h"

#include "report.h"
#include "control/arguments.h"
#include "control/call.h"
#include "control/verbs.h"

#include <stdio.h>
#include <string.h>

char *
qmp_greeting (void)
{
  struct call call = { .arguments = NULL };

  return call_line (json_pack ("{s:{s:o,s:[]}}", "QMP", "version",
                             verb_query_version (&call), "capabilities"));
}

/* QMP lets servers add members. */
static json_t *
error_object (const char *class, const char *desc)
{
  return json_pack ("{s:{s:s,s:o}}", "error", "class", class, "desc",
                    call_bytes (desc, strlen (desc)));
}

char *
qmp_error (const char *desc)
{
  return call_line (error_object ("GenericError", desc));
}

/* ---- Commands ---------------------------------------------------------- */

static const struct argument enable[] = {
  { "enable", JSON_ARRAY, true }, { NULL, JSON_NULL, false }
};

static json_t *
negotiate (struct call *call, bool *negotiated)
{
  if (*negotiated)
    return call_fail_not_found (call, "Capabilities negotiation is already "
                                "complete, command ignored");
  if (!arguments_check (enable, call->arguments, call))
    return NULL;
  if (json_array_size (json_object_get (call->arguments, "enable")) > 0)
    return call_fail (call, "there are no capabilities to enable");
  *negotiated = true;
  return json_object ();
}

static json_t *
run_command (struct call *call, const char *name, bool *negotiated)
{
  const struct verb *verb;

  if (strcmp (name, "qmp_capabilities") == 0)
    return negotiate (call, negotiated);
  if (!*negotiated)
    return call_fail_not_found (call, "Expecting capabilities negotiation "
                                "with 'qmp_capabilities'");
  verb = verb_find (name);
  if (verb == NULL)
    return call_fail_not_found (call, "The command %.100s has not been found",
                                name);
  (void) holds (verb->run != NULL && call->class == NULL);
  call->name = verb->name;
  if (verb->may_be_job && json_object_get (call->arguments, "job-id") != NULL)
    return as_job (call, verb);
  return (verb->checks || arguments_check (verb->arguments, call->arguments,
                                           call))
    ? verb->run (call) : NULL;
}

/* For programs, which cannot read the text. */
static void
add_what_is_known (const struct call *call, json_t *error)
{
  (void) holds (call->outcomes == NULL ||
                call->outcome == QCOW2_OUTCOME_NOT_DONE);
  if (call->kind != NULL)
    json_object_set_new (error, "x-q2-kind", json_string (call->kind));
  if (call->outcome != QCOW2_OUTCOME_NOT_DONE)
    json_object_set_new (error, "x-q2-outcome",
                         json_string (call->outcome == QCOW2_OUTCOME_DONE
                                      ? "done" : "unknown"));
  if (call->outcomes != NULL)
    json_object_update (error, call->outcomes);
}

/* Which command it is; NULL having said why it is none. */
static const char *
look_at (const json_t *message, struct call *call)
{
  const char *const name =
    json_string_value (json_object_get (message, "execute"));
  const char *key;
  json_t *value;

  json_object_foreach ((json_t *) message, key, value)
    if (strcmp (key, "execute") != 0 && strcmp (key, "arguments") != 0 &&
        strcmp (key, "id") != 0) {
      call_fail (call, "QMP input member '%.100s' is unexpected", key);
      return NULL;
    }
  if (name == NULL)
    call_fail (call, "QMP input lacks member 'execute', a string");
  call->arguments = json_object_get (message, "arguments");
  if (call->arguments == NULL || json_is_object (call->arguments))
    return name;
  call_fail (call, "QMP input member 'arguments' must be an object");
  return NULL;
}

char *
qmp_run (const char *text, size_t len, bool *negotiated)
{
  struct call call = { .arguments = NULL };
  json_error_t why;
  json_t *const message = json_loadb (text, len, JSON_REJECT_DUPLICATES, &why);
  json_t *result = NULL, *reply, *id;
  const char *name;

  if (message == NULL) {
    snprintf (call.desc, sizeof call.desc, "JSON parse error, %s", why.text);
    return qmp_error (call.desc);
  }
  name = look_at (message, &call);
  if (name != NULL)
    result = run_command (&call, name, negotiated);
  (void) holds (result == NULL || call.outcomes == NULL);
  reply = result ? json_pack ("{s:o}", "return", result)
    : error_object (call.class ? call.class : "GenericError",
                    call.desc[0] ? call.desc : "out of memory");
  if (result == NULL)
    add_what_is_known (&call, json_object_get (reply, "error"));
  json_decref (call.outcomes);
  id = json_object_get (message, "id");
  if (reply != NULL && id != NULL)
    json_object_set (reply, "id", id);
  json_decref (message);
  return call_line (reply);
}
