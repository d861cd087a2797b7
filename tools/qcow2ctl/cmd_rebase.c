/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_rebase.c - "rebase": another backing file, and the same disk.
 *
 * Owns      nothing.
 * Method    newbacking.c opens the new file; the engine copies what differs
 *           (qcow2_rebase).  With -u this is set-backing.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "newbacking.h"
#include "progress.h"

static int
rebase (const struct args *args, const struct image *i,
        const struct new_backing *b, const char *file)
{
  const struct backing_header h = new_backing_header (args, file);
  struct progress p;
  const struct qcow2_progress progress = {
    .fn = progress_report, .opaque = &p,
  };
  struct qcow2_error err;
  int r;

  progress_begin (&p, i->ctl);
  r = qcow2_rebase (i->image, i->io, &h.file, &h.format, &b->file,
                    h.flags, &progress, &err);
  progress_end (&p);
  return r == -1 ? fail_error (i->name, &err) : CODE_OK;
}

static int
run (struct ctl *ctl, const struct args *args)
{
  const char *const file = args_value (args, "backing-file");
  struct new_backing b;
  struct image i;
  int code;

  if (file == NULL)
    return fail_usage (args->command, "-b says which backing file it is to "
                       "have; -b '' is none");
  if (args_value (args, "unsafe") && args_value (args, "new-backing"))
    return fail_usage (args->command, "-u opens no backing file, so "
                       "--new-backing is of no use");
  if (args_value (args, "unsafe"))
    return new_backing_in_header (ctl, args, file);
  code = new_backing_check (args, file);
  if (code == CODE_OK)
    code = image_open (ctl, &i, args->operands[0], OPEN_TO_CHANGE);
  if (code != CODE_OK)
    return code;
  code = new_backing_open (&b, &i, args, file);
  if (code == CODE_OK) {
    code = rebase (args, &i, &b, file);
    new_backing_close (&b);
  }
  return image_close (&i, code);
}

static const struct option_spec options[] = {
  { "backing-file", 'b', "FILE", "the new backing file; '': none" },
  { "backing-fmt", 'F', "raw|qcow2", "the format of FILE" },
  { "force", 0, NULL, "also if a crash could destroy the header" },
  { "new-backing", 0, "FILE",
    "what the new one stands on; once more for the one\n"
    "below that, and so on" },
  { "unsafe", 'u', NULL,
    "only change the header: the disk may change by that" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_rebase = {
  .name = "rebase", .operands = "IMAGE", .min_operands = 1,
  .max_operands = 1, .takes = TAKES_LAYERS | TAKES_NO_LOCK,
  .options = options,
  .summary = "Give it another backing file, or none; the disk stays",
  .run = run,
};
