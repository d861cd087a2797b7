/* SPDX-License-Identifier: BSD-3-Clause */
/* newimage.c - the options of a new image.
 *
 * Owns      which options of a command say what of it.
 * Method    host/newimage.c knows the keys of -o; what goes together with
 *           what, the engine says (qcow2_create).
 * Locks     none.
 */
#include "config.h"

#include "newimage.h"

#include "host/values.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char new_image_help[] =
  "Keys of -o:\n"
  "  size=BYTES              of the disk\n"
  "  backing_file=FILE, backing_fmt=raw|qcow2\n"
  "  cluster_size=BYTES      512 .. 2M, default 64k\n"
  "  compat=0.10|1.1         (v2|v3), default 1.1\n"
  "  compression_type=zlib|zstd\n"
  "  data_file=FILE, data_file_raw=on|off, keep_data_file=on|off\n"
  "  encrypt.format=luks|aes with --passphrase; for luks also\n"
  "  encrypt.cipher-alg=aes-256, encrypt.cipher-mode=xts,\n"
  "  encrypt.hash-alg=sha256, encrypt.iter-time=2000 (ms),\n"
  "  encrypt.ivgen-alg=plain64, encrypt.ivgen-hash-alg=sha256\n"
  "  extended_l2=on|off, lazy_refcounts=on|off\n"
  "  preallocation=off|metadata|falloc|full\n"
  "  refcount_bits=1|2|4|8|16|32|64, default 16\n";

static int
fail_option (const struct request *r, const char *what,
             const struct qcow2_error *err)
{
  return err->kind == QCOW2_ERR_NOMEM ? fail_error (NULL, err)
    : fail_usage (r->command, "%s%s", what, err->text);
}

int
request_set_size (struct request *r, const char *text)
{
  struct qcow2_error err;

  r->image.has_size = true;
  return parse_size (text, &r->image.options.virtual_size, &err) == 0
    ? CODE_OK : fail_option (r, "size: ", &err);
}

static int
set_option (struct request *r, const char *key, const char *value,
            const char *what)
{
  struct qcow2_error err;

  if (value == NULL)
    return CODE_OK;
  if (value[0] == '\0')
    return fail_usage (r->command, "%s is empty", what);
  return new_image_option (&r->image, key, value, &err) == 0
    ? CODE_OK : fail_option (r, "", &err);
}

/* 0 means the default to the engine, and is no name. */
static int
check_names (const struct request *r)
{
  const struct new_image *const n = &r->image;

  if (n->backing_file != NULL && n->backing_file[0] == '\0')
    return fail_usage (r->command, "the name of the backing file is empty");
  if (n->data_file != NULL && n->data_file[0] == '\0')
    return fail_usage (r->command, "the name of the data file is empty");
  return CODE_OK;
}

int
request_parse (struct request *r, const struct args *args)
{
  struct qcow2_error err;
  const char *value;
  int code;
  size_t i = 0;

  *r = (struct request) { .command = args->command };
  while ((value = args_next (args, "options", &i)) != NULL)
    if (new_image_options (&r->image, value, NULL, NULL, &err) == -1)
      return fail_option (r, "-o ", &err);
  code = set_option (r, "backing_file", args_value (args, "backing-file"),
                     "the name of the backing file");
  if (code == CODE_OK)
    code = set_option (r, "backing_fmt", args_value (args, "backing-fmt"),
                       "the format of the backing file");
  return code == CODE_OK ? check_names (r) : code;
}

void
request_free (struct request *r)
{
  new_image_free (&r->image);
}
