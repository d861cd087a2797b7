/* SPDX-License-Identifier: BSD-3-Clause */
/* plan.c - changes of images that are served, which happen at one point in
 * time.
 *
 * Owns      the actions: their names, arguments and meaning are QEMU's.
 * Method    actions are collected by image, in their order; the engine does
 *           all of them at once (qcow2_transact).  An image is opened by the
 *           first action that names it, before any is carried out.  Two names
 *           may mean the same image.
 *
 *           Bitmaps of QEMU may be in memory only, and are if nothing else is
 *           said.  Here are none: who does not ask for one that is persistent
 *           is told so, since it would stay when he thinks that it is gone.
 * Locks     none here; the engine holds back changes of all the disks.
 */
#include "config.h"

#include "control/plan.h"

#include "qcow2.h"
#include "control/arguments.h"
#include "control/roster.h"
#include "control/target.h"
#include "settings.h"
#include "share/disk.h"
#include "share/views.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

struct image {
  struct target target;
  const char *device;           /* as it was first called */
  struct qcow2_bitmap_action *actions;  /* PLAN_MAX_ACTIONS */
  size_t nr_actions;
  struct qcow2_snapshot_options snapshot;
  bool has_snapshot;
};

struct plan {
  struct call *call;
  struct image images[QCOW2_MAX_PARTS];
  size_t nr_images, nr_actions;
};

struct plan *
plan_begin (struct call *call)
{
  struct plan *const plan = calloc (1, sizeof *plan);

  if (plan == NULL)
    call_fail (call, "out of memory");
  else
    plan->call = call;
  return plan;
}

void
plan_end (struct plan *plan)
{
  for (size_t i = 0; i < plan->nr_images; ++i) {
    struct image *const image = &plan->images[i];

    for (size_t a = 0; a < image->nr_actions; ++a)
      free ((void *) image->actions[a].sources);
    free (image->actions);
    target_close (&image->target);
  }
  free (plan);
}

static struct qcow2_name
name_of (const json_t *data, const char *key)
{
  const json_t *const text = json_object_get (data, key);

  return (struct qcow2_name) { json_string_value (text),
                               json_string_length (text) };
}

/* ---- Images ------------------------------------------------------------- */

static struct image *
find_image (struct plan *plan, const char *device)
{
  for (size_t i = 0; i < plan->nr_images; ++i)
    if (config.names == NAMES_IGNORED ||
        strcmp (plan->images[i].device, device) == 0)
      return &plan->images[i];
  return NULL;
}

/* The new one, or the same under another name. */
static struct image *
settle (struct plan *plan, struct image *fresh)
{
  for (size_t i = 0; i < plan->nr_images; ++i)
    if (plan->images[i].target.image == fresh->target.image) {
      target_close (&fresh->target);
      return &plan->images[i];
    }
  fresh->actions = calloc (PLAN_MAX_ACTIONS, sizeof *fresh->actions);
  if (fresh->actions == NULL) {
    target_close (&fresh->target);
    call_fail (plan->call, "out of memory");
    return NULL;
  }
  plan->nr_images++;
  return fresh;
}

static struct image *
get_image (struct plan *plan, const char *device)
{
  struct image *const known = find_image (plan, device);
  struct image *const fresh = &plan->images[plan->nr_images];

  if (known != NULL)
    return known;
  if (plan->nr_images == QCOW2_MAX_PARTS) {
    call_fail (plan->call, "a transaction can have %d images",
               QCOW2_MAX_PARTS);
    return NULL;
  }
  *fresh = (struct image) { .device = device };
  return target_open (&fresh->target, plan->call, device, true)
    ? settle (plan, fresh) : NULL;
}

/* ---- Actions ------------------------------------------------------------ */

struct type {
  const char *name;
  const struct argument *arguments;
  const char *device;           /* which of them names the image */
  enum qcow2_bitmap_verb verb;  /* unless it is a snapshot: */
  bool (*fill) (struct plan *plan, struct image *image,
                const struct type *type, const json_t *data);
};

/* When the server ends all is given up. */
static bool
may_go_on (void *opaque, unsigned percent)
{
  (void) opaque;
  (void) percent;
  return !roster_is_ending ();
}

static struct qcow2_bitmap_action *
next_action (struct image *image, const struct type *type,
             struct qcow2_name name)
{
  struct qcow2_bitmap_action *const a = &image->actions[image->nr_actions++];

  *a = (struct qcow2_bitmap_action) { .verb = type->verb, .name = name };
  return a;
}

