/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_info.c - "info": what an image is, and what it stands on.
 *
 * Owns      nothing; below.c has the files below.
 * Method    everything is opened only to inspect it, so that no passphrase is
 *           needed, nor, without --chain, any other file.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "below.h"
#include "ctl.h"
#include "image.h"
#include "info.h"
#include "output.h"
#include "served.h"

#include <stdio.h>

struct job {
  struct ctl *ctl;
  unsigned nr;                  /* files printed so far */
  struct value *all;            /* --chain: a list */
};

static int
show (void *opaque, const struct subject *s, struct qcow2_error *err)
{
  struct job *const job = opaque;
  struct value *one;

  if (!job->ctl->json) {
    if (job->ctl->quiet)
      return 0;
    printf ("%s", job->nr++ > 0 ? "\n" : "");
    return info_print (s, err);
  }
  if (info_json (s, &one, err) == -1)
    return -1;
  if (job->all)
    value_append (job->all, one);
  else
    value_print (one);
  return 0;
}

static bool
wants_chain (const struct args *args)
{
  return args_value (args, "chain") != NULL ||
    args_value (args, "backing-chain") != NULL;
}

static int
check_options (const struct ctl *ctl, const struct args *args)
{
  const struct rules *const rules = &ctl->rules;

  if (!wants_chain (args) &&
      (rules->nr_backing > 0 || rules->nr_formats > 0 || rules->follow ||
       rules->data_file || rules->nr_passphrases > 0))
    return fail_usage (args->command, "only --chain looks at other files");
  return CODE_OK;
}

static int
run (struct ctl *ctl, const struct args *args)
{
  const bool chain = wants_chain (args);
  struct job job = { .ctl = ctl };
  struct qcow2_error err;
  struct subject s;
  struct image i;
  int code = check_options (ctl, args);

  if (code == CODE_OK && ctl->socket)
    return chain ? fail_usage (args->command, "--chain is about files, not "
                               "about what a server has open")
      : served_info (ctl, args);
  if (code == CODE_OK)
    code = image_open (ctl, &i, args->operands[0], OPEN_TO_INSPECT);
  if (code != CODE_OK)
    return code;
  if (chain && ctl->json)
    job.all = value_array ();
  s = (struct subject) {
    .name = i.name, .image = i.image, .io = i.io,
    .path = i.place.kind == PLACE_FILE ? i.name : NULL,
  };
  if (show (&job, &s, &err) == -1 ||
      (chain && below_walk (&i, show, &job, &err) == -1)) {
    code = fail_error (i.name, &err);
    value_free (job.all);
  }
  else if (job.all)
    value_print (job.all);
  return image_close (&i, code);
}

static const struct option_spec options[] = {
  { "chain", 0, NULL, "show the files below the image, too" },
  { "backing-chain", 0, NULL, "the same" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_info = {
  .name = "info", .operands = "IMAGE", .min_operands = 1, .max_operands = 1,
  .takes = TAKES_LAYERS | TAKES_SHARE | TAKES_SOCKET, .options = options,
  .summary = "Show what an image is", .run = run,
};
