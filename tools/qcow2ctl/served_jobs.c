/* SPDX-License-Identifier: BSD-3-Clause */
/* served_jobs.c - the jobs of a server (-S).
 *
 * Owns      how they are listed.
 * Method    each command is one of the socket, and its reply.  A job that was
 *           cancelled ends soon, which nobody here waits for.
 * Locks     none.
 */
#include "config.h"

#include "commands.h"

#include "output.h"
#include "talk.h"

#include <inttypes.h>
#include <stdio.h>

/* Padded, but never cut. */
static void
print_cell (const struct value *v, const char *key, size_t width)
{
  const struct qcow2_name text = talk_text (v, key);

  print_bytes (text.bytes, text.len);
  for (size_t i = text.len; i < width; ++i)
    putchar (' ');
  putchar (' ');
}

static void
print_jobs (struct talk *t)
{
  const struct value *v;

  for (size_t i = 0; (v = talk_item (t, i)) != NULL; ++i) {
    if (i == 0)
      printf ("%-20s %-15s %-10s %s\n", "ID", "TYPE", "STATUS", "DONE");
    print_cell (v, "id", 20);
    print_cell (v, "type", 15);
    print_cell (v, "status", 10);
    printf ("%" PRIu64 "%%", talk_number (v, "current-progress"));
    if (talk_has (v, "error")) {
      const struct qcow2_name why = talk_text (v, "error");

      printf (" ");
      print_bytes (why.bytes, why.len);
    }
    printf ("\n");
  }
}

static int
run_jobs (struct ctl *ctl, const struct args *args)
{
  const struct talk_argument none[] = { { .name = NULL } };

  (void) args;
  return talk_once (ctl, "query-jobs", none, print_jobs);
}

const struct command cmd_jobs = {
  .name = "jobs", .operands = "",
  .min_operands = 0, .max_operands = 0,
  .takes = TAKES_SOCKET | NEEDS_SOCKET,
  .summary = "List the jobs of a server, and how far they are",
  .run = run_jobs,
};

static int
run_cancel (struct ctl *ctl, const struct args *args)
{
  const struct talk_argument arguments[] = {
    { .name = "id", .text = args->operands[0] }, { .name = NULL }
  };

  return talk_once (ctl, "job-cancel", arguments, NULL);
}

const struct command cmd_cancel = {
  .name = "cancel", .operands = "ID",
  .min_operands = 1, .max_operands = 1,
  .takes = TAKES_SOCKET | NEEDS_SOCKET,
  .summary = "End a job of a server", .run = run_cancel,
};
