/* SPDX-License-Identifier: BSD-3-Clause */
/* served.c - commands on an image that a server has open (-S).
 *
 * Owns      nothing; talk.c has the connection.
 * Method    one command of the server each.  Results look as those of files
 *           do: the same code prints them.
 * Locks     none.
 */
#include "config.h"

#include "served.h"

#include "commands.h"
#include "lists.h"
#include "output.h"
#include "talk.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- Snapshots ---------------------------------------------------------- */

int
served_snapshot_create (const struct ctl *ctl, const struct args *args)
{
  const struct talk_argument arguments[] = {
    { .name = "device", .text = args->operands[0] },
    { .name = "name", .text = args->operands[1] }, { .name = NULL }
  };

  if (args_value (args, "id") != NULL)
    return fail_usage (args->command, "the server chooses the id");
  return served_with_progress (ctl, "blockdev-snapshot-internal-sync",
                               arguments);
}

static int
do_with_snapshot (const struct ctl *ctl, const struct args *args,
                  const char *command)
{
  const bool by_id = args_value (args, "by-id") != NULL;
  const struct talk_argument arguments[] = {
    { .name = "device", .text = args->operands[0] },
    { .name = by_id ? "id" : "name", .text = args->operands[1] },
    { .name = NULL }
  };

  return served_with_progress (ctl, command, arguments);
}

int
served_snapshot_delete (const struct ctl *ctl, const struct args *args)
{
  return do_with_snapshot (ctl, args,
                           "blockdev-snapshot-delete-internal-sync");
}

int
served_snapshot_apply (const struct ctl *ctl, const struct args *args)
{
  return do_with_snapshot (ctl, args, "x-q2-snapshot-apply");
}

static void
print_snapshots (struct talk *t)
{
  const struct value *v;

  for (size_t i = 0; (v = talk_item (t, i)) != NULL; ++i) {
    const struct qcow2_snapshot s = {
      .id = talk_text (v, "id"), .name = talk_text (v, "name"),
      .vm_state_size = talk_number (v, "vm-state-size"),
      .date_sec = (uint32_t) talk_number (v, "date-sec"),
      .vm_clock_ns = talk_number (v, "vm-clock-sec") * UINT64_C (1000000000) +
        talk_number (v, "vm-clock-nsec"),
      .icount = talk_has (v, "icount") ? talk_number (v, "icount")
        : UINT64_MAX,
    };

    if (i == 0)
      snapshots_print_heading ();
    snapshot_print (&s);
  }
}

int
served_snapshot_list (const struct ctl *ctl, const struct args *args)
{
  const struct talk_argument arguments[] = {
    { .name = "device", .text = args->operands[0] }, { .name = NULL }
  };

  return talk_once (ctl, "x-q2-query-snapshots", arguments, print_snapshots);
}

/* ---- What it is --------------------------------------------------------- */

static void
print_line (const char *what, const struct value *v, const char *key)
{
  const struct qcow2_name text = talk_text (v, key);

  printf ("%s: ", what);
  print_bytes (text.bytes, text.len);
  printf ("\n");
}

static void
print_info (struct talk *t)
{
  const struct value *const v = talk_item (t, 0);
  const uint64_t size = talk_number (v, "virtual-size");
  char text[SIZE_TEXT];

  print_line ("image", v, "filename");
  print_line ("file format", v, "format");
  printf ("virtual size: %s (%" PRIu64 " bytes)\ncluster_size: %" PRIu64 "\n",
          size_text (text, size), size, talk_number (v, "cluster-size"));
  if (talk_has (v, "users"))
    printf ("users: %" PRIu64 "\n", talk_number (v, "users"));
  if (talk_has (v, "why-read-only"))
    print_line ("read-only", v, "why-read-only");
  if (talk_has (v, "why-corrupt"))
    print_line ("corrupt", v, "why-corrupt");
}

int
served_info (const struct ctl *ctl, const struct args *args)
{
  const struct talk_argument arguments[] = {
    { .name = "device", .text = args->operands[0] }, { .name = NULL }
  };
  int code = talk_once (ctl, "x-q2-query-images", arguments, print_info);

  if (code == CODE_OK && !ctl->json && !ctl->quiet)
    code = talk_once (ctl, "x-q2-query-snapshots", arguments,
                      print_snapshots);
  return code;
}

