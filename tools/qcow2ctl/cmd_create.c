/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_create.c - "create": a new image.
 *
 * Owns      what may be overwritten: what is empty (sources.c); anything with
 *           --force.
 * Method    the file is made if there is none, and removed again if that has
 *           failed.  The engine writes the header last, so that a crash leaves
 *           no image or all of it.
 * Locks     QEMU's locks on the file, and on the data file, for writing.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "newimage.h"
#include "output.h"
#include "progress.h"
#include "sources.h"
#include "terminal.h"

#include "host/chain.h"
#include "host/rules.h"
#include "host/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct job {
  struct ctl *ctl;
  struct request n;
  const char *name;
  bool force;
  struct passphrase passphrase;
  struct target image, data;
  struct progress progress;
};

static bool
on_progress (void *opaque, unsigned percent)
{
  struct job *const job = opaque;

  return progress_report (&job->progress, percent);
}

/* Without SIZE the disk is as large as the backing file's. */
static int
look_at_backing (struct job *job, bool unsafe)
{
  uint64_t size = 0;
  int code;

  if (job->n.image.backing_file == NULL)
    return job->n.image.has_size ? CODE_OK
      : fail_usage (job->n.command, "how large is the disk to be?  Give SIZE, "
                    "or a backing file");
  if (job->n.image.backing_format == NULL)
    return fail_usage (job->n.command, "the format of the backing file is "
                       "never guessed: give -F raw or -F qcow2");
  if (source_is_image (job->name, job->n.image.backing_file))
    return fail_code (CODE_FAILED, "%s cannot be its own backing file",
                      job->name);
  if (unsafe && job->n.image.has_size)
    return CODE_OK;
  code = source_size (job->ctl, job->name, job->n.image.backing_file,
                      job->n.image.backing_format, &size);
  if (code != CODE_OK)
    return code;
  if (!job->n.image.has_size)
    job->n.image.options.virtual_size = size;
  return CODE_OK;
}

static int
check_names (const struct job *job, bool unsafe)
{
  const int code = source_check_name (job->n.image.backing_file, unsafe &&
                                      job->n.image.has_size);

  return code != CODE_OK ? code
    : source_check_name (job->n.image.data_file, false);
}

static int
open_data_file (struct job *job)
{
  int code;

  if (job->n.image.data_file == NULL)
    return CODE_OK;
  if (job->n.image.backing_file != NULL &&
      source_is_other (job->name, job->n.image.data_file,
                       job->n.image.backing_file))
    return fail_code (CODE_FAILED, "%s cannot be both the data file and the "
                      "backing file", job->n.image.data_file);
  code = target_open_beside (&job->data, job->ctl, job->name,
                             job->n.image.data_file,
                             job->force || job->n.image.options.keep_data);
  if (code == CODE_OK)
    job->n.image.options.data_io = job->data.i.io;
  if (code == CODE_OK && identity_equal (&job->data.i.id, &job->image.i.id))
    return fail_code (CODE_FAILED, "%s cannot be its own data file",
                      job->name);
  return code;
}

static uint64_t
disk_size (const struct job *job)
{
  return (job->n.image.options.virtual_size + 511) / 512 * 512;
}

static int
create (struct job *job)
{
  struct qcow2_error err;
  int r;

  job->n.image.options.progress = on_progress;
  job->n.image.options.progress_opaque = job;
  progress_begin (&job->progress, job->ctl);
  r = qcow2_create (job->image.i.io, &job->n.image.options, &err);
  progress_end (&job->progress);
  if (r == -1)
    return fail_error (job->name, &err);
  if (!job->ctl->quiet && !job->ctl->json)
    printf ("Created '%s', a disk of %" PRIu64 " bytes\n", job->name,
            disk_size (job));
  return CODE_OK;
}

static void
print_json (const struct job *job)
{
  struct value *const v = value_object ();

  value_set (v, "filename", value_text (job->name));
  value_set (v, "format", value_text ("qcow2"));
  value_set (v, "virtual-size", value_number (disk_size (job)));
  value_print (v);
}

static int
read_passphrase (struct job *job, const char *value)
{
  struct qcow2_create_options *const o = &job->n.image.options;
  struct qcow2_error err;

  if (value == NULL)
    return o->encryption == QCOW2_ENCRYPTION_NONE ? CODE_OK
      : fail_usage (job->n.command, "an encrypted image needs --passphrase");
  if (o->encryption == QCOW2_ENCRYPTION_NONE)
    return fail_usage (job->n.command, "--passphrase is for an encrypted "
                       "image: -o encrypt.format=luks");
  if (passphrase_read (&job->passphrase, "--passphrase", value, terminal_ask,
                       &err) == -1)
    return fail_error (NULL, &err);
  passphrase_lock (&job->passphrase);
  o->passphrase = job->passphrase.bytes;
  o->passphrase_len = job->passphrase.len;
  return CODE_OK;
}

static int
make (struct job *job)
{
  int code = target_open (&job->image, job->ctl, job->name, job->force);

  if (code == CODE_OK)
    code = open_data_file (job);
  if (code == CODE_OK)
    code = create (job);
  if (code == CODE_OK && job->ctl->json)
    print_json (job);
  code = target_close (&job->data, code);
  return target_close (&job->image, code);
}

static int
run (struct ctl *ctl, const struct args *args)
{
  struct job job = { .ctl = ctl, .name = args->operands[0] };
  int code = request_parse (&job.n, args);

  job.force = args_value (args, "force") != NULL;
  if (code == CODE_OK && args->nr_operands > 1)
    code = request_set_size (&job.n, args->operands[1]);
  if (code == CODE_OK)
    code = check_names (&job, args_value (args, "unsafe") != NULL);
  if (code == CODE_OK)
    code = look_at_backing (&job, args_value (args, "unsafe") != NULL);
  if (code == CODE_OK)
    code = read_passphrase (&job, args_value (args, "passphrase"));
  if (code == CODE_OK)
    code = make (&job);
  passphrase_wipe (&job.passphrase);
  request_free (&job.n);
  return code;
}

static const struct option_spec options[] = {
  { "backing-file", 'b', "FILE",
    "what unallocated clusters read from; its name is\n"
    "relative to IMAGE, or an absolute path, or an NBD URI" },
  { "backing-fmt", 'F', "raw|qcow2", "its format, which is never guessed" },
  { "force", 0, NULL, "write over what is in the file" },
  NEW_IMAGE_OPTIONS,
  { "passphrase", 0, "+FILE|-FD|-",
    "of the new encrypted image: the first line of a\n"
    "file, of a descriptor, or asked for" },
  { "unsafe", 'u', NULL, "do not look at the backing file" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_create = {
  .name = "create", .operands = "IMAGE [SIZE]",
  .min_operands = 1, .max_operands = 2, .takes = TAKES_NO_LOCK,
  .options = options, .more_help = new_image_help,
  .summary = "Create an image", .run = run,
};
