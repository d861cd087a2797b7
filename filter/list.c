/* SPDX-License-Identifier: BSD-3-Clause */
/* list.c - the list of exports.
 *
 * Owns      what a client is told that there is: the plugin's own exports,
 *           which are active disks, each followed by what it has inside.
 * Method    peek.c opens the images, one after the other.
 *
 *           The list never fails over an image that cannot be opened, and
 *           says nothing of it.  Most clients give up over an export that is
 *           listed and cannot be opened, so what is no image at all is left
 *           out where there are many, and so are bitmaps of no use.  Snapshots
 *           whose name cannot be used are listed by their id.
 *
 *           The list is bounded, since clients do not accept any number of
 *           exports, and so are its bytes, which come out of the server's
 *           budget while it is made, and the work: an image may have 65536
 *           snapshots with names of 64 KiB, and a directory any number of
 *           images.
 * Locks     none: all belongs to the thread of the connection.
 */
#include "config.h"

#include "list.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "exports.h"
#include "lines.h"
#include "raw.h"
#include "rawnames.h"
#include "report.h"
#include "settings.h"
#include "share/peek.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Some clients take 10000 exports for an attack, and so does nbdkit. */
#define MAX_EXPORTS 9000

/* Of the names and descriptions in a list; and, for each of them, of what
 * keeps them together here and in nbdkit.
 */
#define MAX_BYTES (UINT64_C (8) << 20)
#define BESIDES 256

/* Images that are not opened any more are listed as the plugin does. */
#define MAX_IMAGES 1000
#define MAX_SECONDS 5

struct list {
  struct nbdkit_exports *exports;       /* what the client gets */
  size_t room;                          /* for more than the plugin's own */
  uint64_t bytes;                       /* taken from the server's budget */
  unsigned images;                      /* that have been opened */
  time_t until;
};

/* For something of that length more; false if the list is long enough. */
static bool
take_bytes (struct list *list, size_t len)
{
  const uint64_t bytes = len + BESIDES;

  if (list->bytes + bytes > MAX_BYTES ||
      !qcow2_budget_take (config.budget, bytes)) {
    nbdkit_debug ("qcow2: the list of exports ends early: its names are too "
                  "long, or memory is short");
    list->room = 0;
    return false;
  }
  (void) holds (list->bytes <= MAX_BYTES);
  list->bytes += bytes;
  return true;
}

/* ---- A set of names ---------------------------------------------------- */

/* A balanced tree: names from an image may have been chosen to collide. */
struct names {
  void *root;
};

static int
compare_names (const void *x, const void *y)
{
  const struct qcow2_name *const a = x, *const b = y;
  const size_t len = a->len < b->len ? a->len : b->len;
  const int r = memcmp (a->bytes, b->bytes, len);

  return r != 0 ? r : (a->len > b->len) - (a->len < b->len);
}

/* Returns 1 if it is new, 0 if it is not, -1 if there is no memory.  What
 * is too long to be a name of an export is as good as new.
 */
static int
names_add (struct names *names, struct list *list,
           const struct qcow2_name *name)
{
  struct qcow2_name *node, **found;
  char *bytes;

  if (name->len > EXPORT_NAME_MAX)
    return 1;
  if (tfind (name, &names->root, compare_names) != NULL)
    return 0;
  if (!take_bytes (list, name->len))
    return -1;
  node = malloc (sizeof *node + name->len);
  if (node == NULL)
    return -1;
  bytes = (char *) (node + 1);
  memcpy (bytes, name->bytes, name->len);
  *node = (struct qcow2_name) { bytes, name->len };
  found = tsearch (node, &names->root, compare_names);
  if (found != NULL)
    return 1;
  free (node);
  return -1;
}

static void
names_free (struct names *names)
{
  tdestroy (names->root, free);
}

/* ---- What an image has inside ------------------------------------------ */

struct inside {
  struct list *list;
  const char *image;            /* for messages */
  const char *base;             /* the image's name, in names of views */
  struct names names, ids;
};

/* Returns 1 if no more can be added. */
static int
add_view (struct inside *in, const char *name, const char *description)
{
  struct list *const list = in->list;

  if (!take_bytes (list, strlen (name) + strlen (description)) ||
      nbdkit_add_export (list->exports, name, description) == -1)
    list->room = 0;
  else if (holds (list->room > 0))
    list->room--;
  return list->room == 0;
}

static void
left_out (const struct inside *in, const char *what,
          const struct qcow2_name *name, const char *why)
{
  char text[80];

  export_escape (text, sizeof text, name->bytes, name->len);
  nbdkit_debug ("qcow2: %s: %s \"%s\" is not listed: %s", in->image,
                what, text, why);
}

/* A name means the first snapshot that has it. */
static int
add_snapshot (void *opaque, const struct qcow2_snapshot *s)
{
  struct inside *const in = opaque;
  const int new_name = names_add (&in->names, in->list, &s->name);
  const int new_id = names_add (&in->ids, in->list, &s->id);
  char export[EXPORT_NAME_MAX + 1];
  char description[EXPORT_DESCRIPTION_SIZE];
  bool by_name;

  if (new_name == -1 || new_id == -1)
    return 1;
  by_name = new_name &&
    export_name_format (export, in->base, QCOW2_VIEW_SNAPSHOT, &s->name,
                        config.names);
  if (!by_name &&
      !(new_id && export_name_format (export, in->base,
                                      QCOW2_VIEW_SNAPSHOT_ID, &s->id,
                                      config.names))) {
    left_out (in, "snapshot", &s->name, "its name cannot be used, and "
              "neither can its id");
    return 0;
  }
  export_describe_snapshot (description, s, !by_name);
  return add_view (in, export, description);
}

