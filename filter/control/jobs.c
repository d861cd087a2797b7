/* SPDX-License-Identifier: BSD-3-Clause */
/* jobs.c - long work that goes on after the command that has begun it.
 *
 * Owns      the table of jobs, their threads and results.  job_verbs.c has the
 *           commands about them.
 * Method    a job's thread tells of each step it takes by an event.  A place
 *           is free again when its job was dismissed; if all are taken the job
 *           that has concluded first makes room.  Jobs end when they are told
 *           to, or the server ends: they ask often (job_progress).
 * Locks     jobs.lock guards the table, and all of a job but its work, which
 *           its thread owns.  No lock is taken under it, and no I/O done.
 */
#include "config.h"

#include "control/jobs_impl.h"

#include "report.h"
#include "control/roster.h"
#include "control/verbs.h"

#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How much less of the processor a job gets than clients do: it is in no
 * hurry.
 */
#define NICE 5

struct jobs jobs_table = {
  .lock = PTHREAD_MUTEX_INITIALIZER, .next_id = 1,
};

const char *
jobs_status_name (enum status status)
{
  switch (status) {
  case JOB_CREATED: return "created";
  case JOB_RUNNING: return "running";
  case JOB_ABORTING: return "aborting";
  case JOB_CONCLUDED: return "concluded";
  case JOB_NONE: break;
  }
  return "null";
}

static void
tell (const char *id, enum status status)
{
  call_event ("JOB_STATUS_CHANGE",
              json_pack ("{s:s,s:s}", "id", id, "status",
                         jobs_status_name (status)));
}

/* ---- The table, with the lock ------------------------------------------- */

struct job *
jobs_find_locked (const char *id)
{
  for (size_t i = 0; i < JOBS_MAX; ++i)
    if (jobs_table.jobs[i].status != JOB_NONE &&
        strcmp (jobs_table.jobs[i].id, id) == 0)
      return &jobs_table.jobs[i];
  return NULL;
}

static unsigned
count_running_locked (void)
{
  unsigned n = 0;

  for (size_t i = 0; i < JOBS_MAX; ++i)
    n += jobs_table.jobs[i].status != JOB_NONE &&
      jobs_table.jobs[i].status != JOB_CONCLUDED;
  return n;
}

/* What a job's thread may do to its own. */
static bool
is_under_way (const struct job *job)
{
  return job->status == JOB_RUNNING || job->status == JOB_ABORTING;
}

/* A place, with what was there in *ret_old, for forget. */
static struct job *
make_place_locked (struct job *ret_old)
{
  struct job *oldest = NULL;

  ret_old->status = JOB_NONE;
  for (size_t i = 0; i < JOBS_MAX; ++i) {
    struct job *const j = &jobs_table.jobs[i];

    if (j->status == JOB_NONE)
      return j;
    if (j->status == JOB_CONCLUDED &&
        (oldest == NULL || j->order < oldest->order))
      oldest = j;
  }
  if (oldest == NULL)           /* JOBS_MAX_RUNNING sees to it */
    return NULL;
  (void) holds (oldest->order < jobs_table.concluded);
  *ret_old = *oldest;
  oldest->status = JOB_NONE;
  return oldest;
}

void
jobs_forget (struct job *old)
{
  if (old->status == JOB_NONE)
    return;
  (void) holds (old->status == JOB_CONCLUDED);
  pthread_join (old->thread, NULL);
  json_decref (old->result);
  free (old->error);
  json_decref (old->outcomes);
  tell (old->id, JOB_NONE);
}

/* ---- A job's thread ----------------------------------------------------- */

/* 'percent' NULL: as before. */
static bool
ask (struct job *job, const unsigned *percent)
{
  const bool ending = roster_is_ending ();
  bool aborting, cancel;

  pthread_mutex_lock (&jobs_table.lock);
  (void) holds (is_under_way (job));
  if (percent != NULL && holds (*percent <= 100))
    job->percent = *percent;
  cancel = (job->cancel || ending) && !job->final;
  aborting = cancel && job->status == JOB_RUNNING;
  if (aborting)
    job->status = JOB_ABORTING;
  pthread_mutex_unlock (&jobs_table.lock);
  if (aborting)
    tell (job->id, JOB_ABORTING);
  return !cancel;
}

bool
job_progress (struct job *job, unsigned percent)
{
  return ask (job, &percent);
}

bool
job_go_on (void *opaque, unsigned percent)
{
  const struct call *const call = opaque;

  return call->job ? job_progress (call->job, percent)
    : !roster_is_ending ();
}

/* Who cancels it is told, in either order. */
bool
job_set_final (struct job *job, bool final)
{
  bool go_on;

  if (job == NULL)
    return true;
  go_on = ask (job, NULL);
  pthread_mutex_lock (&jobs_table.lock);
  go_on &= !job->cancel;
  job->final = final && go_on;
  pthread_mutex_unlock (&jobs_table.lock);
  return go_on;
}

