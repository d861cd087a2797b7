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
#include "image.h"
#include "sources.h"

#include <string.h>

static struct qcow2_name
name_of (const char *text)
{
  return (struct qcow2_name) { text, text ? strlen (text) : 0 };
}

static int
run (struct ctl *ctl, const struct args *args)
{
  const char *const file = args->nr_operands > 1 ? args->operands[1] : NULL;
  const char *const format = args_value (args, "backing-fmt");
  const struct qcow2_name file_name = name_of (file);
  const struct qcow2_name format_name = name_of (format);
  const unsigned flags =
    args_value (args, "force") ? QCOW2_SET_BACKING_FORCE : 0;
  struct qcow2_error err;
  struct image i;
  int code;

  if (file && !format)
    return fail_usage (args->command, "the format of the backing file is "
                       "never guessed: give -F raw or -F qcow2");
  if (format && !file)
    return fail_usage (args->command, "-F is for a backing file, and none was "
                       "given");
  if (file && source_is_image (args->operands[0], file))
    return fail_code (CODE_FAILED, "%s cannot be its own backing file",
                      args->operands[0]);
  code = image_open (ctl, &i, args->operands[0], OPEN_TO_CHANGE_HEADER);
  if (code != CODE_OK)
    return code;
  if (qcow2_set_backing (i.image, i.io, &file_name, &format_name, flags, &err)
      == -1)
    code = fail_error (i.name, &err);
  return image_close (&i, code);
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