static int
add_bitmap (void *opaque, const struct qcow2_bitmap *b)
{
  struct inside *const in = opaque;
  char export[EXPORT_NAME_MAX + 1];
  char description[EXPORT_DESCRIPTION_SIZE];
  const char *why = b->why_unusable;

  if (why == NULL && !export_name_format (export, in->base,
                                          QCOW2_VIEW_BITMAP, &b->name,
                                          config.names))
    why = "its name cannot be used";
  if (why != NULL) {
    left_out (in, "bitmap", &b->name, why);
    return 0;
  }
  export_describe_bitmap (description, b);
  return add_view (in, export, description);
}

/* Only of overlays.  Where other files were not opened it is known of no layer
 * but the image itself.
 */
static void
add_layers (struct inside *in, const struct peek *peek)
{
  const unsigned nr = qcow2_count_layers (peek->image);
  char description[EXPORT_DESCRIPTION_SIZE];
  char export[EXPORT_NAME_MAX + 1];

  if (!qcow2_get_info (peek->image).has_backing_file)
    return;
  for (unsigned i = 0; i < nr && in->list->room > 0; ++i) {
    char number[16];
    const struct qcow2_name name = {
      number, (size_t) snprintf (number, sizeof number, "%u", i),
    };

    if (!export_name_format (export, in->base, QCOW2_VIEW_LAYER, &name,
                             config.names))
      return;
    export_describe_layer (description, i);
    add_view (in, export, description);
  }
}

static void
add_inside (struct list *list, const struct peek *peek, const char *base)
{
  struct inside in = { .list = list, .image = peek->name, .base = base };
  struct qcow2_error error;

  (void) holds (!peek->no_image);
  add_layers (&in, peek);
  if (qcow2_get_info (peek->image).backing_missing)
    return;
  if (list->room > 0 &&
      qcow2_list_snapshots (peek->image, peek->io, add_snapshot, &in, &error)
      == -1)
    report (peek->name, &error);
  if (list->room > 0 &&
      qcow2_list_bitmaps (peek->image, peek->io, add_bitmap, &in, &error)
      == -1)
    report (peek->name, &error);
  names_free (&in.names);
  names_free (&in.ids);
}

/* ---- Images ------------------------------------------------------------ */

/* As the plugin has it. */
static int
add_plain (struct list *list, const struct nbdkit_export *own)
{
  return nbdkit_add_export (list->exports, own->name, own->description);
}

static int
add_raw (struct list *list, const struct nbdkit_export *own)
{
  return nbdkit_add_export (list->exports, own->name,
                            own->description ? own->description
                            : RAW_DESCRIPTION);
}

static int
add_image (struct list *list, const struct nbdkit_export *own, bool readonly)
{
  const char *const base = config.names == NAMES_IGNORED ? "" : own->name;
  char description[EXPORT_DESCRIPTION_SIZE];
  struct peek peek;
  int r;

  list->images++;
  if (peek_open_alone (&peek, own->name, readonly) == -1)
    return peek.no_image ? 0 : add_plain (list, own);
  export_describe_disk (description, qcow2_get_info (peek.image));
  r = own->description || qcow2_get_info (peek.image).backing_missing
    ? add_plain (list, own)
    : nbdkit_add_export (list->exports, own->name, description);
  add_inside (list, &peek, base);
  peek_close (&peek);
  return r;
}

static time_t
now (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec;
}

/* Where names mean nothing the first stands for all. */
static bool
is_worth_opening (struct list *list)
{
  if (list->room == 0 || (config.names == NAMES_IGNORED && list->images > 0))
    return false;
  if (list->images < MAX_IMAGES && now () < list->until)
    return true;
  nbdkit_debug ("qcow2: only %u images were looked into for the list of "
                "exports", list->images);
  list->room = 0;
  return false;
}

/* A name of the plugin's own that leads elsewhere. */
static bool
is_hidden (const char *name)
{
  struct export_name parsed;

  export_name_parse (&parsed, name, config.names);
  return parsed.view != NULL;
}

static int
add_all (struct list *list, const struct nbdkit_exports *own, bool readonly)
{
  const size_t count = nbdkit_exports_count (own);
  int r = 0;

  list->room = count < MAX_EXPORTS ? MAX_EXPORTS - count : 0;
  (void) holds (list->images == 0 && list->bytes == 0);
  for (size_t i = 0; i < count && r == 0; ++i) {
    const struct nbdkit_export export = nbdkit_get_export (own, i);

    if (is_hidden (export.name))
      continue;
    r = raw_names_have (export.name) ? add_raw (list, &export)
      : is_worth_opening (list) ? add_image (list, &export, readonly)
      : add_plain (list, &export);
  }
  return r;
}

int
list_exports (nbdkit_next_list_exports *next, nbdkit_backend *nxdata,
              int readonly, int is_tls, struct nbdkit_exports *exports)
{
  struct list list = { .exports = exports, .until = now () + MAX_SECONDS };
  struct nbdkit_exports *const own = nbdkit_exports_new ();
  int r;

  if (own == NULL)
    return -1;
  r = next (nxdata, readonly, own);
  if (r == 0) {
    report_quietly (true);
    r = add_all (&list, own, readonly);
    report_quietly (false);
  }
  qcow2_budget_give (config.budget, list.bytes);
  nbdkit_exports_free (own);
  return r;
}