bool
job_go_last (void *opaque)
{
  const struct call *const call = opaque;

  return job_set_final (call->job, true);
}

static void
set_running (struct job *job)
{
  pthread_mutex_lock (&jobs_table.lock);
  (void) holds (job->status == JOB_CREATED);
  job->status = JOB_RUNNING;
  pthread_mutex_unlock (&jobs_table.lock);
  tell (job->id, JOB_RUNNING);
}

/* One that has failed was aborting, too. */
static void
conclude (struct job *job, json_t *result, const struct call *call)
{
  char id[sizeof job->id];
  bool aborting;

  strcpy (id, job->id);
  pthread_mutex_lock (&jobs_table.lock);
  aborting = result == NULL && job->status == JOB_RUNNING;
  pthread_mutex_unlock (&jobs_table.lock);
  if (aborting)
    tell (id, JOB_ABORTING);
  pthread_mutex_lock (&jobs_table.lock);
  (void) holds (is_under_way (job));
  (void) holds (job->result == NULL && job->error == NULL);
  job->result = result;
  job->error = result ? NULL : strdup (call->desc);
  job->kind = call->kind;
  job->outcome = call->outcome;
  job->outcomes = json_incref (call->outcomes);
  job->percent = result ? 100 : job->percent;
  job->order = jobs_table.concluded++;
  job->status = JOB_CONCLUDED;
  pthread_mutex_unlock (&jobs_table.lock);
  tell (id, JOB_CONCLUDED);
}

static void *
run_job (void *opaque)
{
  struct job *const job = opaque;
  struct call call = { .name = job->work.type, .job = job };
  json_t *result;

  tell (job->id, JOB_CREATED);
  setpriority (PRIO_PROCESS, (id_t) syscall (SYS_gettid), NICE);
  set_running (job);
  result = job->work.run (job, job->work.opaque, &call);
  job->work.free (job->work.opaque);
  conclude (job, result, &call);
  json_decref (call.outcomes);
  return NULL;
}

/* ---- Starting ----------------------------------------------------------- */

/* As QEMU wants names to be. */
static bool
is_id (const char *id)
{
  if (!isalpha ((unsigned char) id[0]) || strlen (id) > JOBS_MAX_ID)
    return false;
  for (const char *c = id; *c != '\0'; ++c)
    if (!isalnum ((unsigned char) *c) && strchr ("-._", *c) == NULL)
      return false;
  return true;
}

/* Under the lock, so that nobody sees a job without its thread. */
static bool
start_locked (struct call *call, const char *id, const struct job_work *work,
              struct job *ret_old, char *ret_id)
{
  struct job *job;

  ret_old->status = JOB_NONE;
  if (id != NULL && jobs_find_locked (id) != NULL)
    call_fail (call, "Job ID '%s' already in use", id);
  else if (count_running_locked () >= JOBS_MAX_RUNNING ||
           (job = make_place_locked (ret_old)) == NULL)
    call_fail (call, "%d jobs are running already", JOBS_MAX_RUNNING);
  else {
    *job = (struct job) { .work = *work };
    if (id != NULL)
      strcpy (job->id, id);
    else
      do
        snprintf (job->id, sizeof job->id, "%s-%llu", work->type,
                  (unsigned long long) jobs_table.next_id++);
      while (jobs_find_locked (job->id) != NULL);
    strcpy (ret_id, job->id);
    if (pthread_create (&job->thread, NULL, run_job, job) == 0) {
      job->status = JOB_CREATED;
      (void) holds (count_running_locked () <= JOBS_MAX_RUNNING);
      return true;
    }
    call_fail (call, "no thread could be started for the job");
  }
  return false;
}

json_t *
jobs_start (struct call *call, const char *id, const struct job_work *work)
{
  char name[JOBS_MAX_ID + 1];
  struct job old;
  bool ok;

  if (id != NULL && !is_id (id)) {
    work->free (work->opaque);
    return call_fail (call, "Invalid job ID '%.100s'", id);
  }
  pthread_mutex_lock (&jobs_table.lock);
  ok = start_locked (call, id, work, &old, name);
  pthread_mutex_unlock (&jobs_table.lock);
  jobs_forget (&old);
  if (!ok)
    work->free (work->opaque);
  return ok ? json_pack ("{s:s}", "id", name) : NULL;
}

static bool
is_there (const struct job *job)
{
  bool there;

  pthread_mutex_lock (&jobs_table.lock);
  there = job->status != JOB_NONE;
  pthread_mutex_unlock (&jobs_table.lock);
  return there;
}

/* Nobody is left who could start one, or dismiss it; those that run end. */
void
jobs_stop (void)
{
  for (size_t i = 0; i < JOBS_MAX; ++i) {
    struct job *const job = &jobs_table.jobs[i];

    if (!is_there (job))
      continue;
    pthread_join (job->thread, NULL);
    (void) holds (job->status == JOB_CONCLUDED);
    json_decref (job->result);
    free (job->error);
    json_decref (job->outcomes);
    *job = (struct job) { .status = JOB_NONE };
  }
}
