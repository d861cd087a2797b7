/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_commit.c - "commit": what an image has goes into a file below it.
 *
 * Owns      making that file large enough: once, before it is written to; then
 *           everything is opened anew, since the engine ends an image whose
 *           size has changed.
 * Method    the file is opened for writing as a part of the chain, so it is
 *           open once.
 * Locks     QEMU's locks on local files, for writing on both.
 */
#include "config.h"

#include "commands.h"

#include "ctl.h"
#include "image.h"
#include "progress.h"

#include "host/chain.h"
#include "host/layer.h"
#include "host/other.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static int
identify (const char *name, struct identity *ret)
{
  struct stat st;

  if (strstr (name, "://") != NULL) {
    *ret = (struct identity) { .kind = ID_URI, .text = name };
    return CODE_OK;
  }
  if (stat (name, &st) == -1)
    return fail_code (errno == ENOENT ? CODE_NAME : CODE_FAILED, "%s: %s",
                      name, strerror (errno));
  return identity_of_file (&st, ret) ? CODE_OK
    : fail_code (CODE_FAILED, "%s is neither a regular file nor a block "
                 "device", name);
}

/* That is open for writing; NULL: none, which was said. */
static const struct layer *
find_base (const struct image *i, const char *base)
{
  const struct layer *l = i->layers.backing;

  if (l == NULL)
    fail_code (CODE_FAILED, "%s has no backing file to commit to", i->name);
  else {
    while (l && !l->key.writing)
      l = l->layers.backing;
    if (l == NULL)
      fail_code (CODE_FAILED, "%s is not in the chain of %s", base, i->name);
    else if (l->key.id.kind == ID_URI && !i->ctl->no_lock) {
      fail_code (CODE_FAILED, "%s: NBD has no locks, so nothing would keep "
                 "others from using it meanwhile; give --no-lock if nobody "
                 "else has it open", l->name);
      l = NULL;
    }
  }
  return l;
}

static bool
is_too_small (const struct image *i, const struct layer *l)
{
  const struct qcow2_info info = qcow2_get_info (l->image);

  return info.version >= 2 &&
    info.virtual_size < qcow2_get_info (i->image).virtual_size;
}

/* If nothing speaks against committing to it. */
static int
grow (const struct image *i, const struct layer *l, bool keep)
{
  struct qcow2_file base;
  struct qcow2_error err;

  layer_get_file (l, &base);
  if (qcow2_check_commit (i->image, i->io, &base,
                          keep ? QCOW2_COMMIT_KEEP : 0, &err) == -1)
    return fail_error (i->name, &err);
  if (qcow2_resize (l->image, &l->other->io,
                    qcow2_get_info (i->image).virtual_size, 0,
                    QCOW2_PREALLOCATE_OFF, NULL, &err) == -1)
    return fail_error (l->name, &err);
  return CODE_OK;
}

static int
commit (const struct image *i, const struct layer *l, bool keep)
{
  struct progress p;
  const struct qcow2_progress progress = {
    .fn = progress_report, .opaque = &p,
  };
  struct qcow2_file base;
  struct qcow2_error err;
  int r;

  layer_get_file (l, &base);
  progress_begin (&p, i->ctl);
  r = qcow2_commit (i->image, i->io, &base, keep ? QCOW2_COMMIT_KEEP : 0,
                    &progress, &err);
  progress_end (&p);
  if (r == -1)
    return fail_error (i->name, &err);
  if (!i->ctl->quiet && !i->ctl->json)
    printf ("Image committed.\n");
  return CODE_OK;
}

static int
run (struct ctl *ctl, const struct args *args)
{
  const char *const base = args_value (args, "base");
  const bool keep = base != NULL || args_value (args, "keep") != NULL;
  struct identity id;
  bool again = true, grown = false;
  int code = base ? identify (base, &id) : CODE_OK;

  for (unsigned n = 0; code == CODE_OK && again; ++n) {
    const struct layer *l;
    struct image i;

    again = false;
    code = image_open_to_commit (ctl, &i, args->operands[0],
                                 base ? &id : NULL);
    if (code != CODE_OK)
      break;
    l = find_base (&i, base);
    if (l == NULL)
      code = CODE_FAILED;
    else if (n == 0 && is_too_small (&i, l)) {
      code = grow (&i, l, keep);
      again = grown = code == CODE_OK;
    }
    else
      code = commit (&i, l, keep);
    code = image_close (&i, code);
  }
  if (grown && code != CODE_OK && code != CODE_CHANGED)
    return fail_code (CODE_CHANGED, "the backing file of %s is larger now; "
                      "nothing else is changed", args->operands[0]);
  return code;
}

static const struct option_spec options[] = {
  { "base", 'b', "FILE", "commit to this file of the chain; implies -d" },
  { "keep", 'd', NULL, "do not empty IMAGE afterwards" },
  { NULL, 0, NULL, NULL }
};

const struct command cmd_commit = {
  .name = "commit", .operands = "IMAGE", .min_operands = 1,
  .max_operands = 1, .takes = TAKES_LAYERS | TAKES_NO_LOCK,
  .options = options,
  .summary = "Write what the image has into its backing file", .run = run,
};
