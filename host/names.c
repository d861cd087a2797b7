/* SPDX-License-Identifier: BSD-3-Clause */
/* names.c - what names and formats in headers mean.
 *
 * Owns      the line between names that are paths, and names that QEMU would
 *           take for something else: descriptions in JSON, which can name
 *           any driver with any options, and protocols, which reach
 *           devices and other machines.  These are never followed.
 * Locks     none.
 */
#include "config.h"

#include "host/names.h"

#include "qcow2.h"
#include "host/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
  if (!qcow2_holds (n + 2 <= PRINTABLE_SIZE))
    n = PRINTABLE_SIZE - 2;
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

/* Whose protocols QEMU knows; a "+" and a transport may follow. */
static bool
is_known_protocol (const char *name)
{
  static const char *const known[] = {
    "blkdebug", "blkverify", "fat", "file", "ftp", "ftps", "gluster",
    "host_cdrom", "host_device", "http", "https", "iscsi", "iser", "json",
    "nbd", "nfs", "null-aio", "null-co", "nvme", "rbd", "ssh", NULL
  };
  const size_t len = strcspn (name, ":+");

  for (size_t i = 0; known[i]; ++i)
    if (len == strlen (known[i]) && memcmp (name, known[i], len) == 0)
      return true;
  return false;
}

const char *
name_to_refuse (const char *name, bool elsewhere)
{
  const struct qcow2_reference reference = {
    .kind = QCOW2_BACKING_FILE, .name = name, .name_len = strlen (name),
  };
  char path[NAME_SIZE];

  if (has_protocol (name) && is_known_protocol (name) &&
      (elsewhere || strstr (name, "://") != NULL))
    return NULL;
  return name_to_path (&reference, path);
}

char *
folder_of (const char *path)
{
  const char *const slash = strrchr (path, '/');
  char *folder, *real;

  if (slash == NULL)
    return realpath (".", NULL);
  folder = strndup (path, slash == path ? 1 : slash - path);
  real = folder ? realpath (folder, NULL) : NULL;
  free (folder);
  return real;
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
