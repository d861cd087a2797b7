/* SPDX-License-Identifier: BSD-3-Clause */
/* as_job.h - commands that go on as jobs. */
#ifndef CONTROL_AS_JOB_H
#define CONTROL_AS_JOB_H

#include "control/call.h"
#include "control/verbs.h"

/* Run the command, whose arguments have a "job-id", as a job of that name.
 * Returns what jobs_start does.
 */
extern json_t *as_job (struct call *call, const struct verb *verb);

#endif /* CONTROL_AS_JOB_H */
