/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_bitmap.c - "bitmap add", "remove", "clear", "enable", "disable" and
 * "merge".
 *
 * Owns      nothing.
 * Method    one call of the engine each.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "progress.h"
#include "served.h"
#include "values.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- What all of them do ------------------------------------------------ */

/* The image is open for changes. */
typedef int (*change_fn) (struct image *i, void *opaque,
                          struct progress *progress,
                          struct qcow2_error *err);

static int
change_image (struct ctl *ctl, const struct args *args, change_fn fn,
              void *opaque)
{
  struct qcow2_error err;
  struct progress p;
  struct image i;
  int code = image_open (ctl, &i, args->operands[0], OPEN_TO_CHANGE_HEADER);
  int r;

  if (code != CODE_OK)
    return code;
  progress_begin (&p, ctl);
  r = fn (&i, opaque, &p, &err);
  progress_end (&p);
  if (r == -1)
    code = fail_error (i.name, &err);
  return image_close (&i, code);
}

static int
act (struct image *i, void *action, struct progress *progress,
     struct qcow2_error *err)
{
  return qcow2_edit_bitmaps (i->image, i->io, action, 1, progress_report,
                             progress, err);
}

static int
run_verb (struct ctl *ctl, const struct args *args,
          enum qcow2_bitmap_verb verb)
{
  struct qcow2_bitmap_action a = {
    .verb = verb, .name = value_name (args->operands[1]),
  };

  if (ctl->socket)              /* the second word */
    return served_bitmap_change (ctl, args, strchr (args->command->name, ' ')
                                 + 1);
  return change_image (ctl, args, act, &a);
}

#define FOR_CHANGES TAKES_LAYERS | TAKES_NO_LOCK | TAKES_SOCKET

/* ---- add ---------------------------------------------------------------- */

static const struct option_spec add_options[] = {
  { "granularity", 'g', "SIZE", "bytes of the disk per bit, 512 to 2G\n"
    "(default: the cluster size, 4k to 64k)" },
  { "disabled", 0, NULL, "writers are not to keep it up to date" },
  { NULL, 0, NULL, NULL }
};

static int
run_add (struct ctl *ctl, const struct args *args)
{
  const char *const granularity = args_value (args, "granularity");
  struct qcow2_bitmap_action a = {
    .verb = QCOW2_BITMAP_ADD, .name = value_name (args->operands[1]),
    .disabled = args_value (args, "disabled") != NULL,
  };
  int code;

  if (granularity != NULL) {
    code = value_granularity (args->command, granularity, &a.granularity);
    if (code != CODE_OK)
      return code;
  }
  if (ctl->socket)
    return served_bitmap_add (ctl, args, a.granularity, a.disabled);
  return change_image (ctl, args, act, &a);
}

const struct command cmd_bitmap_add = {
  .name = "bitmap add", .operands = "IMAGE NAME",
  .min_operands = 2, .max_operands = 2,
  .takes = FOR_CHANGES, .options = add_options,
  .summary = "Add a bitmap", .run = run_add,
};

/* ---- clear, enable, disable -------------------------------------------- */

static int
run_clear (struct ctl *ctl, const struct args *args)
{
  return run_verb (ctl, args, QCOW2_BITMAP_CLEAR);
}

const struct command cmd_bitmap_clear = {
  .name = "bitmap clear", .operands = "IMAGE NAME",
  .min_operands = 2, .max_operands = 2, .takes = FOR_CHANGES,
  .summary = "Forget what a bitmap marks", .run = run_clear,
};

static int
run_enable (struct ctl *ctl, const struct args *args)
{
  return run_verb (ctl, args, QCOW2_BITMAP_ENABLE);
}

const struct command cmd_bitmap_enable = {
  .name = "bitmap enable", .operands = "IMAGE NAME",
  .min_operands = 2, .max_operands = 2, .takes = FOR_CHANGES,
  .summary = "Have writers keep a bitmap up to date", .run = run_enable,
};

static int
run_disable (struct ctl *ctl, const struct args *args)
{
  return run_verb (ctl, args, QCOW2_BITMAP_DISABLE);
}

const struct command cmd_bitmap_disable = {
  .name = "bitmap disable", .operands = "IMAGE NAME",
  .min_operands = 2, .max_operands = 2, .takes = FOR_CHANGES,
  .summary = "Leave a bitmap as it is", .run = run_disable,
};

/* ---- merge ------------------------------------------------------------- */

static const struct option_spec merge_options[] = {
  { "source-file", 'b', "FILE", "the image that has the sources" },
  { "source-format", 'F', "FORMAT", "its format: qcow2" },
  { NULL, 0, NULL, NULL }
};

