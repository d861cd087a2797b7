/* SPDX-License-Identifier: BSD-3-Clause */
/* values.c - values of options, as people write them.
 *
 * Owns      what sizes and switches look like.
 * Method    as qemu-img reads them.
 * Locks     none; values only.
 */
#include "config.h"

#include "host/values.h"

#include "host/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define MAX_WORDS 120

int
fail_choice (struct qcow2_error *err, const char *key, const char *value,
             const char *words)
{
  return fail_with (err, QCOW2_ERR_INVALID, EINVAL,
                    "%s must be %s, not '%s'", key, words, value);
}

/* Sets *ret to the power of 1024 that a suffix stands for; false: none. */
static bool
parse_suffix (const char *text, unsigned *ret)
{
  static const char suffixes[] = "bkmgtpe";
  const char *found;

  if (*text == '\0') {
    *ret = 0;
    return true;
  }
  found = strchr (suffixes, *text | 0x20);
  if (found == NULL || text[1] != '\0')
    return false;
  *ret = (unsigned) (found - suffixes);
  return true;
}

/* Digits after the point, of a unit of 1 << shift bytes. */
static uint64_t
parse_fraction (const char **text, unsigned shift)
{
  uint64_t digits = 0, scale = 1;

  (void) qcow2_holds (shift <= 60 && shift % 10 == 0);
  for (; **text >= '0' && **text <= '9'; ++*text)
    if (scale < UINT64_C (1000000000)) {
      digits = digits * 10 + (uint64_t) (**text - '0');
      scale *= 10;
    }
  return (uint64_t) ((unsigned __int128) digits * (UINT64_C (1) << shift) /
                     scale);
}

bool
parse_number (const char *text, uint64_t *ret)
{
  const char *end = text, *suffix;
  uint64_t whole = 0;
  unsigned power;

  for (; *end >= '0' && *end <= '9'; ++end)
    if (__builtin_mul_overflow (whole, 10, &whole) ||
        __builtin_add_overflow (whole, (uint64_t) (*end - '0'), &whole))
      return false;
  if (end == text)
    return false;
  suffix = end;
  if (*end == '.')
    suffix += 1 + strspn (end + 1, "0123456789");
  if (!parse_suffix (suffix, &power) || whole > UINT64_MAX >> 10 * power)
    return false;
  *ret = whole << 10 * power;
  if (*end++ != '.')
    return true;
  return suffix > end && power > 0 &&
    !__builtin_add_overflow (*ret, parse_fraction (&end, 10 * power), ret);
}

int
parse_size (const char *text, uint64_t *ret, struct qcow2_error *err)
{
  if (parse_number (text, ret) && *ret <= INT64_MAX)
    return 0;
  return fail_with (err, QCOW2_ERR_INVALID, EINVAL,
                    "'%s' is no size in bytes, such as 65536, 64K or 1.5G",
                    text);
}

int
parse_switch (const char *key, const char *value, bool *ret,
              struct qcow2_error *err)
{
  static const char *const words[][2] = {
    { "off", "on" }, { "no", "yes" }, { "false", "true" },
  };

  for (size_t i = 0; i < sizeof words / sizeof words[0]; ++i)
    for (int on = 0; on < 2; ++on)
      if (strcmp (value, words[i][on]) == 0) {
        *ret = on;
        return 0;
      }
  return fail_choice (err, key, value, "on or off");
}

int
parse_choice (const char *key, const char *value, const char *const words[],
              struct qcow2_error *err)
{
  char all[MAX_WORDS] = "";

  for (int i = 0; words[i]; ++i) {
    if (strcasecmp (value, words[i]) == 0)
      return i;
    snprintf (all + strlen (all), sizeof all - strlen (all), "%s%s",
              i == 0 ? "" : words[i + 1] ? ", " : " or ", words[i]);
  }
  (void) qcow2_holds (strlen (all) < sizeof all - 1);   /* nothing is cut */
  return fail_choice (err, key, value, all);
}
