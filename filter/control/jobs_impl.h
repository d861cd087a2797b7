/* SPDX-License-Identifier: BSD-3-Clause */
/* jobs_impl.h - the table of jobs, for jobs.c and job_verbs.c. */
#ifndef CONTROL_JOBS_IMPL_H
#define CONTROL_JOBS_IMPL_H

#include "control/jobs.h"

#include <pthread.h>
#include <stdint.h>

enum status {
  JOB_NONE, JOB_CREATED, JOB_RUNNING, JOB_ABORTING, JOB_CONCLUDED
};

struct job {
  enum status status;           /* NONE: this place is free */
  char id[JOBS_MAX_ID + 1];
  struct job_work work;
  pthread_t thread;
  bool cancel;
  bool final;                   /* it cannot be cancelled */
  unsigned percent;
  uint64_t order;               /* in which jobs have concluded */
  json_t *result;               /* once it has concluded, or NULL: */
  char *error;                  /* why there is none */
  const char *kind;             /* of that; see call.h */
  enum qcow2_outcome outcome;
  json_t *outcomes;
};

struct jobs {
  pthread_mutex_t lock;         /* jobs.lock */
  struct job jobs[JOBS_MAX];
  uint64_t concluded;           /* so many have */
  uint64_t next_id;             /* for names that are made up */
};

/* One in the process. */
extern struct jobs jobs_table;

/* QMP's word. */
extern const char *jobs_status_name (enum status status);

/* With the lock; NULL: there is no such job. */
extern struct job *jobs_find_locked (const char *id);

/* A copy of one that has concluded, and is in the table no more; or of none,
 * JOB_NONE.  Without the lock.
 */
extern void jobs_forget (struct job *old);

#endif /* CONTROL_JOBS_IMPL_H */
