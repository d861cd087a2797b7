/* SPDX-License-Identifier: BSD-3-Clause */
/* lookup.c - see lookup.h.
 *
 * Owns      nothing.
 * Locks     none; what is found may be gone at any moment, unless nobody else
 *           uses the image.
 */
#include "config.h"

#include "control/lookup.h"

#include "qcow2.h"
#include "control/verbs.h"

#include <string.h>

struct qcow2_name
lookup_name (const char *text)
{
  return (struct qcow2_name) { text, text ? strlen (text) : 0 };
}

static bool
same (const struct qcow2_name *a, const struct qcow2_name *b)
{
  return a->len == b->len && memcmp (a->bytes, b->bytes, a->len) == 0;
}

static int
look_at (void *opaque, const struct qcow2_snapshot *s)
{
  struct lookup *const lookup = opaque;

  if (lookup->id.bytes != NULL && !same (&s->id, &lookup->id))
    return 0;
  if (lookup->name.bytes != NULL && !same (&s->name, &lookup->name)) {
    lookup->id_is_taken = lookup->id.bytes != NULL;
    return 0;
  }
  lookup->found = verb_snapshot_json (s);
  return 1;
}

int
lookup_snapshot (struct lookup *lookup, struct call *call,
                 const struct target *t)
{
  json_t *const before = lookup->found;
  struct qcow2_error err;
  bool found;

  lookup->found = NULL;
  lookup->id_is_taken = false;
  if (qcow2_list_snapshots (t->image, t->io, look_at, lookup, &err) == -1) {
    json_decref (before);
    call_fail_engine (call, t->name, &err);
    return -1;
  }
  found = lookup->found != NULL &&
    (before == NULL || json_equal (before, lookup->found));
  json_decref (before);
  return found;
}
