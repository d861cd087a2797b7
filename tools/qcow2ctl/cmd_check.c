/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_check.c - "check": whether an image is sound, and repairing it.
 *
 * Owns      what is printed, and the exit code.
 * Method    findings are printed as they come, for people, and collected for
 *           JSON, which has qemu-img's fields and, under "nbdkit-qcow2", the
 *           rest.  --dry-run checks as without --repair, and then repairs a
 *           copy of which only the changes exist, in memory (rehearsal.c):
 *           so what it says is what the repair does.
 * Locks     none of its own: image.c locks the file for reading, or for
 *           writing before it is repaired.
 */
#include "config.h"

#include "commands.h"

#include "check_print.h"
#include "ctl.h"
#include "image.h"
#include "output.h"
#include "progress.h"
#include "rehearsal.h"
#include "remedy.h"
#include "served.h"
#include "values.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* For counting, in bytes. */
#define USUAL_MEMORY (UINT64_C (256) << 20)
#define LEAST_MEMORY (UINT64_C (1) << 20)

/* For what a repair would write, if there is not more for counting. */
#define LEAST_TO_REHEARSE (UINT64_C (64) << 20)

/* Findings that are shown: a hostile image can have billions. */
#define MAX_TOLD 1000

/* ---- Findings ----------------------------------------------------------- */

static void
collect (struct check_job *job, const struct qcow2_finding *f)
{
  struct value *const v = value_object ();

  value_set (v, "severity", value_text (qcow2_severity_name (f->severity)));
  value_set (v, "text", value_text (f->text));
  value_set (v, "remedy", value_text (remedy_words (f)));
  if (f->host_off != QCOW2_NO_OFFSET)
    value_set (v, "offset", value_number (f->host_off));
  if (f->table_off != QCOW2_NO_OFFSET) {
    value_set (v, "table-offset", value_number (f->table_off));
    if (f->index != QCOW2_NO_OFFSET)
      value_set (v, "index", value_number (f->index));
  }
  if (f->kind == QCOW2_FINDING_REFCOUNT) {
    value_set (v, "references", value_number (f->expected));
    value_set (v, "refcount", value_number (f->actual));
  }
  value_append (job->findings, v);
}

static void
on_finding (void *opaque, const struct qcow2_finding *f)
{
  struct check_job *const job = opaque;

  job->cut_off |= f->kind == QCOW2_FINDING_PAST_END;
  job->blind |= f->severity == QCOW2_FINDING_ERROR &&
    remedy_repair (f) == QCOW2_REPAIR_NONE;
  if (job->told == MAX_TOLD) {
    ++job->untold;
    return;
  }
  ++job->told;
  if (job->ctl->json)
    collect (job, f);
  else if (!job->ctl->quiet)
    printf ("%s: %s; %s\n", qcow2_severity_name (f->severity), f->text,
            remedy_words (f));
}

static bool
on_progress (void *opaque, unsigned percent)
{
  struct check_job *const job = opaque;

  return progress_report (&job->progress, percent);
}

/* ---- The result --------------------------------------------------------- */

/* As qemu-img: a number that is 0 is left out. */
static void
set_number (struct value *v, const char *key, uint64_t number)
{
  if (number != 0)
    value_set (v, key, value_number (number));
}

static void
add_foretold (const struct check_job *job, struct value *more)
{
  if (job->cannot_tell) {
    value_set (more, "cannot-tell", value_text (job->why));
    return;
  }
  value_set (more, "would-repair", value_number (check_would_repair (job)));
  value_set (more, "would-stay", value_number (check_would_stay (job)));
  set_number (more, "would-rebuild-at", job->after.rebuilt_at);
  if (job->fails)
    value_set (more, "would-fail", value_text (job->why));
}

