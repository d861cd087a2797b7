/* SPDX-License-Identifier: BSD-3-Clause */
/* served_job.c - commands of a server that go on as jobs (-S).
 *
 * Owns      a job of the server, from its start until it is dismissed.
 * Method    asks every now and then how far it is.  The first ^C cancels it,
 *           and is waited for; when it is too late for that the server says
 *           so, and the job goes on.
 * Locks     none.
 */
#include "config.h"

#include "served.h"

#include "progress.h"
#include "talk.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_ARGUMENTS 8
#define PAUSE_MS 100

static void
nap (void)
{
  const struct timespec ts = { 0, PAUSE_MS * 1000000L };

  nanosleep (&ts, NULL);
}

static bool
is (const struct value *v, const char *key, const char *text)
{
  const struct qcow2_name name = talk_text (v, key);

  return name.len == strlen (text) && memcmp (name.bytes, text, name.len) == 0;
}

int
served_send_id (struct talk *t, const char *command, const char *id)
{
  const struct talk_argument arguments[] = {
    { .name = "id", .text = id }, { .name = NULL }
  };

  return talk_send (t, command, arguments);
}

int
served_wait_for_job (struct talk *t, const char *id,
                     struct progress *progress)
{
  const struct talk_argument none[] = { { .name = NULL } };
  bool cancelled = false;

  for (;;) {
    int code = talk_send (t, "query-jobs", none);
    const struct value *v = NULL;

    if (code != CODE_OK)
      return code;
    for (size_t i = 0; (v = talk_item (t, i)) != NULL; ++i)
      if (is (v, "id", id))
        break;
    if (v == NULL)
      return fail_code (CODE_FAILED, "the job '%s' is gone", id);
    if (is (v, "status", "concluded"))
      return CODE_OK;
    if (!progress_report (progress,
                          (unsigned) talk_number (v, "current-progress")) &&
        !cancelled) {
      cancelled = true;
      /* It may have concluded just now, or says that it is too late. */
      (void) served_send_id (t, "job-cancel", id);
    }
    nap ();
  }
}

static int
run_job (const struct ctl *ctl, struct talk *t, const char *id)
{
  struct progress progress;
  int code;

  progress_begin (&progress, ctl);
  code = served_wait_for_job (t, id, &progress);
  progress_end (&progress);
  if (code != CODE_OK)
    return talk_fail_lost ();
  code = served_send_id (t, "x-q2-query-check", id);    /* the error */
  if (talk_is_lost (t))
    return talk_fail_lost ();
  (void) served_send_id (t, "job-dismiss", id);
  return code;
}

int
served_with_progress (const struct ctl *ctl, const char *command,
                      const struct talk_argument *arguments)
{
  struct talk_argument all[MAX_ARGUMENTS + 1];
  struct talk *t;
  size_t nr = 0;
  char id[40];
  int code;

  if (!ctl->progress)
    return talk_once (ctl, command, arguments, NULL);
  while (nr < MAX_ARGUMENTS - 1 && arguments[nr].name != NULL) {
    all[nr] = arguments[nr];
    nr++;
  }
  snprintf (id, sizeof id, "qcow2ctl-%ld", (long) getpid ());
  all[nr++] = (struct talk_argument) { .name = "job-id", .text = id };
  all[nr] = (struct talk_argument) { .name = NULL };
  t = talk_open (ctl, &code);
  if (t == NULL)
    return code;
  code = talk_send (t, command, all);
  if (code == CODE_OK)
    code = run_job (ctl, t, id);
  talk_close (t);
  return code;
}