static bool
fill_named (struct plan *plan, struct image *image, const struct type *type,
            const json_t *data)
{
  (void) plan;
  next_action (image, type, name_of (data, "name"));
  return true;
}

static bool
fill_add (struct plan *plan, struct image *image, const struct type *type,
          const json_t *data)
{
  const json_t *const granularity = json_object_get (data, "granularity");
  const json_int_t bytes = json_integer_value (granularity);
  struct qcow2_bitmap_action *a;

  if (!json_is_true (json_object_get (data, "persistent"))) {
    call_fail (plan->call, "Parameter 'persistent' must be true: this server "
               "has only bitmaps that are stored in the image");
    return false;
  }
  if (granularity != NULL && bytes <= 0) {
    call_fail (plan->call, "Granularity must be power of 2");
    return false;
  }
  a = next_action (image, type, name_of (data, "name"));
  a->granularity = (uint64_t) bytes;
  a->disabled = json_is_true (json_object_get (data, "disabled"));
  return true;
}

static const struct argument node_name[] = {
  { "node", JSON_STRING, false }, { "name", JSON_STRING, false },
  { NULL, JSON_NULL, false }
};

/* A source: its name, or an object with that and the image. */
static bool
take_source (struct plan *plan, const struct image *image, json_t *item,
             struct qcow2_name *ret)
{
  const char *node;

  if (json_is_string (item)) {
    *ret = (struct qcow2_name) { json_string_value (item),
                                 json_string_length (item) };
    return true;
  }
  if (!json_is_object (item)) {
    call_fail (plan->call, "Invalid parameter type for 'bitmaps', expected: "
               "string or object");
    return false;
  }
  if (!arguments_check (node_name, item, plan->call))
    return false;
  node = json_string_value (json_object_get (item, "node"));
  *ret = name_of (item, "name");
  if (find_image (plan, node) == image)
    return true;
  call_fail (plan->call, "'%.200s': a bitmap of another image cannot be "
             "merged while images are served", node);
  return false;
}

static bool
fill_merge (struct plan *plan, struct image *image, const struct type *type,
            const json_t *data)
{
  const json_t *const list = json_object_get (data, "bitmaps");
  const size_t nr = json_array_size (list);
  struct qcow2_bitmap_source *const sources = calloc (nr + 1, sizeof *sources);
  struct qcow2_bitmap_action *a;

  if (sources == NULL) {
    call_fail (plan->call, "out of memory");
    return false;
  }
  a = next_action (image, type, name_of (data, "target"));
  a->sources = sources;
  a->nr_sources = nr;
  for (size_t i = 0; i < nr; ++i)
    if (!take_source (plan, image, json_array_get (list, i),
                      &sources[i].name))
      return false;
  return true;
}

static bool
fill_snapshot (struct plan *plan, struct image *image,
               const struct type *type, const json_t *data)
{
  struct timespec now;

  (void) type;
  if (name_of (data, "name").len == 0) {
    call_fail (plan->call, "Name is empty");
    return false;
  }
  if (image->has_snapshot) {
    call_fail (plan->call, "%s: there can be one snapshot of an image in a "
               "transaction", image->device);
    return false;
  }
  clock_gettime (CLOCK_REALTIME, &now);
  image->has_snapshot = true;
  image->snapshot = (struct qcow2_snapshot_options) {
    .name = name_of (data, "name"), .unique_name = true,
    .icount = UINT64_MAX, .progress = may_go_on,
    .date_sec = (uint32_t) now.tv_sec, .date_nsec = (uint32_t) now.tv_nsec,
  };
  return true;
}

static const struct argument add_arguments[] = {
  { "node", JSON_STRING, false }, { "name", JSON_STRING, false },
  { "granularity", JSON_INTEGER, true }, { "persistent", JSON_TRUE, true },
  { "disabled", JSON_TRUE, true }, { NULL, JSON_NULL, false }
};

static const struct argument merge_arguments[] = {
  { "node", JSON_STRING, false }, { "target", JSON_STRING, false },
  { "bitmaps", JSON_ARRAY, false }, { NULL, JSON_NULL, false }
};

static const struct argument snapshot_arguments[] = {
  { "device", JSON_STRING, false }, { "name", JSON_STRING, false },
  { NULL, JSON_NULL, false }
};

