/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_empty.c - "empty": all that an image has of its disk is given back.
 *
 * Owns      nothing.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "progress.h"
#include "served.h"

static int
run (struct ctl *ctl, const struct args *args)
{
  struct progress p;
  const struct qcow2_progress progress = {
    .fn = progress_report, .opaque = &p,
  };
  struct qcow2_error err;
  struct image i;
  int code, r;

  if (ctl->socket)
    return served_empty (ctl, args);
  code = image_open (ctl, &i, args->operands[0], OPEN_TO_CHANGE);
  if (code != CODE_OK)
    return code;
  progress_begin (&p, ctl);
  r = qcow2_make_empty (i.image, i.io, &progress, &err);
  progress_end (&p);
  if (r == -1)
    code = fail_error (i.name, &err);
  return image_close (&i, code);
}

const struct command cmd_empty = {
  .name = "empty", .operands = "IMAGE", .min_operands = 1, .max_operands = 1,
  .takes = TAKES_LAYERS | TAKES_NO_LOCK | TAKES_SOCKET,
  .summary = "Give back all that the image has of its disk", .run = run,
};
