/* SPDX-License-Identifier: BSD-3-Clause */
/* jobs.h - long work that goes on after the command that has begun it.
 *
 * A job has a thread of its own.  QMP's names: it is created, running, if it
 * is to end before it is done aborting, and then concluded, until somebody
 * dismisses it; or until others need its place.
 */
#ifndef CONTROL_JOBS_H
#define CONTROL_JOBS_H

#include "control/call.h"

#include <jansson.h>
#include <stdbool.h>

/* That run at the same time, and that are remembered, these among them. */
#define JOBS_MAX_RUNNING 4
#define JOBS_MAX 16
#define JOBS_MAX_ID 64

struct job;

struct job_work {
  const char *type;             /* QMP's; constant */
  /* On the job's thread.  Returns the result, or NULL having called
   * call_fail.
   */
  json_t *(*run) (struct job *job, void *opaque, struct call *call);
  /* After that, or if it could not be started. */
  void (*free) (void *opaque);
  void *opaque;
};

/* Start a job under that id, or one that is made up if that is NULL.  Takes
 * 'work'.  Returns what the command returns, or NULL having called call_fail.
 */
extern json_t *jobs_start (struct call *call, const char *id,
                           const struct job_work *work);

/* For its own thread: so much is done, of 100; false: end soon. */
extern bool job_progress (struct job *job, unsigned percent);

/* For struct qcow2_progress, of a command that may be a job; 'call' is its
 * struct call.  False also if the server ends.
 */
extern bool job_go_on (void *call, unsigned percent);

/* The same: there is no way back after what comes next, so from now on it
 * cannot be cancelled.
 */
extern bool job_go_last (void *call);

/* For its own thread: from now on it cannot be cancelled, or it can again, as
 * before.  False: it is to end.  NULL is allowed.
 */
extern bool job_set_final (struct job *job, bool final);

/* The main thread, when nobody can start jobs any more: end all. */
extern void jobs_stop (void);

#endif /* CONTROL_JOBS_H */
