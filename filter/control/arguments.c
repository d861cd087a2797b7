/* SPDX-License-Identifier: BSD-3-Clause */
/* arguments.c - which arguments a command, or an action, takes.
 *
 * Owns      checking them, in QEMU's words.
 * Locks     none: a message belongs to the thread of its peer.
 */
#include "config.h"

#include "control/arguments.h"

#include <string.h>

static const char *
type_name (json_type type)
{
  switch (type) {
  case JSON_STRING: return "string";
  case JSON_ARRAY: return "array";
  case JSON_OBJECT: return "object";
  case JSON_INTEGER: return "integer";
  default: return "boolean";
  }
}

static bool
has_type (const json_t *value, json_type type)
{
  return type == JSON_NULL ||
    (type == JSON_TRUE ? json_is_boolean (value)
     : json_typeof (value) == type);
}

static const struct argument *
find (const struct argument *a, const char *name)
{
  while (a != NULL && a->name != NULL && strcmp (a->name, name) != 0)
    ++a;
  return a != NULL && a->name != NULL ? a : NULL;
}

bool
arguments_check (const struct argument *table, const json_t *given,
                 struct call *call)
{
  const struct argument *a;
  const char *name;
  json_t *value;

  json_object_foreach ((json_t *) given, name, value) {
    a = find (table, name);
    if (a == NULL) {
      call_fail (call, "Parameter '%.100s' is unexpected", name);
      return false;
    }
    if (!has_type (value, a->type)) {
      call_fail (call, "Invalid parameter type for '%s', expected: %s", name,
                 type_name (a->type));
      return false;
    }
  }
  for (a = table; a != NULL && a->name != NULL; ++a)
    if (!a->optional && json_object_get (given, a->name) == NULL) {
      call_fail (call, "Parameter '%s' is missing", a->name);
      return false;
    }
  return true;
}
