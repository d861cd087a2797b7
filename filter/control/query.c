/* SPDX-License-Identifier: BSD-3-Clause */
/* query.c - commands of the control socket that only look.
 *
 * Owns      how images, snapshots, bitmaps and counters look as JSON: names
 *           that qemu-img uses, too, mean the same, and what it does not have
 *           is in an object "nbdkit-qcow2".
 * Method    an image may have 65536 snapshots with names of 64 KiB, so lists
 *           are bounded: a longer one is an error, not half a list.
 * Locks     images that are open are listed under states.lock; nothing waits
 *           there.
 */
#include "config.h"

#include "control/verbs.h"

#include "qcow2.h"
#include "logs.h"
#include "settings.h"
#include "control/target.h"
#include "share/corrupt.h"
#include "share/disk.h"
#include "share/state.h"

#include <stdlib.h>
#include <string.h>

#define MAX_ENTRIES 10000
#define MAX_BYTES (UINT64_C (4) << 20)

#define NS UINT64_C (1000000000)

/* ---- The server -------------------------------------------------------- */

/* The number at *text, which moves behind it and the dot after it. */
static int
next_number (const char **text)
{
  char *end;
  const long n = strtol (*text, &end, 10);

  *text = *end == '.' ? end + 1 : end;
  return (int) n;
}

/* QEMU's clients look at "qemu"; the numbers are ours, and "package" says so.
 */
json_t *
verb_query_version (struct call *call)
{
  const char *text = qcow2_version ();
  const int major = next_number (&text), minor = next_number (&text);
  const int micro = next_number (&text);

  (void) call;
  return json_pack ("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", major, "minor",
                    minor, "micro", micro, "package",
                    "nbdkit-qcow2-filter " PACKAGE_VERSION);
}

/* ---- Lists ------------------------------------------------------------- */

struct list {
  json_t *array;
  uint64_t nr, bytes;
  bool too_long;
};

/* Takes the entry.  Returns 1 to end the list. */
static int
add_entry (struct list *list, json_t *entry, size_t bytes)
{
  list->bytes += bytes;
  list->too_long = ++list->nr > MAX_ENTRIES || list->bytes > MAX_BYTES;
  if (!list->too_long)
    return json_array_append_new (list->array, entry) == -1;
  json_decref (entry);
  return 1;
}

typedef int (*lister) (const struct target *t, struct list *list,
                       struct qcow2_error *err);

/* Of the image that the command names. */
static json_t *
make_list (struct call *call, lister fn)
{
  struct list list = { .nr = 0 };
  struct qcow2_error err;
  struct target t;
  int r;

  if (!target_open (&t, call, call_text (call, "device"), false))
    return NULL;
  list.array = json_array ();
  r = fn (&t, &list, &err);
  if (r == -1)
    call_fail_engine (call, t.name, &err);
  else if (list.too_long)
    call_fail (call, "the list is too long");
  target_close (&t);
  if (r != -1 && !list.too_long)
    return list.array;
  json_decref (list.array);
  return NULL;
}

json_t *
verb_snapshot_json (const struct qcow2_snapshot *s)
{
  json_t *const json =
    json_pack ("{s:o,s:o,s:I,s:I,s:I,s:I,s:I}",
               "id", call_bytes (s->id.bytes, s->id.len),
               "name", call_bytes (s->name.bytes, s->name.len),
               "vm-state-size", (json_int_t) s->vm_state_size,
               "date-sec", (json_int_t) s->date_sec,
               "date-nsec", (json_int_t) s->date_nsec,
               "vm-clock-sec", (json_int_t) (s->vm_clock_ns / NS),
               "vm-clock-nsec", (json_int_t) (s->vm_clock_ns % NS));

  if (s->icount != UINT64_MAX)
    json_object_set_new (json, "icount",
                         json_integer ((json_int_t) s->icount));
  json_object_set_new (json, "nbdkit-qcow2",
                       json_pack ("{s:I}", "disk-size",
                                  (json_int_t) s->disk_size));
  return json;
}

static int
add_snapshot (void *opaque, const struct qcow2_snapshot *s)
{
  return add_entry (opaque, verb_snapshot_json (s), s->id.len + s->name.len);
}

static int
list_snapshots (const struct target *t, struct list *list,
                struct qcow2_error *err)
{
  return qcow2_list_snapshots (t->image, t->io, add_snapshot, list, err);
}

json_t *
verb_query_snapshots (struct call *call)
{
  return make_list (call, list_snapshots);
}

static int
add_bitmap (void *opaque, const struct qcow2_bitmap *b)
{
  json_t *const flags = json_array ();
  json_t *const more = json_pack ("{s:b,s:b}", "usable",
                                  b->why_unusable == NULL, "kept-up",
                                  b->kept_up);

  if (b->in_use)
    json_array_append_new (flags, json_string ("in-use"));
  if (b->enabled)
    json_array_append_new (flags, json_string ("auto"));
  if (b->why_unusable)
    json_object_set_new (more, "why-unusable", json_string (b->why_unusable));
  return add_entry (opaque,
                    json_pack ("{s:o,s:o,s:I,s:o}", "flags", flags, "name",
                               call_bytes (b->name.bytes, b->name.len),
                               "granularity", (json_int_t) b->granularity,
                               "nbdkit-qcow2", more), b->name.len);
}

static int
list_bitmaps (const struct target *t, struct list *list,
              struct qcow2_error *err)
{
  return qcow2_list_bitmaps_kept (t->image, t->io, add_bitmap, list, err);
}

json_t *
verb_query_bitmaps (struct call *call)
{
  return make_list (call, list_bitmaps);
}

/* ---- Images ------------------------------------------------------------ */