static const struct type types[] = {
  { "block-dirty-bitmap-add", add_arguments, "node", QCOW2_BITMAP_ADD,
    fill_add },
  { "block-dirty-bitmap-clear", node_name, "node", QCOW2_BITMAP_CLEAR,
    fill_named },
  { "block-dirty-bitmap-disable", node_name, "node", QCOW2_BITMAP_DISABLE,
    fill_named },
  { "block-dirty-bitmap-enable", node_name, "node", QCOW2_BITMAP_ENABLE,
    fill_named },
  { "block-dirty-bitmap-merge", merge_arguments, "node", QCOW2_BITMAP_MERGE,
    fill_merge },
  { "block-dirty-bitmap-remove", node_name, "node", QCOW2_BITMAP_REMOVE,
    fill_named },
  { "blockdev-snapshot-internal-sync", snapshot_arguments, "device",
    QCOW2_BITMAP_ADD, fill_snapshot },
};
#define NR_TYPES (sizeof types / sizeof types[0])

static const struct type *
find_type (const char *name)
{
  for (size_t i = 0; i < NR_TYPES; ++i)
    if (strcmp (types[i].name, name) == 0)
      return &types[i];
  return NULL;
}

bool
plan_add (struct plan *plan, const char *name, json_t *data)
{
  const struct type *const type = find_type (name);
  struct image *image;

  if (type == NULL) {
    call_fail (plan->call, "Parameter 'type' does not accept value '%.100s'",
               name);
    return false;
  }
  if (!arguments_check (type->arguments, data, plan->call))
    return false;
  if (++plan->nr_actions > PLAN_MAX_ACTIONS) {
    call_fail (plan->call, "a transaction can have %d actions",
               PLAN_MAX_ACTIONS);
    return false;
  }
  image = get_image (plan, json_string_value (json_object_get (data,
                                                               type->device)));
  return image != NULL && type->fill (plan, image, type, data);
}

/* ---- The whole ---------------------------------------------------------- */

static void
tell (const struct image *image)
{
  if (image->nr_actions > 0)
    call_event ("X_Q2_BITMAPS_CHANGED", json_pack ("{s:s}", "device",
                                                   image->device));
  if (image->has_snapshot)
    call_event ("X_Q2_SNAPSHOT_CREATED",
                json_pack ("{s:s,s:s}", "device", image->device, "name",
                           image->snapshot.name.bytes));
}

/* Which images have it, and which have not, for people and for programs. */
static void
report_outcomes (struct plan *plan, const struct qcow2_part *parts)
{
  static const char *const keys[] = {
    [QCOW2_PART_NOT_DONE] = "x-q2-not-done", [QCOW2_PART_DONE] = "x-q2-done",
    [QCOW2_PART_UNKNOWN] = "x-q2-unknown",
  };
  json_t *const lists = json_object ();
  bool some = false;

  for (size_t i = 0; i < plan->nr_images; ++i) {
    const char *const key = keys[parts[i].outcome];

    some |= parts[i].outcome != QCOW2_PART_NOT_DONE;
    if (json_object_get (lists, key) == NULL)
      json_object_set_new (lists, key, json_array ());
    json_array_append_new (json_object_get (lists, key),
                           json_string (plan->images[i].device));
  }
  if (some)
    call_add_outcomes (plan->call, lists);
  else
    json_decref (lists);
}

static void
make_parts (struct plan *plan, struct qcow2_part *parts)
{
  for (size_t i = 0; i < plan->nr_images; ++i) {
    struct image *const image = &plan->images[i];

    parts[i] = (struct qcow2_part) {
      .image = image->target.image, .io = image->target.io,
      .actions = image->actions, .nr_actions = image->nr_actions,
      .snapshot = image->has_snapshot ? &image->snapshot : NULL,
      .progress = may_go_on,
    };
    /* They would keep bitmaps from being changed. */
    if (image->nr_actions > 0)
      views_close_idle (image->target.disk);
  }
}

json_t *
plan_run (struct plan *plan)
{
  struct qcow2_part *const parts = calloc (QCOW2_MAX_PARTS, sizeof *parts);
  struct qcow2_error err;
  size_t failed;
  int r;

  if (parts == NULL)
    return call_fail (plan->call, "out of memory");
  make_parts (plan, parts);
  r = qcow2_transact (parts, plan->nr_images, &failed, &err);
  if (r == -1) {
    call_fail_engine (plan->call, plan->nr_images > 0
                      ? plan->images[failed].target.name : "", &err);
    if (plan->nr_images > 1)
      report_outcomes (plan, parts);
  }
  for (size_t i = 0; i < plan->nr_images; ++i)
    if (parts[i].outcome == QCOW2_PART_DONE)
      tell (&plan->images[i]);
  free (parts);
  return r == -1 ? NULL : json_object ();
}
