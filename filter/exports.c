/* SPDX-License-Identifier: BSD-3-Clause */
/* exports.c - the names of exports.
 *
 * Owns      which part of an export name is the image's own, which view of
 *           the image the rest means, and what there is to say about it.
 * Method    NAME of a view may be any text, with slashes, so a name is split
 *           at the first place where what follows looks like a view: at its
 *           beginning where the plugin ignores names, and after the first
 *           slash where they are names of files, which have none.  Where it
 *           is not known what names mean, a plugin's own name that looks
 *           like that of a view is taken for one: else a client that asks a
 *           plugin that ignores names for a snapshot would be given the
 *           active disk.
 *
 *           Names are made in one place, and used only if they would be
 *           split as they were put together.
 * Locks     none: nothing is kept.
 */
#include "config.h"

#include "exports.h"

#include "qcow2.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct {
  const char *prefix;
  enum qcow2_view_kind kind;
} kinds[] = {
  { "snapshot/", QCOW2_VIEW_SNAPSHOT },
  { "snapshot-id/", QCOW2_VIEW_SNAPSHOT_ID },
  { "bitmap/", QCOW2_VIEW_BITMAP },
  { "diff/", QCOW2_VIEW_DIFF },
  { "layer/", QCOW2_VIEW_LAYER },
};
#define NR_KINDS (sizeof kinds / sizeof kinds[0])

/* ---- Names ------------------------------------------------------------ */

/* Whether 'text' is the part of a name that means a view. */
static bool
parse_view (struct export_name *ret, const char *text)
{
  for (size_t i = 0; i < NR_KINDS; ++i) {
    const size_t len = strlen (kinds[i].prefix);

    if (strncmp (text, kinds[i].prefix, len) == 0) {
      ret->view = text;
      ret->kind = kinds[i].kind;
      ret->name = (struct qcow2_name) { text + len, strlen (text + len) };
      return true;
    }
  }
  return false;
}

/* After the first slash; or after a later one, if 'any'. */
static void
parse_after_slash (struct export_name *ret, const char *text, bool any)
{
  const char *slash = text;

  while ((slash = strchr (slash + 1, '/')) != NULL) {
    if (parse_view (ret, slash + 1)) {
      ret->base_len = slash - text;
      return;
    }
    if (!any)
      return;
  }
}

void
export_name_parse (struct export_name *ret, const char *text,
                   enum export_names names)
{
  *ret = (struct export_name) { .base_len = strlen (text) };
  if (text[0] == '\0')
    return;
  if (names != NAMES_ARE_FILES && parse_view (ret, text))
    ret->base_len = 0;
  else if (names != NAMES_IGNORED)
    parse_after_slash (ret, text, names == NAMES_UNKNOWN);
}

static bool
same_name (const struct qcow2_name *a, const struct qcow2_name *b)
{
  return a->len == b->len && memcmp (a->bytes, b->bytes, a->len) == 0;
}

/* Surrogates and overlong forms are none, C1 controls count as controls. */
size_t
export_char_len (const char *bytes, size_t len)
{
  static const uint32_t least[] = { 0, 0x20, 0x80, 0x800, 0x10000 };
  const unsigned char *const c = (const unsigned char *) bytes;
  const size_t n = c[0] < 0x80 ? 1 : c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2
    : c[0] < 0xf0 ? 3 : c[0] < 0xf5 ? 4 : 0;
  uint32_t code = n < 2 ? c[0] : c[0] & (0x7f >> n);

  if (n == 0 || n > len)
    return 0;
  for (size_t i = 1; i < n; ++i) {
    if ((c[i] & 0xc0) != 0x80)
      return 0;
    code = code << 6 | (c[i] & 0x3f);
  }
  if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)
      || (code >= 0x7f && code < 0xa0))
    return 0;
  return n;
}

static bool
all_printable (const struct qcow2_name *name)
{
  size_t n;

  for (size_t at = 0; at < name->len; at += n)
    if ((n = export_char_len (name->bytes + at, name->len - at)) == 0)
      return false;
  return true;
}

bool
export_name_format (char ret[EXPORT_NAME_MAX + 1], const char *base,
                    enum qcow2_view_kind kind, const struct qcow2_name *name,
                    enum export_names names)
{
  struct export_name parsed;
  const char *prefix = NULL;
  int len;

