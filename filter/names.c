/* SPDX-License-Identifier: BSD-3-Clause */
/* names.c - what names and formats in headers mean, and errors about them.
 *
 * Owns      the line between names that are paths, and names that QEMU would
 *           take for something else: descriptions in JSON, which can name
 *           any driver with any options, and protocols, which reach
 *           devices and other machines.  These are never followed.
 * Locks     none.
 */
#include "config.h"

#include "names.h"

#include "qcow2.h"
#include "error.h"
#include "places.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int
fail_with (struct qcow2_error *err, enum qcow2_error_kind kind, int errnum,
           const char *fmt, ...)
{
  va_list args;

  err->kind = kind;
  err->errnum = errnum > 0 ? errnum : EIO;
  err->offset = QCOW2_NO_OFFSET;
  va_start (args, fmt);
  vsnprintf (err->text, sizeof err->text, fmt, args);
  va_end (args);
  return -1;
}

int
fail_in (struct qcow2_error *err, const char *fmt, ...)
{
  char text[sizeof err->text];
  va_list args;
  int n;

  memcpy (text, err->text, sizeof text);
  va_start (args, fmt);
  n = vsnprintf (err->text, sizeof err->text, fmt, args);
  va_end (args);
  if (n >= 0 && (size_t) n < sizeof err->text)
    snprintf (err->text + n, sizeof err->text - n, "%s", text);
  return -1;
}

const char *
printable (char out[PRINTABLE_SIZE], const char *bytes, size_t len)
{
  size_t n = 0;

  out[n++] = '\'';
  for (size_t i = 0; i < len; ++i) {
    const unsigned char c = bytes[i];
    const bool plain = c >= 0x20 && c < 0x7f && c != '\\' && c != '\'';

    /* Room for this, the rest of the sentence, and the end. */
    if (n + 4 + sizeof "...'" > PRINTABLE_SIZE) {
      n += sprintf (out + n, "...");
      break;
    }
    if (plain)
      out[n++] = c;
    else
      n += sprintf (out + n, "\\x%02x", c);
  }
  out[n++] = '\'';
  out[n] = '\0';
  return out;
}

/* As QEMU decides it: a colon before the first slash. */
static bool
has_protocol (const char *name)
{
  return name[strcspn (name, ":/")] == ':';
}

const char *
name_to_path (const struct qcow2_reference *reference, char path[NAME_SIZE])
{
  const char *name = reference->name;
  size_t len = reference->name_len;

  if (len == 0)
    return "is empty";
  if (memchr (name, '\0', len) != NULL)
    return "has a zero byte in it";
  if (len >= 5 && memcmp (name, "json:", 5) == 0)
    return "is a description in JSON, which is never followed";
  if (len > 5 && memcmp (name, "file:", 5) == 0) {
    name += 5;
    len -= 5;
  }
  if (len >= NAME_SIZE)
    return "is too long";
  memcpy (path, name, len);
  path[len] = '\0';
  if (name == reference->name && has_protocol (path))
    return "is not a path but begins with a protocol, which is never "
      "followed";
  return NULL;
}

enum layer_format
name_to_format (const char *name, size_t len)
{
  /* The drivers whose disk is the bytes of what they open; others than raw
   * are found in images that were made by hand.
   */
  static const char *const raw[] = {
    "raw", "file", "host_device", "nbd", NULL
  };

  for (size_t i = 0; raw[i]; ++i)
    if (len == strlen (raw[i]) && memcmp (name, raw[i], len) == 0)
      return FORMAT_RAW;
  if ((len == 5 && memcmp (name, "qcow2", 5) == 0) ||
      (len == 4 && memcmp (name, "qcow", 4) == 0))
    return FORMAT_QCOW2;
  return FORMAT_UNKNOWN;
}

const char *
reference_kind (const struct qcow2_reference *reference)
{
  return reference->kind == QCOW2_DATA_FILE ? "data file" : "backing file";
}
