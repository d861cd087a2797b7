/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_resize.c - "resize": another size of the disk.
 *
 * Owns      nothing.
 * Method    a size with a sign is added to the size that the disk has.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "output.h"
#include "progress.h"
#include "served.h"
#include "values.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char *const preallocations[] = {
  "off", "metadata", "falloc", "full", NULL,
};

struct job {
  const struct command *command;
  char sign;                    /* '+', '-', or 0 */
  uint64_t size;
  bool shrink;
  unsigned preallocation;
};

static int
parse (struct job *job, const struct args *args)
{
  const char *const value = args_value (args, "preallocation");
  const char *text = args->operands[1];

  job->command = args->command;
  job->shrink = args_value (args, "shrink") != NULL;
  if (text[0] == '+' || text[0] == '-')
    job->sign = *text++;
  if (value_size (job->command, "the size", text, &job->size) != CODE_OK)
    return CODE_FAILED;
  return value == NULL ? CODE_OK
    : value_word (job->command, "--preallocation", value, preallocations,
                  &job->preallocation);
}

/* From the difference to the size. */
static int
add_to (struct job *job, const char *name, uint64_t now, const char *advice)
{
  if (job->sign == '-' && job->size > now)
    return fail_code (CODE_FAILED, "%s: the disk has only %" PRIu64 " bytes",
                      name, now);
  if (job->sign == '+')
    job->size = job->size > UINT64_MAX - now ? UINT64_MAX : now + job->size;
  else if (job->sign == '-')
    job->size = now - job->size;
  if (job->size < now && !job->shrink)
    return fail_code (CODE_FAILED, "%s: the disk has %" PRIu64 " bytes and "
                      "would be cut to %" PRIu64 ", which loses what is "
                      "behind them; %s", name, now, job->size, advice);
  return CODE_OK;
}

static void
print_done (const struct ctl *ctl)
{
  if (!ctl->quiet && !ctl->json)
    printf ("Image resized.\n");
}

static int
resize (struct ctl *ctl, struct job *job, struct image *i)
{
  struct progress p;
  const struct qcow2_progress progress = {
    .fn = progress_report, .opaque = &p,
  };
  struct qcow2_error err;
  int r;

  progress_begin (&p, ctl);
  r = qcow2_resize (i->image, i->io, job->size,
                    job->shrink ? QCOW2_RESIZE_SHRINK : 0,
                    (enum qcow2_preallocation) job->preallocation, &progress,
                    &err);
  progress_end (&p);
  if (r == -1)
    return fail_error (i->name, &err);
  print_done (ctl);
  return CODE_OK;
}

static void
print_json (const char *name, uint64_t size)
{
  struct value *const v = value_object ();

  value_set (v, "filename", value_text (name));
  value_set (v, "virtual-size", value_number (size));
  value_print (v);
}

/* The server allocates nothing, and makes a disk smaller while nobody has it.
 */
static int
run_served (const struct ctl *ctl, struct job *job, const struct args *args)
{
  const char *const name = args->operands[0];
  uint64_t now;
  int code;

  if (job->preallocation > 0)
    return fail_usage (args->command, "the server preallocates nothing");
  code = served_size (ctl, name, &now);
  if (code == CODE_OK)
    code = add_to (job, name, now, "give --shrink if that is wanted");
  if (code == CODE_OK)
    code = served_resize (ctl, name, job->size, job->shrink, &now);
  if (code == CODE_OK && ctl->json)
    print_json (name, now);
  else if (code == CODE_OK)
    print_done (ctl);
  return code;
}

static int
run (struct ctl *ctl, const struct args *args)
{
  struct job job = { .sign = 0 };
  struct image i;
  int code = parse (&job, args);

  if (code == CODE_OK && ctl->socket)
    return run_served (ctl, &job, args);
  if (code == CODE_OK)
    code = image_open (ctl, &i, args->operands[0], OPEN_TO_CHANGE);
  if (code != CODE_OK)
    return code;
  code = add_to (&job, i.name, qcow2_get_info (i.image).virtual_size,
                 "give --shrink if that is wanted");
  if (code == CODE_OK)
    code = resize (ctl, &job, &i);
  if (code == CODE_OK && ctl->json)
    print_json (i.name, qcow2_get_info (i.image).virtual_size);
  return image_close (&i, code);
}

static const struct option_spec options[] = {
  { "preallocation", 0, "off|metadata|falloc|full",
    "what is allocated of the part that is added" },
  { "shrink", 0, NULL, "the disk may become smaller" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_resize = {
  .name = "resize", .operands = "IMAGE [+-]SIZE", .min_operands = 2,
  .max_operands = 2,
  .takes = TAKES_LAYERS | TAKES_NO_LOCK | TAKES_SOCKET,
  .options = options, .summary = "Change the size of the disk", .run = run,
};
