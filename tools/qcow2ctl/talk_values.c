/* SPDX-License-Identifier: BSD-3-Clause */
/* talk_values.c - what the reply of a server has.
 *
 * Owns      nothing; values are the reply's.
 * Method    what is missing, or is something else, reads as nothing: the
 *           server may be another version.
 * Locks     none.
 */
#include "config.h"

#include "talk.h"

#ifdef HAVE_JANSSON

#include <jansson.h>
#include <string.h>

static const json_t *
member (const struct value *object, const char *key)
{
  return json_object_get ((const json_t *) object, key);
}

uint64_t
talk_number (const struct value *object, const char *key)
{
  return (uint64_t) json_integer_value (member (object, key));
}

struct qcow2_name
talk_text (const struct value *object, const char *key)
{
  const json_t *const text = member (object, key);

  return json_is_string (text)
    ? (struct qcow2_name) { json_string_value (text),
                            json_string_length (text) }
    : (struct qcow2_name) { "", 0 };
}

bool
talk_is_true (const struct value *object, const char *key)
{
  return json_is_true (member (object, key));
}

struct value *
talk_item_of (const struct value *list, size_t i)
{
  return (struct value *) json_array_get ((const json_t *) list, i);
}

bool
talk_has (const struct value *object, const char *key)
{
  return member (object, key) != NULL;
}

bool
talk_has_item (const struct value *object, const char *key, const char *text)
{
  const json_t *const list = member (object, key);

  for (size_t i = 0; i < json_array_size (list); ++i) {
    const char *const item = json_string_value (json_array_get (list, i));

    if (item != NULL && strcmp (item, text) == 0)
      return true;
  }
  return false;
}

struct value *
talk_object (const struct value *object, const char *key)
{
  return (struct value *) json_object_get ((const json_t *) object, key);
}

void
talk_each (const struct value *object,
           void (*fn) (const char *key, uint64_t number))
{
  const char *key;
  json_t *value;

  json_object_foreach ((json_t *) object, key, value)
    if (json_is_integer (value))
      fn (key, (uint64_t) json_integer_value (value));
}

#else /* !HAVE_JANSSON */

uint64_t
talk_number (const struct value *object, const char *key)
{
  (void) object;
  (void) key;
  return 0;
}

struct qcow2_name
talk_text (const struct value *object, const char *key)
{
  (void) object;
  (void) key;
  return (struct qcow2_name) { "", 0 };
}

bool
talk_is_true (const struct value *object, const char *key)
{
  (void) object;
  (void) key;
  return false;
}

struct value *
talk_item_of (const struct value *list, size_t i)
{
  (void) list;
  (void) i;
  return NULL;
}

bool
talk_has (const struct value *object, const char *key)
{
  (void) object;
  (void) key;
  return false;
}

bool
talk_has_item (const struct value *object, const char *key, const char *text)
{
  (void) object;
  (void) key;
  (void) text;
  return false;
}

struct value *
talk_object (const struct value *object, const char *key)
{
  (void) object;
  (void) key;
  return NULL;
}

void
talk_each (const struct value *object,
           void (*fn) (const char *key, uint64_t number))
{
  (void) object;
  (void) fn;
}

#endif /* HAVE_JANSSON */