static int
merge (struct ctl *ctl, const struct args *args, const struct image *other)
{
  const size_t nr = args->nr_operands - 2;
  struct qcow2_bitmap_source *const sources = calloc (nr, sizeof *sources);
  struct qcow2_bitmap_action a = {
    .verb = QCOW2_BITMAP_MERGE, .name = value_name (args->operands[1]),
    .sources = sources, .nr_sources = nr,
  };
  int code;

  if (sources == NULL)
    return fail_code (CODE_FAILED, "out of memory");
  for (size_t i = 0; i < nr; ++i) {
    sources[i].name = value_name (args->operands[2 + i]);
    if (other != NULL) {
      sources[i].image = other->image;
      sources[i].io = other->io;
    }
  }
  code = change_image (ctl, args, act, &a);
  free (sources);
  return code;
}

static int
run_merge (struct ctl *ctl, const struct args *args)
{
  const char *const file = args_value (args, "source-file");
  const char *const format = args_value (args, "source-format");
  struct image other;
  int code;

  if (format != NULL && file == NULL)
    return fail_usage (args->command, "--source-format is for --source-file");
  if (format != NULL && strcmp (format, "qcow2") != 0)
    return fail_usage (args->command, "only a qcow2 image has bitmaps, not "
                       "one of format '%s'", format);
  if (ctl->socket)
    return file == NULL ? served_bitmap_merge (ctl, args)
      : fail_usage (args->command, "--source-file is about files, and not for "
                    "an image that a server has open (-S)");
  if (file == NULL)
    return merge (ctl, args, NULL);
  code = image_open (ctl, &other, file, OPEN_TO_INSPECT);
  if (code != CODE_OK)
    return code;
  return image_close (&other, merge (ctl, args, &other));
}

const struct command cmd_bitmap_merge = {
  .name = "bitmap merge", .operands = "IMAGE NAME SOURCE...",
  .min_operands = 3, .max_operands = 64,
  .takes = FOR_CHANGES, .options = merge_options,
  .summary = "Add what other bitmaps mark to a bitmap", .run = run_merge,
};

/* ---- remove ------------------------------------------------------------ */

static const struct option_spec remove_options[] = {
  { "broken", 0, NULL, "those that keep the others from being used" },
  { "dry-run", 0, NULL, "with --broken: only say which" },
  { NULL, 0, NULL, NULL }
};

struct cleaning {
  const struct ctl *ctl;
  bool dry_run;
  unsigned long nr;             /* of those that are broken */
};

static void
tell (void *opaque, const struct qcow2_broken_bitmap *b)
{
  struct cleaning *const c = opaque;

  c->nr++;
  if (c->ctl->quiet)
    return;
  fputs ("Broken: ", stdout);
  if (b->name.len > 0) {
    fputc ('\'', stdout);
    for (size_t i = 0; i < b->name.len; ++i) {
      const unsigned char byte = (unsigned char) b->name.bytes[i];

      if (byte < 0x20 || byte == 0x7f)
        printf ("\\x%02x", byte);
      else
        fputc (byte, stdout);
    }
    fputs ("': ", stdout);
  }
  printf ("%s (directory entry at offset 0x%" PRIx64 ")\n", b->why,
          b->host_off);
}

static int
clean (struct image *i, void *opaque, struct progress *progress,
       struct qcow2_error *err)
{
  struct cleaning *const c = opaque;

  (void) progress;
  return qcow2_remove_broken_bitmaps (i->image, i->io, c->dry_run, tell, c,
                                      err);
}

static int
run_remove_broken (struct ctl *ctl, const struct args *args)
{
  struct cleaning c = {
    .ctl = ctl, .dry_run = args_value (args, "dry-run") != NULL,
  };
  const int code = change_image (ctl, args, clean, &c);

  if (code != CODE_OK || ctl->quiet)
    return code;
  if (c.nr == 0)
    puts ("No bitmap is broken.");
  else if (!c.dry_run)
    printf ("Removed: %lu; their space is in use until 'qcow2ctl check "
            "--repair leaks'.\n", c.nr);
  return code;
}

static int
run_remove (struct ctl *ctl, const struct args *args)
{
  const bool broken = args_value (args, "broken") != NULL;

  if (broken != (args->nr_operands == 1))
    return fail_usage (args->command, broken ? "--broken goes without a name"
                       : "which bitmap?  Give its NAME, or --broken");
  if (!broken && args_value (args, "dry-run") != NULL)
    return fail_usage (args->command, "--dry-run is for --broken");
  if (broken && ctl->socket)
    return fail_usage (args->command, "--broken cannot be done with an image "
                       "that a server has open (-S)");
  return broken ? run_remove_broken (ctl, args)
    : run_verb (ctl, args, QCOW2_BITMAP_REMOVE);
}

const struct command cmd_bitmap_remove = {
  .name = "bitmap remove", .operands = "IMAGE [NAME]",
  .min_operands = 1, .max_operands = 2,
  .takes = FOR_CHANGES, .options = remove_options,
  .summary = "Remove a bitmap, or those that are broken", .run = run_remove,
};