static void
print_json (const struct check_job *job, const struct image *i)
{
  const struct qcow2_check_result *const r = &job->r;
  struct value *const v = value_object (), *const more = value_object ();

  value_set (v, "filename", value_text (i->name));
  value_set (v, "format", value_text ("qcow2"));
  value_set (v, "check-errors", value_number (r->check_errors));
  set_number (v, "image-end-offset", r->image_end);
  set_number (v, "corruptions", r->corruptions);
  set_number (v, "leaks", r->leaks);
  set_number (v, "corruptions-fixed", r->corruptions_fixed);
  set_number (v, "leaks-fixed", r->leaks_fixed);
  set_number (v, "total-clusters", r->total_clusters);
  set_number (v, "allocated-clusters", r->allocated_clusters);
  set_number (v, "compressed-clusters", r->compressed_clusters);
  value_set (more, "warnings", value_number (r->warnings));
  value_set (more, "incomplete", value_bool (r->incomplete));
  value_set (more, "refcounts-unusable", value_bool (r->refcounts_unusable));
  value_set (more, "rebuilt", value_bool (r->rebuilt));
  set_number (more, "rebuilt-at", r->rebuilt_at);
  value_set (more, "parts", value_number (r->windows));
  value_set (more, "findings", job->findings);
  value_set (more, "findings-left-out", value_number (r->findings_left_out));
  if (job->dry_run)
    add_foretold (job, more);
  value_set (v, "nbdkit-qcow2", more);
  value_print (v);
}

/* ---- The command -------------------------------------------------------- */

/* Check it, and print what has been found, but not what came of it. */
static int
check (struct check_job *job, struct image *i,
       const struct qcow2_check_options *how)
{
  struct qcow2_error err;
  int r;

  progress_begin (&job->progress, job->ctl);
  r = qcow2_check (i->image, i->io, how, &job->r, &err);
  progress_end (&job->progress);
  return r == -1 ? fail_error (i->name, &err) : CODE_OK;
}

/* What no repair sees to, but a change of an image that is sound otherwise. */
static bool
must_complete (const struct check_job *job)
{
  return job->repair >= QCOW2_REPAIR_ALL && !job->dry_run &&
    job->r.short_snapshots > 0 &&
    job->r.corruptions == job->r.short_snapshots && job->r.check_errors == 0;
}

/* Do that, and check it. */
static int
complete (struct check_job *job, struct image *i, const char *name,
          uint64_t memory)
{
  const struct qcow2_check_options how = {
    .memory = memory, .progress = on_progress, .opaque = job,
  };
  const struct qcow2_check_result before = job->r;
  int code = image_complete_snapshots (i, name);

  if (code != CODE_OK)
    return code;
  code = check (job, i, &how);
  job->r.corruptions_fixed = before.corruptions_fixed +
    (before.corruptions > job->r.corruptions
     ? before.corruptions - job->r.corruptions : 0);
  job->r.leaks_fixed = before.leaks_fixed;
  job->r.rebuilt = before.rebuilt;
  job->r.rebuilt_at = before.rebuilt_at;
  job->r.findings_left_out = before.findings_left_out;
  return code == CODE_OK ? code : image_close (i, code);
}

/* The repair fails, or what it does does not fit into memory. */
static int
note_failure (struct check_job *job, const struct image *i,
              const struct qcow2_error *err)
{
  job->fails = true;
  job->cannot_tell = rehearsal_is_full (i->rehearsal);
  if (err->kind == QCOW2_ERR_CANCELLED)
    return fail_error (i->name, err);
  if (job->cannot_tell)
    snprintf (job->why, sizeof job->why, "it writes more than there is memory "
              "for, %" PRIu64 " MiB; give a larger --memory",
              job->rehearsal >> 20);
  else
    snprintf (job->why, sizeof job->why, "%s", err->text);
  return CODE_OK;
}

/* Do it all, in memory.  Closes the image if that returns another code than
 * CODE_OK.
 */
static int
rehearse (struct check_job *job, struct image *i, const char *name,
          uint64_t memory)
{
  struct check_job then = { .ctl = job->ctl, .repair = job->repair };
  const struct qcow2_check_options how = {
    .repair = job->repair, .memory = memory, .progress = on_progress,
    .opaque = &then,
  };
  struct qcow2_error err;
  int code = image_rehearse (i, job->rehearsal), r;

  if (code != CODE_OK)
    return code;
  progress_begin (&then.progress, job->ctl);
  r = qcow2_check (i->image, i->io, &how, &then.r, &err);
  progress_end (&then.progress);
  if (r == -1)
    code = note_failure (job, i, &err);
  else if (must_complete (&then)) {
    code = complete (&then, i, name, memory);
    if (code != CODE_OK)
      return code;
  }
  job->after = then.r;
  return code == CODE_OK ? code : image_close (i, code);
}

static int
print_result (const struct check_job *job, const struct image *i)
{
  if (job->ctl->json)
    print_json (job, i);
  else if (!job->ctl->quiet)
    check_print (job);
  return check_code (&job->r);
}