static json_t *
image_json (const char *device, const char *name,
            const struct qcow2_image *image)
{
  const struct qcow2_info info = qcow2_get_info (image);

  return json_pack ("{s:o,s:o,s:s,s:I,s:I,s:b,s:b,s:i,s:i,s:i}",
                    "device", call_bytes (device, strlen (device)),
                    "filename", call_bytes (name, strlen (name)),
                    "format", info.version == 1 ? "qcow" : "qcow2",
                    "virtual-size", (json_int_t) info.virtual_size,
                    "cluster-size", (json_int_t) info.cluster_size,
                    "dirty-flag", info.dirty,
                    "corrupt", info.corrupt,
                    "version", (int) info.version,
                    "snapshots", (int) info.nr_snapshots,
                    "bitmaps", (int) info.nr_bitmaps);
}

/* How it is served. */
static void
add_serving (json_t *json, const struct disk *d, unsigned users)
{
  const char *const why = corrupt_why (d);

  json_object_set_new (json, "writable", json_boolean (d->writable));
  if (d->why_read_only)
    json_object_set_new (json, "why-read-only",
                         json_string (d->why_read_only));
  /* Not every version has a mark for it. */
  if (why) {
    json_object_set_new (json, "corrupt", json_true ());
    json_object_set_new (json, "why-corrupt", call_bytes (why, strlen (why)));
  }
  json_object_set_new (json, "users", json_integer (users));
}

/* Something of each image that is open, or of one of them. */
struct each {
  const char *device;           /* NULL: all */
  json_t *array;
  json_t *(*fn) (const struct disk *d, unsigned users);
};

static bool
is_wanted (const struct each *each, const struct disk *d)
{
  return each->device == NULL || config.names == NAMES_IGNORED ||
    strcmp (each->device, d->exportname) == 0;
}

static void
add_open (void *opaque, const struct disk *d, unsigned users)
{
  struct each *const each = opaque;

  if (is_wanted (each, d))
    json_array_append_new (each->array, each->fn (d, users));
}

static json_t *
open_image_json (const struct disk *d, unsigned users)
{
  json_t *const json = image_json (d->exportname, d->name, d->image);

  add_serving (json, d, users);
  return json;
}

json_t *
verb_query_images (struct call *call)
{
  struct each each = {
    .device = call_text (call, "device"), .array = json_array (),
    .fn = open_image_json,
  };
  struct target t;

  state_each (add_open, &each);
  if (each.device == NULL || json_array_size (each.array) > 0)
    return each.array;
  /* One that nobody has open. */
  if (!target_open (&t, call, call_text (call, "device"), false)) {
    json_decref (each.array);
    return NULL;
  }
  json_array_append_new (each.array,
                         image_json (each.device, t.name, t.image));
  target_close (&t);
  return each.array;
}

/* ---- Counters ---------------------------------------------------------- */

static json_t *
io_json (const struct qcow2_stats *st)
{
  json_t *const json = json_object ();

  for (size_t i = 0; i < QCOW2_IO_NR_CLASSES; ++i)
    json_object_set_new (json, io_class_names[i],
                         json_pack ("{s:I,s:I,s:I,s:I}", "reads",
                                    (json_int_t) st->io[i].requests,
                                    "bytes-read",
                                    (json_int_t) st->io[i].bytes,
                                    "writes", (json_int_t) st->io[i].writes,
                                    "bytes-written",
                                    (json_int_t) st->io[i].written));
  return json;
}

static json_t *
stats_json (const struct disk *d, unsigned users)
{
  struct qcow2_stats st;
  json_t *json;

  qcow2_get_stats (d->image, &st);
  json = json_pack ("{s:o,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:i}",
                    "device", call_bytes (d->exportname,
                                          strlen (d->exportname)),
                    "commits", (json_int_t) st.commits,
                    "flushes", (json_int_t) st.host_flushes,
                    "table-hits", (json_int_t) st.table_hits,
                    "table-misses", (json_int_t) st.table_misses,
                    "cluster-hits", (json_int_t) st.cluster_hits,
                    "cluster-misses", (json_int_t) st.cluster_misses,
                    "ahead-requests", (json_int_t) st.ahead_requests,
                    "ahead-bytes", (json_int_t) st.ahead_bytes,
                    "ahead-used-bytes", (json_int_t) st.ahead_used_bytes,
                    "inflated-bytes", (json_int_t) st.inflated_bytes,
                    "latency-us", (int) st.latency_us);
  json_object_set_new (json, "users", json_integer (users));
  json_object_set_new (json, "io", io_json (&st));
  json_object_set_new (json, "held",
                       json_pack ("{s:I,s:I,s:I,s:I,s:I}",
                                  "times", (json_int_t) st.holds,
                                  "us", (json_int_t) st.held_us,
                                  "longest-us",
                                  (json_int_t) st.longest_hold_us,
                                  "requests-that-waited",
                                  (json_int_t) st.held_requests,
                                  "tables-shared-by-writes",
                                  (json_int_t) st.shared_by_writes));
  return json;
}

json_t *
verb_query_stats (struct call *call)
{
  struct each each = {
    .device = call_text (call, "device"), .array = json_array (),
    .fn = stats_json,
  };

  state_each (add_open, &each);
  return each.array;
}

/* ---- Flush ------------------------------------------------------------- */

json_t *
verb_flush (struct call *call)
{
  struct qcow2_error err;
  struct target t;
  int r;

  if (!target_open (&t, call, call_text (call, "device"), true))
    return NULL;
  r = qcow2_flush (t.image, t.io, &err);
  if (r == -1)
    call_fail_engine (call, t.name, &err);
  target_close (&t);
  return r == -1 ? NULL : json_object ();
}
