/* SPDX-License-Identifier: BSD-3-Clause */
/* values.c - what the values of options mean.
 *
 * Owns      the strings that lists of pairs are split into, which stay as long
 *           as the program.
 * Locks     none.
 */
#include "config.h"

#include "values.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct qcow2_name
value_name (const char *text)
{
  return (struct qcow2_name) { text, text ? strlen (text) : 0 };
}

/* A whole number of digits, and maybe a part behind a dot, which needs a
 * unit.
 */
static bool
parse_size (const char *text, uint64_t *ret)
{
  static const char units[] = "bkmgtpe";
  const char *unit;
  unsigned long long whole;
  double part = 0;
  unsigned shift;
  char *end;

  if (!isdigit ((unsigned char) text[0]))
    return false;
  errno = 0;
  whole = strtoull (text, &end, 10);
  if (errno != 0)
    return false;
  if (*end == '.') {
    const char *const dot = end;

    part = strtod (dot, &end);
    if (end == dot + 1 || strspn (dot + 1, "0123456789") !=
        (size_t) (end - dot - 1))
      return false;
  }
  unit = *end ? strchr (units, tolower ((unsigned char) *end)) : units;
  if (unit == NULL || (*end && end[1]))
    return false;
  shift = 10 * (unsigned) (unit - units);
  if (whole > (uint64_t) INT64_MAX >> shift || (shift == 0 && part > 0))
    return false;
  *ret = ((uint64_t) whole << shift) +
    (uint64_t) (part * (double) (UINT64_C (1) << shift));
  return *ret <= INT64_MAX;
}

int
value_size (const struct command *command, const char *what,
            const char *text, uint64_t *ret)
{
  if (parse_size (text, ret))
    return CODE_OK;
  return fail_usage (command, "%s: '%s' is no size: a number of bytes, or of "
                     "units with k, M, G, T, P or E behind it, less than 8E",
                     what, text);
}

int
value_granularity (const struct command *command, const char *text,
                   uint64_t *ret)
{
  const int code = value_size (command, "--granularity", text, ret);

  if (code != CODE_OK || *ret > 0)
    return code;
  return fail_usage (command, "a granularity of 0 is none");
}

int
value_unsigned (const struct command *command, const char *what,
                const char *text, unsigned *ret)
{
  const size_t digits = strspn (text, "0123456789");

  if (digits == 0 || digits > 9 || text[digits] != '\0')
    return fail_usage (command, "%s: '%s' is no number", what, text);
  *ret = (unsigned) strtoul (text, NULL, 10);
  return CODE_OK;
}

int
value_on_off (const struct command *command, const char *what,
              const char *text, bool *ret)
{
  static const char *const words[] = {
    "on", "off", "true", "false", "yes", "no", NULL,
  };
  unsigned n;
  const int code = value_word (command, what, text, words, &n);

  if (code == CODE_OK)
    *ret = n % 2 == 0;
  return code;
}

int
value_word (const struct command *command, const char *what,
            const char *text, const char *const *words, unsigned *ret)
{
  char all[200] = "";

  for (unsigned n = 0; words[n]; ++n) {
    if (strcmp (text, words[n]) == 0) {
      *ret = n;
      return CODE_OK;
    }
    if (strlen (all) + strlen (words[n]) + 3 < sizeof all)
      strcat (strcat (all, n > 0 ? ", " : ""), words[n]);
  }
  return fail_usage (command, "%s: '%s' is none of %s", what, text, all);
}

/* So that they are not lost. */
struct kept {
  struct kept *next;
  char text[];
};
static struct kept *all_kept;

/* The length of the pair that 'text' begins with. */
static size_t
pair_end (const char *text)
{
  size_t n = 0;

  while (text[n] && (text[n] != ',' || text[n + 1] == ','))
    n += text[n] == ',' ? 2 : 1;
  return n;
}

/* Two commas become one. */
static char *
copy_pair (const char *text, size_t len)
{
  struct kept *const copy = calloc (1, sizeof *copy + len + 1);
  size_t done = 0;

  if (copy == NULL)
    return NULL;
  for (size_t i = 0; i < len; ++i) {
    copy->text[done++] = text[i];
    i += text[i] == ',';
  }
  copy->next = all_kept;
  all_kept = copy;
  return copy->text;
}

int
value_pairs (const char *text, value_pair_fn fn, void *opaque)
{
  while (*text) {
    const size_t len = pair_end (text);
    char *const pair = copy_pair (text, len);
    char *equals;
    int code;

    if (pair == NULL)
      return fail_code (CODE_FAILED, "out of memory");
    equals = strchr (pair, '=');
    if (equals)
      *equals = '\0';
    code = fn (opaque, pair, equals ? equals + 1 : "on");
    if (code != CODE_OK)
      return code;
    text += len;
    text += *text == ',';
  }
  return CODE_OK;
}
