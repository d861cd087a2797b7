/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_amend.c - "amend": what kind of image it is.
 *
 * Owns      nothing.
 * Method    what goes together with what, the engine says (qcow2_amend); here
 *           words become numbers.  Only for version 2 is it looked at what is
 *           below the image.
 * Locks     none of its own.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "progress.h"
#include "sources.h"
#include "values.h"

#include <string.h>

struct job {
  const struct command *command;
  struct qcow2_amend_options options;
  struct qcow2_name backing_file, backing_format, data_file;
  bool any;                     /* something is to be changed */
};

static const char *const compats[] = { "0.10", "v2", "1.1", "v3", NULL };

static int
set_flag (const struct job *job, const char *key, const char *value,
          enum qcow2_setting *ret)
{
  bool on = false;
  const int code = value_on_off (job->command, key, value, &on);

  *ret = on ? QCOW2_SETTING_ON : QCOW2_SETTING_OFF;
  return code;
}

static int
set_name (struct qcow2_name *name, const struct qcow2_name **ret,
          const char *value)
{
  *name = (struct qcow2_name) { value, strlen (value) };
  *ret = name;
  return CODE_OK;
}

static int
set_width (struct job *job, const char *value)
{
  unsigned bits;
  const int code = value_unsigned (job->command, "refcount_bits", value,
                                   &bits);

  /* 0 means "as it is" to the engine. */
  if (code == CODE_OK && bits == 0)
    return fail_usage (job->command, "refcount_bits: 0 is no width");
  job->options.refcount_bits = bits;
  return code;
}

static int
set_pair (void *opaque, const char *key, const char *value)
{
  struct job *const job = opaque;
  struct qcow2_amend_options *const o = &job->options;
  unsigned which = 0;
  int code;

  job->any = true;
  if (strcmp (key, "lazy_refcounts") == 0)
    return set_flag (job, key, value, &o->lazy_refcounts);
  if (strcmp (key, "data_file_raw") == 0)
    return set_flag (job, key, value, &o->data_file_raw);
  if (strcmp (key, "backing_file") == 0)
    return set_name (&job->backing_file, &o->backing_file, value);
  if (strcmp (key, "backing_fmt") == 0)
    return set_name (&job->backing_format, &o->backing_format, value);
  if (strcmp (key, "data_file") == 0)
    return set_name (&job->data_file, &o->data_file, value);
  if (strcmp (key, "refcount_bits") == 0)
    return set_width (job, value);
  if (strcmp (key, "size") == 0)
    return fail_code (CODE_FAILED, "-o size: use 'qcow2ctl resize'");
  if (strcmp (key, "compat") != 0)
    return fail_usage (job->command, "-o: there is no key '%s' that an image "
                       "can change", key);
  code = value_word (job->command, key, value, compats, &which);
  o->version = which < 2 ? 2 : 3;
  return code;
}

static int
parse (struct job *job, const struct args *args)
{
  const char *value;
  size_t i = 0;
  int code = CODE_OK;

  job->command = args->command;
  job->options.force = args_value (args, "force") != NULL;
  while (code == CODE_OK &&
         (value = args_next (args, "options", &i)) != NULL)
    code = value_pairs (value, set_pair, job);
  return code != CODE_OK || job->any ? code
    : fail_usage (args->command, "nothing is to be changed: -o says what");
}

static int
run (struct ctl *ctl, const struct args *args)
{
  struct progress p;
  const struct qcow2_progress progress = {
    .fn = progress_report, .opaque = &p,
  };
  struct job job = { .command = NULL };
  struct qcow2_error err;
  struct image i;
  int code = parse (&job, args), r;

  if (code == CODE_OK)
    code = source_check_name (job.backing_file.bytes, true);
  if (code == CODE_OK)
    code = source_check_name (job.data_file.bytes, true);
  if (code == CODE_OK && job.options.backing_file != NULL &&
      job.backing_file.len > 0 &&
      source_is_image (args->operands[0], job.backing_file.bytes))
    code = fail_code (CODE_FAILED, "%s cannot be its own backing file",
                      args->operands[0]);
  if (code == CODE_OK)
    code = image_open (ctl, &i, args->operands[0], job.options.version == 2
                       ? OPEN_TO_CHANGE : OPEN_TO_CHANGE_HEADER);
  if (code != CODE_OK)
    return code;
  progress_begin (&p, ctl);
  r = qcow2_amend (i.image, i.io, &job.options, &progress, &err);
  progress_end (&p);
  if (r == -1)
    code = fail_error (i.name, &err);
  return image_close (&i, code);
}

static const struct option_spec options[] = {
  { "force", 0, NULL, "also if a crash could destroy the header" },
  { "options", 'o', "KEY=VALUE,...", "what is to be changed, see below" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_amend = {
  .name = "amend", .operands = "IMAGE", .min_operands = 1, .max_operands = 1,
  .takes = TAKES_LAYERS | TAKES_NO_LOCK, .options = options,
  .more_help =
    "Keys of -o:\n"
    "  backing_file=FILE, backing_fmt=raw|qcow2\n"
    "  compat=0.10|1.1         (v2|v3)\n"
    "  data_file=FILE, data_file_raw=off\n"
    "  lazy_refcounts=on|off\n"
    "  refcount_bits=1|2|4|8|16|32|64\n",
  .summary = "Change what kind of image it is", .run = run,
};