  for (size_t i = 0; i < NR_KINDS; ++i)
    if (kinds[i].kind == kind)
      prefix = kinds[i].prefix;
  if (!qcow2_holds (prefix != NULL) || name->len == 0 ||
      name->len > EXPORT_NAME_MAX || !all_printable (name))
    return false;
  len = snprintf (ret, EXPORT_NAME_MAX + 1, "%s%s%s%.*s", base,
                  base[0] == '\0' ? "" : "/", prefix,
                  (int) name->len, name->bytes);
  if (len < 0 || len > EXPORT_NAME_MAX)
    return false;
  export_name_parse (&parsed, ret, names);
  (void) qcow2_holds (parsed.base_len <= (size_t) len);
  return parsed.view != NULL && parsed.kind == kind &&
    parsed.base_len == strlen (base) && same_name (&parsed.name, name);
}

/* ---- Descriptions ------------------------------------------------------ */

void
export_escape (char *ret, size_t size, const char *bytes, size_t len)
{
  static const char dots[] = "...";
  size_t out = 0, n;

  for (size_t at = 0; at < len; at += n) {
    char text[5];

    n = export_char_len (bytes + at, len - at);
    if (n > 0 && bytes[at] != '\\') {
      memcpy (text, bytes + at, n);
      text[n] = '\0';
    }
    else {
      n = 1;
      snprintf (text, sizeof text, "\\x%02x", (unsigned char) bytes[at]);
    }
    if (out + strlen (text) + sizeof dots > size) {
      memcpy (ret + out, dots, sizeof dots);
      return;
    }
    memcpy (ret + out, text, strlen (text));
    out += strlen (text);
  }
  (void) qcow2_holds (out < size);
  ret[out] = '\0';
}

void
export_describe_disk (char ret[EXPORT_DESCRIPTION_SIZE],
                      struct qcow2_info info)
{
  const bool zstd = info.compression == QCOW2_COMPRESSION_ZSTD;

  snprintf (ret, EXPORT_DESCRIPTION_SIZE,
            "%s version %u, cluster size %" PRIu64 "%s%s",
            info.version == 1 ? "qcow" : "qcow2", info.version,
            info.cluster_size, info.extended_l2 ? ", extended L2" : "",
            zstd ? ", zstd" : "");
}

void
export_describe_snapshot (char ret[EXPORT_DESCRIPTION_SIZE],
                          const struct qcow2_snapshot *snapshot,
                          bool with_name)
{
  const time_t date = snapshot->date_sec;
  char name[80] = "", when[24], vm_state[48] = "";
  struct tm tm;

  gmtime_r (&date, &tm);
  strftime (when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
  if (snapshot->vm_state_size > 0)
    snprintf (vm_state, sizeof vm_state, ", VM state %" PRIu64 " bytes",
              snapshot->vm_state_size);
  if (with_name)
    export_escape (name, sizeof name, snapshot->name.bytes,
                   snapshot->name.len);
  snprintf (ret, EXPORT_DESCRIPTION_SIZE,
            "snapshot%s%s%s of %s, disk %" PRIu64 " bytes%s",
            with_name ? " \"" : "", name, with_name ? "\"" : "", when,
            snapshot->disk_size, vm_state);
}

/* No names of files: they are the server's business. */
void
export_describe_layer (char ret[EXPORT_DESCRIPTION_SIZE], unsigned number)
{
  if (number == 0)
    snprintf (ret, EXPORT_DESCRIPTION_SIZE, "what the image itself has");
  else
    snprintf (ret, EXPORT_DESCRIPTION_SIZE, "what the backing image %u below "
              "it has itself", number);
}

bool
export_is_top_layer (const struct export_name *name)
{
  return name->view != NULL && name->kind == QCOW2_VIEW_LAYER &&
    name->name.len == 1 && name->name.bytes[0] == '0';
}

void
export_describe_bitmap (char ret[EXPORT_DESCRIPTION_SIZE],
                        const struct qcow2_bitmap *bitmap)
{
  snprintf (ret, EXPORT_DESCRIPTION_SIZE,
            "bitmap, granularity %" PRIu64 " bytes, %s", bitmap->granularity,
            bitmap->why_unusable ? bitmap->why_unusable
            : bitmap->enabled ? "enabled" : "disabled");
}
