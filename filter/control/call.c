/* SPDX-License-Identifier: BSD-3-Clause */
/* call.c - a command that runs: what it was given, and what it says.
 *
 * Owns      errors, events and text as JSON.
 * Method    a command fails with one line of text, as everything else in this
 *           filter.
 * Locks     none here.
 */
#include "config.h"

#include "control/call.h"

#include "qcow2.h"
#include "report.h"
#include "control/roster.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

json_t *
call_fail (struct call *call, const char *format, ...)
{
  va_list args;

  va_start (args, format);
  vsnprintf (call->desc, sizeof call->desc, format, args);
  va_end (args);
  if (call->class == NULL)
    call->class = "GenericError";
  return NULL;
}

json_t *
call_fail_engine (struct call *call, const char *name,
                  const struct qcow2_error *err)
{
  const char *const words = advice_words (err->advice);

  if (err->kind == QCOW2_ERR_BUSY)
    call->kind = "busy";
  else if (err->kind == QCOW2_ERR_NOT_FOUND || err->kind == QCOW2_ERR_EXISTS)
    call->kind = "name";
  call->outcome = err->outcome;
  return call_fail (call, "%s%s%s%s%s", name, name[0] ? ": " : "", err->text,
                    words[0] ? "; " : "", words);
}

void
call_add_outcomes (struct call *call, json_t *lists)
{
  const size_t len = strlen (call->desc);

  (void) holds (call->class != NULL && call->outcomes == NULL);
  snprintf (call->desc + len, sizeof call->desc - len, "; %zu of the images "
            "have been changed, and %zu have not (x-q2-done, x-q2-not-done)",
            json_array_size (json_object_get (lists, "x-q2-done")),
            json_array_size (json_object_get (lists, "x-q2-not-done")));
  call->outcomes = lists;
}

const char *
call_text (const struct call *call, const char *name)
{
  return json_string_value (json_object_get (call->arguments, name));
}

/* Bytes that are not ASCII become question marks, one by one. */
json_t *
call_bytes (const char *bytes, size_t len)
{
  json_t *json = json_stringn (bytes, len);
  char *copy;

  if (json != NULL || (copy = malloc (len + 1)) == NULL)
    return json;
  for (size_t i = 0; i < len; ++i)
    copy[i] = (signed char) bytes[i] > 0 ? bytes[i] : '?';
  json = json_stringn (copy, len);
  free (copy);
  return json;
}

char *
call_line (json_t *json)
{
  char *const text = json ? json_dumps (json, JSON_COMPACT) : NULL;
  const size_t len = text ? strlen (text) : 0;
  char *const line = text ? realloc (text, len + 3) : NULL;

  json_decref (json);
  if (line == NULL)
    free (text);
  else
    memcpy (line + len, "\r\n", 3);
  return line;
}

void
call_event (const char *name, json_t *data)
{
  struct timespec now;
  char *text;

  clock_gettime (CLOCK_REALTIME, &now);
  text = call_line (json_pack ("{s:s,s:o,s:{s:I,s:I}}", "event", name, "data",
                               data, "timestamp", "seconds",
                               (json_int_t) now.tv_sec, "microseconds",
                               (json_int_t) (now.tv_nsec / 1000)));
  if (text != NULL)
    roster_tell_all (text);
  free (text);
}
