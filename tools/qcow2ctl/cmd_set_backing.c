/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_set_backing.c - "set-backing": another name in the header.
 *
 * Owns      nothing.
 * Method    no other file is opened, so that a chain whose files were moved
 *           can be put together again.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "newbacking.h"

static int
run (struct ctl *ctl, const struct args *args)
{
  const char *const file = args->nr_operands > 1 ? args->operands[1] : NULL;

  return new_backing_in_header (ctl, args, file);
}

static const struct option_spec options[] = {
  { "backing-fmt", 'F', "raw|qcow2", "the format of FILE" },
  { "force", 0, NULL, "also if a crash could destroy the header" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_set_backing = {
  .name = "set-backing", .operands = "IMAGE [FILE]", .min_operands = 1,
  .max_operands = 2, .takes = TAKES_LAYERS | TAKES_NO_LOCK,
  .options = options, .summary = "Name another backing file, or none",
  .run = run,
};
