/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_measure.c - "measure": how large an image would be.
 *
 * Owns      nothing.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "newimage.h"
#include "output.h"
#include "values.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Bitmaps are only for images of version 3, from images that can have them. */
static bool
has_bitmaps (const struct request *n, const struct image *i)
{
  return n->image.options.version != 2 && i->image != NULL &&
    qcow2_get_info (i->image).version == 3;
}

static void
print (const struct ctl *ctl, const struct qcow2_measurement *m, bool bitmaps)
{
  struct value *v;

  if (!ctl->json && !ctl->quiet) {
    printf ("required size: %" PRIu64 "\nfully allocated size: %" PRIu64
            "\n", m->required, m->fully_allocated);
    if (bitmaps)
      printf ("bitmaps size: %" PRIu64 "\n", m->bitmaps);
  }
  if (!ctl->json)
    return;
  v = value_object ();
  value_set (v, "required", value_number (m->required));
  value_set (v, "fully-allocated", value_number (m->fully_allocated));
  if (bitmaps)
    value_set (v, "bitmaps", value_number (m->bitmaps));
  value_print (v);
}

/* Without an image if i->image is NULL. */
static int
measure (const struct ctl *ctl, struct request *n, const struct image *i)
{
  struct qcow2_measurement m;
  struct qcow2_error err;

  if (i->image)
    n->image.options.virtual_size = qcow2_get_info (i->image).virtual_size;
  if (qcow2_measure (&n->image.options, i->image, i->io, &m, &err) == -1)
    return fail_error (i->name, &err);
  print (ctl, &m, has_bitmaps (n, i));
  return CODE_OK;
}

static int
parse (const struct args *args, struct request *n, bool *raw)
{
  static const char *const formats[] = { "raw", "qcow2", NULL };
  static const char *const targets[] = { "qcow2", NULL };
  const char *const size = args_value (args, "size");
  const char *const format = args_value (args, "format");
  const char *const target = args_value (args, "output-format");
  unsigned which = 1;
  int code = request_parse (n, args);

  if (code == CODE_OK && size)
    code = request_set_size (n, size);
  if (code == CODE_OK && format)
    code = value_word (args->command, "--format", format, formats, &which);
  *raw = which == 0;
  if (code == CODE_OK && target)
    code = value_word (args->command, "--output-format", target, targets,
                       &which);
  if (code != CODE_OK)
    return code;
  if (n->image.has_size == (args->nr_operands > 0))
    return fail_usage (args->command, "give either --size or an image");
  return CODE_OK;
}

static int
run (struct ctl *ctl, const struct args *args)
{
  struct image i = { .image = NULL };
  struct request n;
  bool raw;
  int code = parse (args, &n, &raw);

  if (code == CODE_OK && n.image.has_size)
    code = measure (ctl, &n, &i);
  else if (code == CODE_OK) {
    code = image_open (ctl, &i, args->operands[0],
                       raw ? OPEN_TO_READ_RAW : OPEN_TO_READ);
    if (code == CODE_OK)
      code = image_close (&i, measure (ctl, &n, &i));
  }
  request_free (&n);
  return code;
}

static const struct option_spec options[] = {
  { "format", 'f', "raw|qcow2", "what IMAGE is; default qcow2" },
  NEW_IMAGE_OPTIONS,
  { "output-format", 'O', "qcow2", "what would be made of it" },
  { "size", 0, "BYTES", "of the disk, without an image" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_measure = {
  .name = "measure", .operands = "[IMAGE]", .max_operands = 1,
  .takes = TAKES_LAYERS | TAKES_SHARE, .options = options,
  .more_help = new_image_help,
  .summary = "Show how large an image with these contents would be",
  .run = run,
};
