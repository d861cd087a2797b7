/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs.h - the commands of the control socket.
 *
 * A new one is a function, a line in the table of verbs.c, and an item in
 * docs/nbdkit-qcow2-filter.pod.  Commands run on the thread of their peer;
 * several may run at once.
 */
#ifndef CONTROL_VERBS_H
#define CONTROL_VERBS_H

#include "control/call.h"

#include <jansson.h>
#include <stdbool.h>

struct argument;

struct verb {
  const char *name;
  const struct argument *arguments;     /* or NULL: none */
  bool checks;                  /* them itself */
  bool may_be_job;              /* if it is given a "job-id" */
  /* Returns what the command returns, which the caller frees, or NULL having
   * called call_fail or call_fail_engine.
   */
  json_t *(*run) (struct call *call);
};

/* The command of that name, or NULL. */
extern const struct verb *verb_find (const char *name);

/* ---- Those that there are ---------------------------------------------- */

extern json_t *verb_query_version (struct call *call);
extern json_t *verb_query_images (struct call *call);
extern json_t *verb_query_snapshots (struct call *call);
extern json_t *verb_query_bitmaps (struct call *call);
extern json_t *verb_query_stats (struct call *call);
extern json_t *verb_flush (struct call *call);
extern json_t *verb_action (struct call *call);
extern json_t *verb_transaction (struct call *call);
extern json_t *verb_checkpoint (struct call *call);
extern json_t *verb_snapshot_delete (struct call *call);
extern json_t *verb_snapshot_apply (struct call *call);
extern json_t *verb_empty (struct call *call);
extern json_t *verb_resize (struct call *call);
extern json_t *verb_check (struct call *call);
extern json_t *verb_query_check (struct call *call);
extern json_t *verb_query_jobs (struct call *call);
extern json_t *verb_job_cancel (struct call *call);
extern json_t *verb_job_dismiss (struct call *call);

/* How a snapshot looks. */
extern json_t *verb_snapshot_json (const struct qcow2_snapshot *s);

#endif /* CONTROL_VERBS_H */
