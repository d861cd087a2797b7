/* SPDX-License-Identifier: BSD-3-Clause */
/* as_job.c - commands that go on as jobs.
 *
 * Owns      a copy of the arguments, as long as the job runs.
 * Method    the command is the same; it runs on the job's thread, and asks
 *           there whether it is still wanted (job_go_on).  What it returns is
 *           the result of the job; what is wrong with the arguments, too, is
 *           the job's error.
 * Locks     none here.
 */
#include "config.h"

#include "control/as_job.h"

#include "report.h"
#include "control/arguments.h"
#include "control/jobs.h"

#include <stdlib.h>

struct as_job {
  const struct verb *verb;
  json_t *arguments;
};

static json_t *
run (struct job *job, void *opaque, struct call *call)
{
  const struct as_job *const a = opaque;

  (void) holds (call->job == job);
  call->name = a->verb->name;
  call->arguments = a->arguments;
  if (!a->verb->checks &&
      !arguments_check (a->verb->arguments, a->arguments, call))
    return NULL;
  return a->verb->run (call);
}

static void
free_as_job (void *opaque)
{
  struct as_job *const a = opaque;

  json_decref (a->arguments);
  free (a);
}

json_t *
as_job (struct call *call, const struct verb *verb)
{
  struct as_job *const a = calloc (1, sizeof *a);
  const struct job_work work = {
    .type = verb->name, .run = run, .free = free_as_job, .opaque = a,
  };
  const char *const id = call_text (call, "job-id");

  if (id == NULL) {
    free (a);
    return call_fail (call, "Invalid parameter type for 'job-id', expected: "
                      "string");
  }
  if (a != NULL)
    a->arguments = json_deep_copy (call->arguments);
  if (a == NULL || a->arguments == NULL) {
    free (a);
    return call_fail (call, "out of memory");
  }
  json_object_del (a->arguments, "job-id");
  a->verb = verb;
  return jobs_start (call, id, &work);
}
