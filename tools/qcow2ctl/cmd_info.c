/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_info.c - "info": what an image is.
 *
 * Owns      nothing.
 * Method    the image is opened to inspect it, so that no other file and no
 *           passphrase is needed.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "output.h"

#include <inttypes.h>
#include <stdio.h>

static void
print_json (const struct image *i)
{
  const struct qcow2_info *const info = qcow2_get_info (i->image);
  struct value *const v = value_object ();

  value_set (v, "filename", value_text (i->name));
  value_set (v, "format", value_text ("qcow2"));
  value_set (v, "virtual-size", value_number (info->virtual_size));
  value_set (v, "cluster-size", value_number (info->cluster_size));
  value_set (v, "dirty-flag", value_bool (info->dirty));
  value_print (v);
}

static void
print_human (const struct image *i)
{
  const struct qcow2_info *const info = qcow2_get_info (i->image);
  char text[SIZE_TEXT];

  printf ("image: %s\nfile format: qcow2\n", i->name);
  printf ("virtual size: %s (%" PRIu64 " bytes)\n",
          size_text (text, info->virtual_size), info->virtual_size);
  printf ("cluster_size: %" PRIu64 "\n", info->cluster_size);
}

static int
run (struct ctl *ctl, const struct args *args)
{
  struct image i;
  const int code = image_open (ctl, &i, args->operands[0], OPEN_TO_INSPECT);

  if (code != CODE_OK)
    return code;
  if (ctl->json)
    print_json (&i);
  else if (!ctl->quiet)
    print_human (&i);
  return image_close (&i, CODE_OK);
}

const struct command cmd_info = {
  .name = "info", .operands = "IMAGE", .min_operands = 1, .max_operands = 1,
  .takes = TAKES_SHARE, .summary = "Show what an image is", .run = run,
};
