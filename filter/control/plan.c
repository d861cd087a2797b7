/* SPDX-License-Identifier: BSD-3-Clause */
/* plan.c - changes of images that are served, which happen at one point in
 * time.
 *
 * Owns      struct plan; what is said about how it went.
 * Method    actions are collected by image, in their order (plan_actions.c);
 *           the engine does all of them at once (qcow2_transact).  An image is
 *           opened by the first action that names it, before any is carried
 *           out.  Two names may mean the same image.  All snapshots of a plan
 *           have one date, which tells which ones belong together.
 * Locks     none here; the engine holds back changes of the disks.  The last
 *           date is an atomic.
 */
#include "config.h"

#include "control/plan_impl.h"

#include "report.h"
#include "control/again.h"
#include "control/jobs.h"
#include "share/disk.h"
#include "share/views.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Nanoseconds since 1970, later than those of all plans before; also if the
 * clock was set back.
 */
static uint64_t
new_date (void)
{
  static _Atomic uint64_t last;
  uint64_t before = atomic_load (&last), date;
  struct timespec now;

  clock_gettime (CLOCK_REALTIME, &now);
  do {
    date = (uint64_t) now.tv_sec * 1000000000 + (uint64_t) now.tv_nsec;
    if (date <= before)
      date = before + 1;
  } while (!atomic_compare_exchange_weak (&last, &before, date));
  return date;
}

struct plan *
plan_begin (struct call *call)
{
  struct plan *const plan = calloc (1, sizeof *plan);

  if (plan == NULL)
    call_fail (call, "out of memory");
  else {
    plan->call = call;
    plan->date_ns = new_date ();
  }
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

/* ---- Images ------------------------------------------------------------- */

static struct image *
find_image (struct plan *plan, const char *device)
{
  for (size_t i = 0; i < plan->nr_images; ++i)
    if (strcmp (plan->images[i].device, device) == 0)
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
  (void) holds (fresh == &plan->images[plan->nr_images] &&
                fresh->target.image != NULL && fresh->nr_actions == 0);
  fresh->actions = calloc (PLAN_MAX_ACTIONS, sizeof *fresh->actions);
  if (fresh->actions == NULL) {
    target_close (&fresh->target);
    call_fail (plan->call, "out of memory");
    return NULL;
  }
  plan->nr_images++;
  return fresh;
}

struct image *
plan_get_image (struct plan *plan, const char *device)
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
    [QCOW2_OUTCOME_NOT_DONE] = "x-q2-not-done",
    [QCOW2_OUTCOME_DONE] = "x-q2-done",
    [QCOW2_OUTCOME_UNKNOWN] = "x-q2-unknown",
  };
  json_t *const lists = json_object ();
  bool some = false;

  for (size_t i = 0; i < plan->nr_images; ++i) {
    const char *const key = keys[parts[i].outcome];

    some |= parts[i].outcome != QCOW2_OUTCOME_NOT_DONE;
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

    (void) holds (image->nr_actions <= PLAN_MAX_ACTIONS &&
                  image->target.image != NULL);
    parts[i] = (struct qcow2_part) {
      .image = image->target.image, .io = image->target.io,
      .actions = image->actions, .nr_actions = image->nr_actions,
      .snapshot = image->has_snapshot ? &image->snapshot : NULL,
      .progress = job_go_on, .progress_opaque = plan->call,
    };
  }
}

/* They would keep bitmaps from being changed. */
static void
close_idle_views (struct plan *plan)
{
  for (size_t i = 0; i < plan->nr_images; ++i)
    if (plan->images[i].nr_actions > 0)
      views_close_idle (plan->images[i].target.disk);
}

static bool
nothing_done (const struct plan *plan, const struct qcow2_part *parts)
{
  for (size_t i = 0; i < plan->nr_images; ++i)
    if (parts[i].outcome != QCOW2_OUTCOME_NOT_DONE)
      return false;
  return true;
}

json_t *
plan_run (struct plan *plan)
{
  struct qcow2_part *const parts = calloc (QCOW2_MAX_PARTS, sizeof *parts);
  struct again again = { .nap = 0 };
  struct qcow2_error err;
  size_t failed;
  int r;

  if (parts == NULL)
    return call_fail (plan->call, "out of memory");
  make_parts (plan, parts);
  do {
    close_idle_views (plan);
    r = qcow2_transact (parts, plan->nr_images, &failed, &err);
  } while (r == -1 && nothing_done (plan, parts) && again_soon (&again, &err));
  if (r == -1) {
    call_fail_engine (plan->call, plan->nr_images > 0 &&
                      holds (failed < plan->nr_images)
                      ? plan->images[failed].target.name : "", &err);
    plan->call->outcome = plan->nr_images == 1 ? parts[0].outcome
      : QCOW2_OUTCOME_NOT_DONE;
    if (plan->nr_images > 1)
      report_outcomes (plan, parts);
  }
  for (size_t i = 0; i < plan->nr_images; ++i)
    if (parts[i].outcome == QCOW2_OUTCOME_DONE)
      tell (&plan->images[i]);
  free (parts);
  return r == -1 ? NULL : json_object ();
}
