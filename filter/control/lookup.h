/* SPDX-License-Identifier: BSD-3-Clause */
/* lookup.h - the snapshot that a command means. */
#ifndef CONTROL_LOOKUP_H
#define CONTROL_LOOKUP_H

#include "control/call.h"
#include "control/target.h"

#include <jansson.h>
#include <stdbool.h>

struct lookup {
  struct qcow2_name id, name;   /* bytes == NULL: any */
  json_t *found;                /* as verb_query_snapshots has it; the caller
                                   frees it */
  bool id_is_taken;             /* by another one before it */
};

/* Of a text that stays; NULL: any. */
extern struct qcow2_name lookup_name (const char *text);

/* Find the first one that is meant.  Somebody else may have deleted it since
 * the last time, and made another one of the same name: that is not it.
 * Returns 1 if it is there, 0 if not, or -1 having called call_fail_engine.
 */
extern int lookup_snapshot (struct lookup *lookup, struct call *call,
                            const struct target *target);

#endif /* CONTROL_LOOKUP_H */
