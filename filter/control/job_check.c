/* SPDX-License-Identifier: BSD-3-Clause */
/* job_check.c - checking an image that is being served, as a job.
 *
 * Owns      the command x-q2-check, and how a result looks: as that of
 *           "qcow2ctl check --output json", and so of "qemu-img check".
 * Method    the engine does it while clients read and write.  The image stays
 *           open for as long as the job runs.
 * Locks     none here.
 */
#include "config.h"

#include "control/verbs.h"

#include "qcow2.h"
#include "report.h"
#include "control/jobs.h"
#include "control/target.h"

#include <stdlib.h>
#include <string.h>

#define MEMORY (UINT64_C (64) << 20)
#define MAX_FINDINGS 1000
#define DEFAULT_FINDINGS 100

struct check {
  struct target target;
  struct job *job;
  enum qcow2_repair repair;
  uint64_t max_findings;        /* 0: none */
  json_t *findings;
  uint64_t untold;              /* that the engine described in vain */
  char *device;
};

/* ---- The result --------------------------------------------------------- */

static void
set_number (json_t *json, const char *key, uint64_t number)
{
  json_object_set_new (json, key, json_integer ((json_int_t) number));
}

static void
on_finding (void *opaque, const struct qcow2_finding *f)
{
  struct check *const c = opaque;
  json_t *json;

  if (json_array_size (c->findings) >= c->max_findings) {
    c->untold++;
    return;
  }
  json = json_pack ("{s:s,s:o}", "severity",
                    qcow2_severity_name (f->severity),
                    "text", call_bytes (f->text, strlen (f->text)));
  if (f->host_off != QCOW2_NO_OFFSET)
    set_number (json, "offset", f->host_off);
  if (f->table_off != QCOW2_NO_OFFSET) {
    set_number (json, "table-offset", f->table_off);
    if (f->index != QCOW2_NO_OFFSET)
      set_number (json, "index", f->index);
  }
  if (f->kind == QCOW2_FINDING_REFCOUNT) {
    set_number (json, "references", f->expected);
    set_number (json, "refcount", f->actual);
  }
  json_array_append_new (c->findings, json);
}

static void
set_unless_0 (json_t *json, const char *key, uint64_t number)
{
  if (number != 0)
    set_number (json, key, number);
}

static json_t *
make_result (const struct check *c, const struct qcow2_check_result *r)
{
  json_t *const json = json_object (), *const more = json_object ();

  json_object_set_new (json, "filename", json_string (c->device));
  json_object_set_new (json, "format", json_string ("qcow2"));
  set_number (json, "check-errors", r->check_errors);
  set_unless_0 (json, "image-end-offset", r->image_end);
  set_unless_0 (json, "corruptions", r->corruptions);
  set_unless_0 (json, "leaks", r->leaks);
  set_unless_0 (json, "corruptions-fixed", r->corruptions_fixed);
  set_unless_0 (json, "leaks-fixed", r->leaks_fixed);
  set_unless_0 (json, "total-clusters", r->total_clusters);
  set_unless_0 (json, "allocated-clusters", r->allocated_clusters);
  set_unless_0 (json, "compressed-clusters", r->compressed_clusters);
  set_number (more, "warnings", r->warnings);
  json_object_set_new (more, "incomplete", json_boolean (r->incomplete));
  json_object_set_new (more, "refcounts-unusable",
                       json_boolean (r->refcounts_unusable));
  set_number (more, "parts", r->windows);
  set_number (more, "undecided", r->undecided);
  (void) holds (json_array_size (c->findings) <= c->max_findings);
  json_object_set (more, "findings", c->findings);
  set_number (more, "findings-left-out", r->findings_left_out + c->untold);
  json_object_set_new (json, "nbdkit-qcow2", more);
  return json;
}

/* ---- The job ------------------------------------------------------------ */

static bool
on_progress (void *opaque, unsigned percent)
{
  const struct check *const c = opaque;

  return job_progress (c->job, percent);
}

static json_t *
run (struct job *job, void *opaque, struct call *call)
{
  struct check *const c = opaque;
  const struct qcow2_check_options options = {
    .repair = c->repair, .memory = MEMORY, .finding = on_finding,
    .max_findings = c->max_findings > 0 ? c->max_findings : 1,
    .progress = on_progress, .opaque = c,
  };
  struct qcow2_check_result result;
  struct qcow2_error err;

  /* check_way has said so. */
  (void) holds (!c->target.is_lent && c->target.image != NULL &&
                c->job == NULL);
  c->job = job;
  if (qcow2_check_live (c->target.image, c->target.io, &options, &result,
                        &err) == -1)
    return call_fail_engine (call, c->target.name, &err);
  return make_result (c, &result);
}

static void
free_check (void *opaque)
{
  struct check *const c = opaque;

  if (c->target.image != NULL)
    target_close (&c->target);
  json_decref (c->findings);
  free (c->device);
  free (c);
}

/* ---- The command -------------------------------------------------------- */

static bool
parse (struct call *call, struct check *c)
{
  const char *const repair = call_text (call, "repair");
  const json_t *const max = json_object_get (call->arguments, "max-findings");

  c->max_findings = DEFAULT_FINDINGS;
  if (repair != NULL && strcmp (repair, "leaks") != 0) {
    call_fail (call, "Parameter 'repair' can be 'leaks', not '%.100s': more "
               "cannot be repaired while an image is in use", repair);
    return false;
  }
  c->repair = repair ? QCOW2_REPAIR_LEAKS : QCOW2_REPAIR_NONE;
  if (max != NULL && (json_integer_value (max) < 0 ||
                      json_integer_value (max) > MAX_FINDINGS)) {
    call_fail (call, "Parameter 'max-findings' must be from 0 to %d",
               MAX_FINDINGS);
    return false;
  }
  if (max != NULL)
    c->max_findings = (uint64_t) json_integer_value (max);
  return true;
}

/* A way that a client has lent is for a moment: the client could not leave. */
static bool
check_way (struct call *call, struct check *c)
{
  if (qcow2_get_info (c->target.image).version < 2) {
    call->kind = "unchecked";
    call_fail (call, "images of version 1, and raw ones, have no refcounts "
               "that could be checked");
    return false;
  }
  if (!c->target.is_lent && c->target.disk != NULL)
    return true;
  call_fail (call, "with several images, and this version of nbdkit, images "
             "cannot be checked from here (nbdkit 1.44 lets them)");
  return false;
}

json_t *
verb_check (struct call *call)
{
  struct check *const c = calloc (1, sizeof *c);
  const struct job_work work = {
    .type = "x-q2-check", .run = run, .free = free_check, .opaque = c,
  };

  if (c == NULL)
    return call_fail (call, "out of memory");
  c->findings = json_array ();
  c->device = strdup (call_text (call, "node"));
  if (c->device != NULL && parse (call, c)) {
    if (!target_open (&c->target, call, c->device,
                      c->repair != QCOW2_REPAIR_NONE))
      c->target.image = NULL;   /* nothing is to be closed */
    else if (check_way (call, c))
      return jobs_start (call, call_text (call, "job-id"), &work);
  }
  free_check (c);
  return NULL;
}