/* ---- Its size ----------------------------------------------------------- */

static int
ask_size (struct talk *t, const char *name, uint64_t *ret_size)
{
  const struct talk_argument arguments[] = {
    { .name = "device", .text = name }, { .name = NULL }
  };
  const int code = talk_send (t, "x-q2-query-images", arguments);

  if (code == CODE_OK)
    *ret_size = talk_number (talk_item (t, 0), "virtual-size");
  return code;
}

int
served_size (const struct ctl *ctl, const char *name, uint64_t *ret_size)
{
  int code;
  struct talk *const t = talk_open (ctl, &code);

  if (t == NULL)
    return code;
  code = ask_size (t, name, ret_size);
  talk_close (t);
  return code;
}

int
served_resize (const struct ctl *ctl, const char *name, uint64_t size,
               bool shrink, uint64_t *ret_size)
{
  const struct talk_argument arguments[] = {
    { .name = "device", .text = name },
    { .name = "size", .type = TALK_NUMBER, .number = size },
    { .name = "x-q2-shrink", .type = TALK_TRUE, .is_true = shrink },
    { .name = NULL }
  };
  int code;
  struct talk *const t = talk_open (ctl, &code);

  if (t == NULL)
    return code;
  code = talk_send (t, "block_resize", arguments);
  if (code == CODE_OK && ask_size (t, name, ret_size) != CODE_OK)
    code = fail_code (CODE_CHANGED, "%s has its new size, but the server does "
                      "not say which", name);
  talk_close (t);
  return code;
}

/* ---- What it has -------------------------------------------------------- */

int
served_empty (const struct ctl *ctl, const struct args *args)
{
  const struct talk_argument arguments[] = {
    { .name = "device", .text = args->operands[0] }, { .name = NULL }
  };

  return talk_once (ctl, "x-q2-empty", arguments, NULL);
}

/* ---- Only of servers ---------------------------------------------------- */

static int
run_flush (struct ctl *ctl, const struct args *args)
{
  const struct talk_argument arguments[] = {
    { .name = "device", .text = args->operands[0] }, { .name = NULL }
  };

  return talk_once (ctl, "x-q2-flush", arguments, NULL);
}

const struct command cmd_flush = {
  .name = "flush", .operands = "EXPORT",
  .min_operands = 1, .max_operands = 1,
  .takes = TAKES_SOCKET | NEEDS_SOCKET,
  .summary = "Make durable what clients have written", .run = run_flush,
};

static void
print_number (const char *key, uint64_t number)
{
  printf ("  %-24s %" PRIu64 "\n", key, number);
}

static void
print_stats (struct talk *t)
{
  static const char *const classes[] = {
    "header", "l1", "l2", "refcount", "data", "compressed",
  };
  const struct value *v;

  for (size_t i = 0; (v = talk_item (t, i)) != NULL; ++i) {
    print_line ("export", v, "device");
    talk_each (v, print_number);
    printf ("  held:\n");
    talk_each (talk_object (v, "held"), print_number);
    for (size_t c = 0; c < sizeof classes / sizeof classes[0]; ++c) {
      printf ("  %s:\n", classes[c]);
      talk_each (talk_object (talk_object (v, "io"), classes[c]),
                 print_number);
    }
  }
}

static int
run_stats (struct ctl *ctl, const struct args *args)
{
  const struct talk_argument arguments[] = {
    { .name = "device",
      .text = args->nr_operands > 0 ? args->operands[0] : NULL },
    { .name = NULL }
  };

  return talk_once (ctl, "x-q2-query-stats", arguments, print_stats);
}

const struct command cmd_stats = {
  .name = "stats", .operands = "[EXPORT]",
  .min_operands = 0, .max_operands = 1,
  .takes = TAKES_SOCKET | NEEDS_SOCKET,
  .summary = "Show the counters of images that are open", .run = run_stats,
};
