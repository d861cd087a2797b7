/* SPDX-License-Identifier: BSD-3-Clause */
/* plan_actions.c - the actions of a plan.
 *
 * Owns      which there are: their names, arguments and meaning are QEMU's.
 * Method    bitmaps of QEMU may be in memory only, and are if nothing else is
 *           said.  Here are none: who does not ask for one that is persistent
 *           is told so, since it would stay when he thinks that it is gone.
 * Locks     none here.
 */
#include "config.h"

#include "control/plan_impl.h"

#include "report.h"
#include "control/arguments.h"
#include "control/jobs.h"

#include <stdlib.h>
#include <string.h>

#define NS UINT64_C (1000000000)

static struct qcow2_name
name_of (const json_t *data, const char *key)
{
  const json_t *const text = json_object_get (data, key);

  return (struct qcow2_name) { json_string_value (text),
                               json_string_length (text) };
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

static struct qcow2_bitmap_action *
next_action (struct image *image, const struct type *type,
             struct qcow2_name name)
{
  /* plan_add has counted those of all images. */
  const size_t i = holds (image->nr_actions < PLAN_MAX_ACTIONS)
    ? image->nr_actions++ : PLAN_MAX_ACTIONS - 1;
  struct qcow2_bitmap_action *const a = &image->actions[i];

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
  const struct image *from;
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
  from = plan_get_image (plan, node);
  if (from == NULL || from == image)
    return from != NULL;
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
  image->has_snapshot = true;
  image->snapshot = (struct qcow2_snapshot_options) {
    .name = name_of (data, "name"), .unique_name = true,
    .icount = UINT64_MAX, .progress = job_go_on,
    .progress_opaque = plan->call,
    .date_sec = (uint32_t) (plan->date_ns / NS),
    .date_nsec = (uint32_t) (plan->date_ns % NS),
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
  const char *device;
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
  device = json_string_value (json_object_get (data, type->device));
  image = plan_get_image (plan, device);
  (void) holds (image == NULL || (image->actions != NULL &&
                                  image->nr_actions < plan->nr_actions));
  return image != NULL && type->fill (plan, image, type, data);
}
