/* SPDX-License-Identifier: BSD-3-Clause */
/* plan.h - changes of images that are served, which happen at one point in
 * time.
 *
 * The thread of a peer owns a plan, from plan_begin to plan_end.  Texts point
 * into what the peer has sent.
 */
#ifndef CONTROL_PLAN_H
#define CONTROL_PLAN_H

#include "control/call.h"

#include <jansson.h>
#include <stdbool.h>

#define PLAN_MAX_ACTIONS 256

struct plan;

/* NULL having called call_fail. */
extern struct plan *plan_begin (struct call *call);
extern void plan_end (struct plan *plan);

/* Add an action of that type, as in QMP's "transaction": "data" is what the
 * command of that name has as its arguments.  The image is opened.  Returns
 * false having called call_fail.
 */
extern bool plan_add (struct plan *plan, const char *type, json_t *data);

/* Carry it out.  Returns what the command returns, as struct verb has it. */
extern json_t *plan_run (struct plan *plan);

#endif /* CONTROL_PLAN_H */
