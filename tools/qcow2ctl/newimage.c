/* SPDX-License-Identifier: BSD-3-Clause */
/* newimage.c - the options of a new image.
 *
 * Owns      the keys of -o, which are qemu-img's.
 * Method    what goes together with what, the engine says (qcow2_create); here
 *           words become numbers.
 * Locks     none.
 */
#include "config.h"

#include "newimage.h"

#include "values.h"

#include <string.h>

const char new_image_help[] =
  "Keys of -o:\n"
  "  size=BYTES              of the disk\n"
  "  backing_file=FILE, backing_fmt=raw|qcow2\n"
  "  cluster_size=BYTES      512 .. 2M, default 64k\n"
  "  compat=0.10|1.1         (v2|v3), default 1.1\n"
  "  compression_type=zlib|zstd\n"
  "  data_file=FILE, data_file_raw=on|off, keep_data_file=on|off\n"
  "  extended_l2=on|off, lazy_refcounts=on|off\n"
  "  preallocation=off|metadata|falloc|full\n"
  "  refcount_bits=1|2|4|8|16|32|64, default 16\n";

static const char *const compats[] = { "0.10", "v2", "1.1", "v3", NULL };
static const char *const compressions[] = { "zlib", "zstd", NULL };
static const char *const preallocations[] = {
  "off", "metadata", "falloc", "full", NULL,
};

static int
set_word (struct new_image *n, const char *key, const char *value)
{
  struct qcow2_create_options *const o = &n->options;
  const char *const *const words = strcmp (key, "compat") == 0 ? compats
    : strcmp (key, "preallocation") == 0 ? preallocations : compressions;
  unsigned which = 0;
  const int code = value_word (n->command, key, value, words, &which);

  if (code != CODE_OK)
    return code;
  if (words == compats)
    o->version = which < 2 ? 2 : 3;
  else if (words == preallocations)
    o->preallocation = (enum qcow2_preallocation) which;
  else
    o->compression = which == 0 ? QCOW2_COMPRESSION_ZLIB
      : QCOW2_COMPRESSION_ZSTD;
  return CODE_OK;
}

static bool *
flag_of (struct qcow2_create_options *o, const char *key)
{
  return strcmp (key, "lazy_refcounts") == 0 ? &o->lazy_refcounts
    : strcmp (key, "extended_l2") == 0 ? &o->extended_l2
    : strcmp (key, "data_file_raw") == 0 ? &o->data_file_raw
    : strcmp (key, "keep_data_file") == 0 ? &o->keep_data : NULL;
}

static const char **
text_of (struct new_image *n, const char *key)
{
  return strcmp (key, "backing_file") == 0 ? &n->backing_file
    : strcmp (key, "backing_fmt") == 0 ? &n->backing_format
    : strcmp (key, "data_file") == 0 ? &n->data_file : NULL;
}

static int
fail_key (const struct new_image *n, const char *key)
{
  if (strncmp (key, "encrypt", 7) == 0)
    return fail_code (CODE_FAILED, "-o %s: encrypted images are not made "
                      "here; use 'qemu-img create -f qcow2'", key);
  if (strcmp (key, "nocow") == 0 || strcmp (key, "extent_size_hint") == 0)
    return fail_code (CODE_FAILED, "-o %s is not for the image but for its "
                      "file system; make an empty file, set that with %s, and "
                      "create the image in it", key,
                      key[0] == 'n' ? "'chattr +C'" : "'xfs_io -c extsize'");
  return fail_usage (n->command, "-o: there is no key '%s'", key);
}

static int
set_pair (void *opaque, const char *key, const char *value)
{
  struct new_image *const n = opaque;
  bool *const flag = flag_of (&n->options, key);
  const char **const text = text_of (n, key);

  if (flag != NULL)
    return value_on_off (n->command, key, value, flag);
  if (text != NULL) {
    *text = value;
    return CODE_OK;
  }
  if (strcmp (key, "size") == 0)
    return new_image_set_size (n, value);
  if (strcmp (key, "cluster_size") == 0)
    return value_size (n->command, key, value, &n->options.cluster_size);
  if (strcmp (key, "refcount_bits") == 0)
    return value_unsigned (n->command, key, value, &n->options.refcount_bits);
  if (strcmp (key, "compat") == 0 || strcmp (key, "preallocation") == 0 ||
      strcmp (key, "compression_type") == 0)
    return set_word (n, key, value);
  return fail_key (n, key);
}

int
new_image_set_size (struct new_image *n, const char *text)
{
  n->has_size = true;
  return value_size (n->command, "size", text, &n->options.virtual_size);
}

static struct qcow2_name
name_of (const char *text)
{
  return (struct qcow2_name) { text, text ? strlen (text) : 0 };
}

int
new_image_parse (struct new_image *n, const struct args *args)
{
  const char *const backing = args_value (args, "backing-file");
  const char *const format = args_value (args, "backing-fmt");
  const char *value;
  size_t i = 0;

  *n = (struct new_image) { .command = args->command };
  while ((value = args_next (args, "options", &i)) != NULL) {
    const int code = value_pairs (value, set_pair, n);

    if (code != CODE_OK)
      return code;
  }
  if (backing)
    n->backing_file = backing;
  if (format)
    n->backing_format = format;
  /* 0 means the default to the engine, and is no size of a cluster. */
  if (n->backing_file && n->backing_file[0] == '\0')
    return fail_usage (n->command, "the name of the backing file is empty");
  if (n->data_file && n->data_file[0] == '\0')
    return fail_usage (n->command, "the name of the data file is empty");
  n->options.backing_file = name_of (n->backing_file);
  n->options.backing_format = name_of (n->backing_format);
  n->options.data_file = name_of (n->data_file);
  return CODE_OK;
}
