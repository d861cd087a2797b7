/* SPDX-License-Identifier: BSD-3-Clause */
/* output.c - what goes to stdout, for programs and for people.
 *
 * Owns      which JSON library there is, and how sizes look.
 * Method    a struct value is jansson's json_t under another name.
 * Locks     none: only the main thread prints.
 */
#include "config.h"

#include "output.h"

#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Something could not be made: what is printed is not all. */
static bool incomplete;

int
output_finish (int code)
{
  if (fflush (stdout) == EOF || ferror (stdout))
    return fail_code (code ? code : CODE_FAILED, "the result cannot be "
                      "written: %s", strerror (errno));
  if (incomplete)
    return fail_code (code ? code : CODE_FAILED, "out of memory; the result "
                      "is incomplete");
  return code;
}

/* ---- For people --------------------------------------------------------- */

/* Three digits, as printf's %.3g has them. */
const char *
size_text (char out[SIZE_TEXT], uint64_t bytes)
{
  static const char *const units[] = {
    "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB",
  };
  unsigned unit = 0;
  double n = (double) bytes;

  while (n >= 1000 && unit < 6) {
    n /= 1024;
    ++unit;
  }
  snprintf (out, SIZE_TEXT, "%0.3g %s", n, units[unit]);
  return out;
}

void
print_bytes (const char *bytes, size_t len)
{
  for (size_t i = 0; i < len; ++i) {
    const unsigned char c = (unsigned char) bytes[i];

    if (c < 0x20 || c == 0x7f)
      printf ("\\x%02x", c);
    else
      putchar (c);
  }
}

/* ---- JSON --------------------------------------------------------------- */

#ifdef HAVE_JANSSON

#include <jansson.h>

bool
output_has_json (void)
{
  return true;
}

static struct value *
made (json_t *json)
{
  if (json == NULL)
    incomplete = true;
  return (struct value *) json;
}

struct value *
value_object (void)
{
  return made (json_object ());
}

struct value *
value_array (void)
{
  return made (json_array ());
}

/* Sizes and offsets of images are below 2^63. */
struct value *
value_number (uint64_t number)
{
  return made (json_integer ((json_int_t) number));
}

struct value *
value_bool (bool is)
{
  return made (json_boolean (is));
}

struct value *
value_text (const char *text)
{
  return value_bytes (text, strlen (text));
}

/* The length of the UTF-8 character that the bytes begin with; 0 if they begin
 * with none.
 */
static size_t
character (const char *bytes, size_t len)
{
  for (size_t n = 1; n <= 4 && n <= len; ++n) {
    json_t *const json = json_stringn (bytes, n);

    if (json != NULL) {
      json_decref (json);
      return n;
    }
  }
  return 0;
}

static struct value *
repaired (const char *bytes, size_t len)
{
  static const char replacement[] = "\xef\xbf\xbd";
  char *const copy = malloc (3 * len + 1);
  struct value *value;
  size_t done = 0;

  if (copy == NULL)
    return made (NULL);
  for (size_t i = 0; i < len;) {
    const size_t n = character (bytes + i, len - i);

    memcpy (copy + done, n ? bytes + i : replacement, n ? n : 3);
    done += n ? n : 3;
    i += n ? n : 1;
  }
  value = made (json_stringn (copy, done));
  free (copy);
  return value;
}

struct value *
value_bytes (const char *bytes, size_t len)
{
  json_t *const json = json_stringn (bytes, len);

  return json ? made (json) : repaired (bytes, len);
}

void
value_set (struct value *object, const char *key, struct value *value)
{
  if (json_object_set_new ((json_t *) object, key, (json_t *) value) == -1)
    incomplete = true;
}

void
value_append (struct value *array, struct value *value)
{
  if (json_array_append_new ((json_t *) array, (json_t *) value) == -1)
    incomplete = true;
}

void
value_print (struct value *value)
{
  json_t *const json = (json_t *) value;

  if (json == NULL || json_dumpf (json, stdout, JSON_INDENT (4)) == -1)
    incomplete = true;
  printf ("\n");
  json_decref (json);
}

void
value_free (struct value *value)
{
  json_decref ((json_t *) value);
}

void
value_print_item (struct value *value, uint64_t nr)
{
  json_t *const json = (json_t *) value;

  printf ("%s", nr == 0 ? "[" : ",\n");
  if (json == NULL || json_dumpf (json, stdout, 0) == -1)
    incomplete = true;
  json_decref (json);
}

#else /* !HAVE_JANSSON */

bool
output_has_json (void)
{
  return false;
}

struct value *
value_object (void)
{
  return NULL;
}

struct value *
value_array (void)
{
  return NULL;
}

struct value *
value_number (uint64_t number)
{
  (void) number;
  return NULL;
}

struct value *
value_bool (bool is)
{
  (void) is;
  return NULL;
}

struct value *
value_text (const char *text)
{
  (void) text;
  return NULL;
}

struct value *
value_bytes (const char *bytes, size_t len)
{
  (void) bytes;
  (void) len;
  return NULL;
}

void
value_set (struct value *object, const char *key, struct value *value)
{
  (void) object;
  (void) key;
  (void) value;
}

void
value_append (struct value *array, struct value *value)
{
  (void) array;
  (void) value;
}

void
value_print (struct value *value)
{
  (void) value;
}

void
value_free (struct value *value)
{
  (void) value;
}

void
value_print_item (struct value *value, uint64_t nr)
{
  (void) value;
  (void) nr;
}

#endif /* HAVE_JANSSON */

void
value_print_end (uint64_t nr)
{
  printf ("%s]\n", nr == 0 ? "[" : "");
}
