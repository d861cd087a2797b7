/* SPDX-License-Identifier: BSD-3-Clause */
/* served_check.c - checking an image that a server has open (-S).
 *
 * Owns      a job of the server, from its start until it is dismissed.
 * Method    see served_job.c.
 * Locks     none.
 */
#include "config.h"

#include "served.h"

#include "check_print.h"
#include "output.h"
#include "talk.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- The result --------------------------------------------------------- */

static void
take_result (struct check_job *job, const struct value *v)
{
  const struct value *const more = talk_object (v, "nbdkit-qcow2");

  job->r = (struct qcow2_check_result) {
    .corruptions = talk_number (v, "corruptions"),
    .leaks = talk_number (v, "leaks"),
    .warnings = talk_number (more, "warnings"),
    .check_errors = talk_number (v, "check-errors"),
    .corruptions_fixed = talk_number (v, "corruptions-fixed"),
    .leaks_fixed = talk_number (v, "leaks-fixed"),
    .findings_left_out = talk_number (more, "findings-left-out"),
    .total_clusters = talk_number (v, "total-clusters"),
    .allocated_clusters = talk_number (v, "allocated-clusters"),
    .compressed_clusters = talk_number (v, "compressed-clusters"),
    .image_end = talk_number (v, "image-end-offset"),
    .incomplete = talk_is_true (more, "incomplete"),
    .refcounts_unusable = talk_is_true (more, "refcounts-unusable"),
    .windows = talk_number (more, "parts"),
    .undecided = talk_number (more, "undecided"),
  };
  /* Which parts could not be read is not known here. */
  job->blind = job->r.incomplete;
}

static void
print_findings (const struct value *more)
{
  const struct value *f;

  for (size_t i = 0;
       (f = talk_item_of (talk_object (more, "findings"), i)) != NULL; ++i) {
    const struct qcow2_name severity = talk_text (f, "severity");
    const struct qcow2_name text = talk_text (f, "text");

    print_bytes (severity.bytes, severity.len);
    printf (": ");
    print_bytes (text.bytes, text.len);
    printf ("\n");
  }
}

static int
print_result (struct talk *t, struct check_job *job)
{
  struct value *const v = talk_result (t);

  take_result (job, v);
  if (!job->ctl->json && !job->ctl->quiet) {
    print_findings (talk_object (v, "nbdkit-qcow2"));
    check_print (job);
  }
  if (job->ctl->json)
    value_print (v);
  else
    value_free (v);
  return check_code (&job->r);
}

static int
start (struct talk *t, const struct check_job *job, const char *device,
       char *ret_id, size_t size)
{
  const struct talk_argument arguments[] = {
    { .name = "node", .text = device },
    { .name = "repair",
      .text = job->repair == QCOW2_REPAIR_LEAKS ? "leaks" : NULL },
    { .name = NULL }
  };
  const int code = talk_send (t, "x-q2-check", arguments);
  struct value *const v = code == CODE_OK ? talk_result (t) : NULL;
  struct qcow2_name id;

  if (code != CODE_OK)
    return code;
  id = talk_text (v, "id");
  snprintf (ret_id, size, "%.*s", (int) id.len, id.bytes);
  value_free (v);
  return CODE_OK;
}

int
served_check (struct check_job *job, const struct args *args)
{
  char id[100];
  struct talk *t;
  int code;

  t = talk_open (job->ctl, &code);
  if (t == NULL)
    return code;
  code = start (t, job, args->operands[0], id, sizeof id);
  if (code == CODE_OK) {
    progress_begin (&job->progress, job->ctl);
    code = served_wait_for_job (t, id, &job->progress);
    progress_end (&job->progress);
    if (code == CODE_OK)
      code = served_send_id (t, "x-q2-query-check", id);
    if (code == CODE_OK)
      code = print_result (t, job);
    /* What came of it is known. */
    (void) served_send_id (t, "job-dismiss", id);
  }
  talk_close (t);
  return code;
}
