/* SPDX-License-Identifier: BSD-3-Clause */
/* check-file.c - checks and repairs image files with qcow2_check; for tests
 * that compare with QEMU.
 *
 * usage: check-file [-r leaks|all|rebuild] [-m BYTES] FILE...
 *
 * Prints one line of JSON for each file: the result, and all findings.
 * Exit status 1 if a file could not be checked, 2 if it cannot be read at all.
 */
#include "config.h"

#include "qcow2.h"

#include "local_file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
print_finding (void *opaque, const struct qcow2_finding *f)
{
  bool *const first = opaque;

  printf ("%s{\"kind\": %d, \"severity\": %d, \"offset\": %" PRIu64
          ", \"table\": %" PRIu64 ", \"index\": %" PRIu64
          ", \"expected\": %" PRIu64 ", \"actual\": %" PRIu64
          ", \"text\": \"%s\"}", *first ? "" : ", ", f->kind, f->severity,
          f->host_off, f->table_off, f->index, f->expected, f->actual,
          f->text);
  *first = false;
}

static void
print_result (const struct qcow2_check_result *r)
{
  printf ("], \"corruptions\": %" PRIu64 ", \"leaks\": %" PRIu64
          ", \"warnings\": %" PRIu64 ", \"check-errors\": %" PRIu64
          ", \"corruptions-fixed\": %" PRIu64 ", \"leaks-fixed\": %" PRIu64
          ", \"left-out\": %" PRIu64 ", \"total-clusters\": %" PRIu64
          ", \"allocated-clusters\": %" PRIu64
          ", \"compressed-clusters\": %" PRIu64
          ", \"image-end-offset\": %" PRIu64 ", \"incomplete\": %s"
          ", \"refcounts-unusable\": %s, \"windows\": %" PRIu64 "}\n",
          r->corruptions, r->leaks, r->warnings, r->check_errors,
          r->corruptions_fixed, r->leaks_fixed, r->findings_left_out,
          r->total_clusters, r->allocated_clusters, r->compressed_clusters,
          r->image_end, r->incomplete ? "true" : "false",
          r->refcounts_unusable ? "true" : "false", r->windows);
}

static int
fail (const struct qcow2_error *err)
{
  printf ("{\"error\": \"%s\", \"error-kind\": %d, \"advice\": %d}\n",
          err->text, err->kind, err->advice);
  return 1;
}

static int
check (const struct qcow2_io *io, enum qcow2_repair repair, uint64_t memory)
{
  const struct qcow2_options options = {
    .check = true, .writable = repair != QCOW2_REPAIR_NONE,
  };
  bool first = true;
  const struct qcow2_check_options check_options = {
    .repair = repair, .memory = memory, .finding = print_finding,
    .max_findings = 100000, .opaque = &first,
  };
  struct qcow2_check_result result;
  struct qcow2_error err;
  struct qcow2_image *const image = qcow2_open (io, &options, &err);
  int r;

  if (image == NULL)
    return fail (&err);
  printf ("{\"findings\": [");
  r = qcow2_check (image, io, &check_options, &result, &err);
  qcow2_close (image);
  if (r == 0) {
    print_result (&result);
    return 0;
  }
  printf ("], \"failed\": ");
  fail (&err);
  printf ("}\n");
  return 1;
}

static int
check_file (const char *name, enum qcow2_repair repair, uint64_t memory)
{
  struct local_file f;
  int r;

  if (!local_file_open (&f, name,
                        repair == QCOW2_REPAIR_NONE ? O_RDONLY : O_RDWR)) {
    perror (name);
    exit (2);
  }
  r = check (&f.io, repair, memory);
  local_file_close (&f);
  return r;
}

int
main (int argc, char *argv[])
{
  enum qcow2_repair repair = QCOW2_REPAIR_NONE;
  uint64_t memory = 0;
  int i = 1, r = 0;

  for (; i + 1 < argc && argv[i][0] == '-'; i += 2)
    if (strcmp (argv[i], "-m") == 0)
      memory = strtoull (argv[i + 1], NULL, 0);
    else
      repair = strcmp (argv[i + 1], "all") == 0 ? QCOW2_REPAIR_ALL
        : strcmp (argv[i + 1], "rebuild") == 0 ? QCOW2_REPAIR_REBUILD
        : QCOW2_REPAIR_LEAKS;
  for (; i < argc; ++i)
    r |= check_file (argv[i], repair, memory);
  return r;
}
