/* SPDX-License-Identifier: BSD-3-Clause */
/* resize.c - other sizes of disks that are being served.
 *
 * Owns      the command that makes them larger, and, if it is told so,
 *           smaller.
 * Method    the engine holds back changes of the disk until it is done; reads
 *           go on.  Clients that are connected keep the size that they were
 *           told; whoever connects afterwards has the new one.  Views that are
 *           only kept for the next client are closed first, since a bitmap
 *           that is open is in the way; a client that has just left is waited
 *           for.  A disk becomes smaller only while nobody uses it (alone.c).
 * Locks     none here; changes of one image wait for each other in the engine.
 */
#include "config.h"

#include "control/verbs.h"

#include "qcow2.h"
#include "control/again.h"
#include "control/alone.h"
#include "control/jobs.h"
#include "control/target.h"
#include "share/disk.h"
#include "share/views.h"

/* QEMU takes either, and so do its clients; NULL: neither was given. */
static const char *
device_of (const struct call *call)
{
  const char *const device = call_text (call, "device");

  return device ? device : call_text (call, "node-name");
}

static void
tell (const struct call *call, uint64_t size)
{
  call_event ("X_Q2_RESIZED", json_pack ("{s:s,s:I}", "device",
                                         device_of (call), "size",
                                         (json_int_t) size));
}

static json_t *
grow (struct call *call, const struct target *t, uint64_t size)
{
  const uint64_t before = qcow2_get_info (t->image).virtual_size;
  const struct qcow2_progress progress = {
    .fn = job_go_on, .opaque = call, .last = job_go_last,
  };
  struct again again = { .nap = 0 };
  struct qcow2_error err;
  int r;

  do {
    views_close_idle (t->disk);
    r = qcow2_grow (t->image, t->io, size, &progress, &err);
  } while (r == -1 && again_soon (&again, &err));
  /* Also if what comes after the change has failed. */
  size = qcow2_get_info (t->image).virtual_size;
  if (size != before)
    tell (call, size);
  return r == -1 ? call_fail_engine (call, t->name, &err) : json_object ();
}

/* What is behind the new end is lost. */
static json_t *
shrink (struct call *call, struct target *t, uint64_t size)
{
  const struct qcow2_progress progress = {
    .fn = job_go_on, .opaque = call, .last = job_go_last,
  };
  struct qcow2_error err;
  int r;

  if (!alone_begin (t, call))
    return NULL;
  r = qcow2_resize (t->image, t->io, size, QCOW2_RESIZE_SHRINK,
                    QCOW2_PREALLOCATE_OFF, &progress, &err);
  if (!alone_is_done (t, call, r, &err))
    return NULL;
  tell (call, qcow2_get_info (t->image).virtual_size);
  return r == 0 ? json_object () : NULL;
}

static json_t *
resize (struct call *call, struct target *t, uint64_t size)
{
  if (size >= qcow2_get_info (t->image).virtual_size)
    return grow (call, t, size);
  if (json_is_true (json_object_get (call->arguments, "x-q2-shrink")))
    return shrink (call, t, size);
  return call_fail (call, "%s%sthe disk would lose what is behind that size; "
                    "\"x-q2-shrink\": true says that it may", t->name,
                    t->name[0] ? ": " : "");
}

json_t *
verb_resize (struct call *call)
{
  const json_int_t size =
    json_integer_value (json_object_get (call->arguments, "size"));
  struct target t;
  json_t *result;

  if (size < 0)
    return call_fail (call, "Parameter 'size' must not be negative");
  if (device_of (call) == NULL)
    return call_fail (call, "Parameter 'device' is missing");
  if (!target_open (&t, call, device_of (call), true))
    return NULL;
  result = resize (call, &t, (uint64_t) size);
  target_close (&t);
  return result;
}
