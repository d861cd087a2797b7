/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_bitmap_list.c - "bitmap list".
 *
 * Owns      nothing; lists.c has how it looks.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "lists.h"
#include "output.h"
#include "served.h"

static int
run (struct ctl *ctl, const struct args *args)
{
  struct value *v = NULL;
  struct qcow2_error err;
  struct image i;
  int code;

  if (ctl->socket)
    return served_bitmap_list (ctl, args);
  code = image_open (ctl, &i, args->operands[0], OPEN_TO_INSPECT);
  if (code != CODE_OK)
    return code;
  if ((ctl->json ? bitmaps_json (i.image, i.io, &v, &err)
       : ctl->quiet ? 0 : bitmaps_print (i.image, i.io, &err)) == -1)
    code = fail_error (i.name, &err);
  else if (ctl->json)
    value_print (v);
  return image_close (&i, code);
}

const struct command cmd_bitmap_list = {
  .name = "bitmap list", .operands = "IMAGE",
  .min_operands = 1, .max_operands = 1, .takes = TAKES_SHARE | TAKES_SOCKET,
  .summary = "List the bitmaps of an image", .run = run,
};