static int
parse_memory (const struct args *args, const char *text, uint64_t *ret)
{
  const int code = value_size (args->command, "--memory", text, ret);

  if (code == CODE_OK && *ret < LEAST_MEMORY)
    return fail_usage (args->command, "--memory: at least %u MiB, not '%s'",
                       (unsigned) (LEAST_MEMORY >> 20), text);
  return code;
}

static int
parse (const struct args *args, struct check_job *job, uint64_t *memory)
{
  static const char *const repairs[] = { "leaks", "all", "rebuild", NULL };
  const char *const repair = args_value (args, "repair");
  const char *const limit = args_value (args, "memory");
  unsigned n;
  int code = CODE_OK;

  if (repair != NULL) {
    code = value_word (args->command, "--repair", repair, repairs, &n);
    if (code == CODE_OK)
      job->repair = n == 0 ? QCOW2_REPAIR_LEAKS
        : n == 1 ? QCOW2_REPAIR_ALL : QCOW2_REPAIR_REBUILD;
  }
  if (code == CODE_OK && limit != NULL)
    code = parse_memory (args, limit, memory);
  job->rehearsal = limit != NULL && *memory > LEAST_TO_REHEARSE ? *memory
    : LEAST_TO_REHEARSE;
  job->dry_run = args_value (args, "dry-run") != NULL;
  if (code == CODE_OK && job->dry_run && job->repair == QCOW2_REPAIR_NONE)
    return fail_usage (args->command, "--dry-run says what --repair would do: "
                       "give that, too");
  return code;
}

static int
check_and_print (struct check_job *job, struct image *i, const char *name,
                 uint64_t memory)
{
  const struct qcow2_check_options how = {
    .repair = job->dry_run ? QCOW2_REPAIR_NONE : job->repair,
    .memory = memory, .finding = on_finding, .progress = on_progress,
    .max_findings = UINT64_MAX, .opaque = job,
  };
  int code;

  job->findings = job->ctl->json ? value_array () : NULL;
  code = check (job, i, &how);
  job->r.findings_left_out = job->untold;
  if (code != CODE_OK)
    code = image_close (i, code);
  else if (job->dry_run)
    code = rehearse (job, i, name, memory);
  else if (must_complete (job))
    code = complete (job, i, name, memory);
  if (code == CODE_OK)
    return image_close (i, print_result (job, i));
  value_free (job->findings);
  return code;
}

/* The server has its own bound of memory. */
static int
run_served (struct check_job *job, const struct args *args)
{
  if (job->repair > QCOW2_REPAIR_LEAKS)
    return fail_usage (args->command, "only leaks can be repaired while an "
                       "image is being served");
  if (job->dry_run || args_value (args, "memory") != NULL)
    return fail_usage (args->command, "--dry-run and --memory are not for "
                       "images that are being served");
  return served_check (job, args);
}

static int
run (struct ctl *ctl, const struct args *args)
{
  struct check_job job = { .ctl = ctl };
  uint64_t memory = USUAL_MEMORY;
  struct image i;
  int code = parse (args, &job, &memory);

  if (code != CODE_OK)
    return code;
  if (ctl->socket != NULL)
    return run_served (&job, args);
  code = image_open (ctl, &i, args->operands[0],
                     job.repair != QCOW2_REPAIR_NONE && !job.dry_run
                     ? OPEN_TO_REPAIR : OPEN_TO_CHECK);
  /* There is nothing in a raw file that could be checked. */
  if (code == CODE_FAILED && i.failed == QCOW2_ERR_FORMAT)
    return CODE_UNCHECKED;
  if (code != CODE_OK)
    return code;
  if (qcow2_get_info (i.image).version == 1)
    return image_close (&i, fail_code (CODE_UNCHECKED, "%s: images of version "
                                       "1 have no refcounts that could be "
                                       "checked", i.name));
  return check_and_print (&job, &i, args->operands[0], memory);
}

static const struct option_spec options[] = {
  { "dry-run", 0, NULL, "say what --repair would do, and change nothing" },
  { "memory", 0, "N",
    "use at most N bytes for counting (default: 256M),\n"
    "and check what needs more in parts" },
  { "repair", 'r', "leaks|all|rebuild",
    "leaks: only give back space that nobody uses;\n"
    "all: correct refcounts and marks, too;\n"
    "rebuild: and write all refcounts anew" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_check = {
  .name = "check", .operands = "IMAGE", .min_operands = 1, .max_operands = 1,
  .takes = TAKES_NO_LOCK | TAKES_SOCKET, .options = options,
  .summary = "Check an image, or repair it", .run = run,
};
