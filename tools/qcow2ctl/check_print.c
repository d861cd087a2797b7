/* SPDX-License-Identifier: BSD-3-Clause */
/* check_print.c - what a check has found, for people.
 *
 * Owns      the words, and the exit code.
 * Method    the same for files (cmd_check.c) and for images that a server has
 *           open (served_check.c).
 * Locks     none.
 */
#include "config.h"

#include "check_print.h"

#include <inttypes.h>
#include <stdio.h>

static uint64_t
count (const struct qcow2_check_result *r)
{
  return r->corruptions + r->leaks + r->check_errors;
}

uint64_t
check_would_stay (const struct check_job *job)
{
  return count (job->fails ? &job->r : &job->after);
}

/* Those that are not there afterwards. */
uint64_t
check_would_repair (const struct check_job *job)
{
  const struct qcow2_check_result *const after = &job->after;
  const uint64_t errors = job->r.check_errors > after->check_errors
    ? job->r.check_errors - after->check_errors : 0;

  return job->fails ? 0
    : after->corruptions_fixed + after->leaks_fixed + errors;
}

/* What becomes of refcounts that cannot be corrected in place. */
static void
print_unusable (const struct check_job *job)
{
  const struct qcow2_check_result *const r = &job->r;
  const bool rebuilds = !job->blind &&
    (job->repair == QCOW2_REPAIR_REBUILD ||
     (job->repair == QCOW2_REPAIR_ALL && r->refcounts_unusable &&
      !r->incomplete));

  if (rebuilds && job->cut_off && !r->rebuilt && !job->after.rebuilt)
    printf ("Refcounts are not written anew while the end of the file is "
            "missing: they would lie where its entries point to.\n");
  else if (job->after.rebuilt)
    printf ("All refcounts would be written anew, from offset %" PRIu64
            " on.  The disk, snapshots and bitmaps stay as they are%s.\n",
            job->after.rebuilt_at, r->incomplete
            ? "; whatever has a refcount, or may have had one, keeps it, so "
            "space may be lost" : "");
  else if (r->refcounts_unusable && job->blind)
    printf ("The refcounts cannot be used.  New ones can be written when all "
            "the rest of the image can be read.\n");
  else if (r->refcounts_unusable && r->incomplete &&
           job->repair != QCOW2_REPAIR_REBUILD)
    printf ("The refcounts cannot be used.  --repair rebuild writes new ones, "
            "in which nothing becomes free: copy what you need first.\n");
  else if (r->refcounts_unusable && job->ctl->socket != NULL)
    printf ("The refcounts cannot be used.  --repair all writes new ones, "
            "when the image is not being served.\n");
}

static void
print_found (const struct check_job *job)
{
  const struct qcow2_check_result *const r = &job->r;

  if (r->findings_left_out > 0)
    printf ("... and %" PRIu64 " more\n", r->findings_left_out);
  if (r->corruptions_fixed + r->leaks_fixed > 0)
    printf ("Repaired: %" PRIu64 " corruptions, %" PRIu64 " leaks.\n",
            r->corruptions_fixed, r->leaks_fixed);
  if (r->rebuilt)
    printf ("All refcounts were written anew, from offset %" PRIu64 " on.\n",
            r->rebuilt_at);
  if (job->cannot_tell)
    printf ("What the repair would do cannot be told: %s.\n", job->why);
  else if (job->fails)
    printf ("The repair would fail: %s.\n", job->why);
  else if (job->dry_run)
    printf ("The repair would see to %" PRIu64 " of these, %" PRIu64
            " would stay.\n", check_would_repair (job),
            check_would_stay (job));
  if (r->corruptions + r->leaks + r->check_errors == 0)
    printf ("No errors were found on the image.\n");
  if (r->corruptions > 0)
    printf ("%" PRIu64 " errors were found on the image.  Data may be "
            "corrupt, or may become so when the image is written to.\n",
            r->corruptions);
  if (r->leaks > 0)
    printf ("%" PRIu64 " leaked clusters were found on the image.  This means "
            "waste of disk space, but no harm to data.\n", r->leaks);
  if (r->check_errors > 0)
    printf ("%" PRIu64 " parts of the image could not be checked.\n",
            r->check_errors);
  if (r->incomplete)
    printf ("Not all references could be found, so no refcount %s lowered.\n",
            job->repair == QCOW2_REPAIR_NONE || job->dry_run ? "would be"
            : "was");
  if (r->undecided > 0)
    printf ("Of %" PRIu64 " clusters nothing is said, because they did not "
            "stay the same for long enough%s.\n", r->undecided,
            r->refcounts_unusable ? ", or may be about to become free" : "");
  print_unusable (job);
}

void
check_print (const struct check_job *job)
{
  const struct qcow2_check_result *const r = &job->r;

  print_found (job);
  if (r->total_clusters > 0 && r->allocated_clusters > 0)
    printf ("%" PRIu64 "/%" PRIu64 " = %.2f%% allocated, %.2f%% compressed "
            "clusters\n", r->allocated_clusters, r->total_clusters,
            100.0 * (double) r->allocated_clusters /
            (double) r->total_clusters,
            100.0 * (double) r->compressed_clusters /
            (double) r->allocated_clusters);
  if (r->image_end > 0)
    printf ("Image end offset: %" PRIu64 "\n", r->image_end);
}

int
check_code (const struct qcow2_check_result *r)
{
  return r->check_errors > 0 ? CODE_FAILED
    : r->corruptions > 0 ? CODE_CORRUPT
    : r->leaks > 0 ? CODE_LEAKS : CODE_OK;
}
