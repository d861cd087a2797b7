/* SPDX-License-Identifier: BSD-3-Clause */
/* job_verbs.c - commands about jobs.
 *
 * Owns      nothing: jobs.c has the table.
 * Method    as QEMU's, whose words the errors have.  What a job has returned,
 *           or why it has failed, can be asked for until it is dismissed.
 * Locks     jobs.lock, for a moment; nothing is said with it.
 */
#include "config.h"

#include "control/jobs_impl.h"

#include "control/verbs.h"

#include <pthread.h>
#include <string.h>

static json_t *
fail_no_job (struct call *call)
{
  call->kind = "name";
  return call_fail (call, "Job not found");
}

json_t *
verb_query_jobs (struct call *call)
{
  json_t *const list = json_array ();

  (void) call;
  pthread_mutex_lock (&jobs_table.lock);
  for (size_t i = 0; i < JOBS_MAX; ++i) {
    const struct job *const j = &jobs_table.jobs[i];
    json_t *info;

    if (j->status == JOB_NONE)
      continue;
    info = json_pack ("{s:s,s:s,s:s,s:i,s:i}", "id", j->id, "type",
                      j->work.type, "status", jobs_status_name (j->status),
                      "current-progress", (int) j->percent,
                      "total-progress", 100);
    if (j->error != NULL)
      json_object_set_new (info, "error",
                           call_bytes (j->error, strlen (j->error)));
    json_array_append_new (list, info);
  }
  pthread_mutex_unlock (&jobs_table.lock);
  return list;
}

json_t *
verb_job_cancel (struct call *call)
{
  const char *const id = call_text (call, "id");
  struct job *job;
  bool concluded = false, final = false;

  pthread_mutex_lock (&jobs_table.lock);
  job = jobs_find_locked (id);
  if (job != NULL) {
    concluded = job->status == JOB_CONCLUDED;
    final = job->final;
    job->cancel |= !final;
  }
  pthread_mutex_unlock (&jobs_table.lock);
  if (job == NULL)
    return fail_no_job (call);
  if (final && !concluded)
    return call_fail (call, "Job '%s' cannot be cancelled any more: what it "
                      "does cannot be undone", id);
  return concluded
    ? call_fail (call, "Job '%s' in state 'concluded' cannot accept command "
                 "verb 'cancel'", id)
    : json_object ();
}

json_t *
verb_job_dismiss (struct call *call)
{
  const char *const id = call_text (call, "id");
  struct job old = { .status = JOB_NONE }, *job;

  pthread_mutex_lock (&jobs_table.lock);
  job = jobs_find_locked (id);
  if (job != NULL && job->status == JOB_CONCLUDED) {
    old = *job;
    job->status = JOB_NONE;
  }
  else if (job != NULL)
    call_fail (call, "Job '%s' in state '%s' cannot accept command verb "
               "'dismiss'", id, jobs_status_name (job->status));
  pthread_mutex_unlock (&jobs_table.lock);
  jobs_forget (&old);
  if (job == NULL)
    return fail_no_job (call);
  return old.status != JOB_NONE ? json_object () : NULL;
}

json_t *
verb_query_check (struct call *call)
{
  const char *const id = call_text (call, "id");
  json_t *result = NULL;
  struct job *job;

  pthread_mutex_lock (&jobs_table.lock);
  job = jobs_find_locked (id);
  if (job != NULL && job->result != NULL)
    result = json_deep_copy (job->result);
  else if (job != NULL && job->status == JOB_CONCLUDED) {
    call->kind = job->kind;
    call->outcome = job->outcome;
    call->outcomes = json_deep_copy (job->outcomes);
    call_fail (call, "%s", job->error ? job->error : "out of memory");
  }
  else if (job != NULL)
    call_fail (call, "Job '%s' is in state '%s': it has no result yet", id,
               jobs_status_name (job->status));
  pthread_mutex_unlock (&jobs_table.lock);
  return job == NULL ? fail_no_job (call) : result;
}
