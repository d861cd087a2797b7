/* SPDX-License-Identifier: BSD-3-Clause */
/* newimage.c - the options of a new image, as people write them.
 *
 * Owns      the names of options and the words of their values.
 * Method    a table of names, each with the function that reads its value
 *           (values.c); an option that is given again replaces what it said
 *           before.
 * Locks     none; values only.
 */
#include "config.h"

#include "host/newimage.h"

#include "host/error.h"
#include "host/values.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int
keep (char **to, struct qcow2_name *name, const char *value,
      struct qcow2_error *err)
{
  char *const copy = strdup (value);

  if (copy == NULL)
    return fail_with (err, QCOW2_ERR_NOMEM, ENOMEM,
                      "out of memory for the options of a new image");
  free (*to);
  *to = copy;
  *name = (struct qcow2_name) { copy, strlen (copy) };
  return 0;
}

/* ---- Options ----------------------------------------------------------- */

static int
take_size (struct new_image *n, const char *key, const char *value,
           struct qcow2_error *err)
{
  (void) key;
  n->has_size = true;
  return parse_size (value, &n->options.virtual_size, err);
}

static int
take_compat (struct new_image *n, const char *key, const char *value,
             struct qcow2_error *err)
{
  static const char *const words[] = { "0.10", "v2", "1.1", "v3", NULL };
  const int i = parse_choice (key, value, words, err);

  if (i == -1)
    return -1;
  n->options.version = i < 2 ? 2 : 3;
  return 0;
}

static int
take_cluster_size (struct new_image *n, const char *key, const char *value,
                   struct qcow2_error *err)
{
  if (parse_size (value, &n->options.cluster_size, err) == -1)
    return -1;
  /* To the engine that is the default. */
  return n->options.cluster_size > 0 ? 0
    : fail_choice (err, key, value, "a power of two from 512 to 2M");
}

static int
take_refcount_bits (struct new_image *n, const char *key, const char *value,
                    struct qcow2_error *err)
{
  uint64_t bits;

  if (!parse_number (value, &bits) || bits == 0 || bits > 64)
    return fail_choice (err, key, value, "a power of two from 1 to 64");
  n->options.refcount_bits = (unsigned) bits;
  return 0;
}

static int
take_lazy_refcounts (struct new_image *n, const char *key, const char *value,
                     struct qcow2_error *err)
{
  return parse_switch (key, value, &n->options.lazy_refcounts, err);
}

static int
take_extended_l2 (struct new_image *n, const char *key, const char *value,
                  struct qcow2_error *err)
{
  return parse_switch (key, value, &n->options.extended_l2, err);
}

static int
take_compression (struct new_image *n, const char *key, const char *value,
                  struct qcow2_error *err)
{
  static const char *const words[] = {
    [QCOW2_COMPRESSION_ZLIB] = "zlib", [QCOW2_COMPRESSION_ZSTD] = "zstd", NULL
  };
  const int i = parse_choice (key, value, words, err);

  if (i == -1)
    return -1;
  n->options.compression = (enum qcow2_compression) i;
  return 0;
}

static int
take_preallocation (struct new_image *n, const char *key, const char *value,
                    struct qcow2_error *err)
{
  static const char *const words[] = {
    [QCOW2_PREALLOCATE_OFF] = "off",
    [QCOW2_PREALLOCATE_METADATA] = "metadata",
    [QCOW2_PREALLOCATE_FALLOC] = "falloc",
    [QCOW2_PREALLOCATE_FULL] = "full", NULL
  };
  const int i = parse_choice (key, value, words, err);

  if (i == -1)
    return -1;
  n->options.preallocation = (enum qcow2_preallocation) i;
  return 0;
}

static int
take_backing_file (struct new_image *n, const char *key, const char *value,
                   struct qcow2_error *err)
{
  (void) key;
  return keep (&n->backing_file, &n->options.backing_file, value, err);
}

static int
take_backing_format (struct new_image *n, const char *key, const char *value,
                     struct qcow2_error *err)
{
  (void) key;
  return keep (&n->backing_format, &n->options.backing_format, value, err);
}

static int
take_data_file (struct new_image *n, const char *key, const char *value,
                struct qcow2_error *err)
{
  (void) key;
  return keep (&n->data_file, &n->options.data_file, value, err);
}

static int
take_data_file_raw (struct new_image *n, const char *key, const char *value,
                    struct qcow2_error *err)
{
  return parse_switch (key, value, &n->options.data_file_raw, err);
}

static int
take_keep_data_file (struct new_image *n, const char *key, const char *value,
                     struct qcow2_error *err)
{
  return parse_switch (key, value, &n->options.keep_data, err);
}

/* ---- Encryption -------------------------------------------------------- */

static int
take_format (struct new_image *n, const char *key, const char *value,
             struct qcow2_error *err)
{
  static const char *const words[] = { "aes", "luks", NULL };
  const int i = parse_choice (key, value, words, err);

  if (i == -1)
    return -1;
  n->options.encryption = i == 0 ? QCOW2_ENCRYPTION_AES
    : QCOW2_ENCRYPTION_LUKS;
  return 0;
}

/* The engine knows the words. */
static int
take_luks_word (struct new_image *n, const char *key, const char *value,
                struct qcow2_error *err)
{
  static const char *const keys[] = {
    "cipher-alg", "cipher-mode", "ivgen-alg", "ivgen-hash-alg", "hash-alg",
  };
  struct qcow2_luks_options *const luks = &n->options.luks;
  const char **const words[] = {
    &luks->cipher_alg, &luks->cipher_mode, &luks->ivgen_alg,
    &luks->ivgen_hash_alg, &luks->hash_alg,
  };
  struct qcow2_name ignored;
  size_t i = 0;

  while (strcmp (strchr (key, '.') + 1, keys[i]) != 0)
    ++i;
  if (keep (&n->luks_words[i], &ignored, value, err) == -1)
    return -1;
  *words[i] = n->luks_words[i];
  return 0;
}

static int
take_iter_time (struct new_image *n, const char *key, const char *value,
                struct qcow2_error *err)
{
  uint64_t ms;

  if (!parse_number (value, &ms) || ms == 0 || ms > 1000000)
    return fail_choice (err, key, value, "a number of milliseconds");
  n->options.luks.iter_time_ms = (unsigned) ms;
  return 0;
}

static int
take_key_secret (struct new_image *n, const char *key, const char *value,
                 struct qcow2_error *err)
{
  (void) n;
  (void) value;
  return fail_with (err, QCOW2_ERR_INVALID, EINVAL,
                    "%s names an object of QEMU, which there is none of here; "
                    "the passphrase has an option of its own", key);
}

static int
take_for_file_system (struct new_image *n, const char *key, const char *value,
                      struct qcow2_error *err)
{
  (void) n;
  (void) value;
  return fail_with (err, QCOW2_ERR_INVALID, EINVAL,
                    "%s is not for the image but for its file system; make an "
                    "empty file, set that with %s, and create the image in it",
                    key,
                    key[0] == 'n' ? "'chattr +C'" : "'xfs_io -c extsize'");
}

/* ---- All options ------------------------------------------------------- */

static const struct option {
  const char *key;
  int (*take) (struct new_image *n, const char *key, const char *value,
               struct qcow2_error *err);
} options[] = {
  { "size", take_size },
  { "compat", take_compat },
  { "cluster_size", take_cluster_size },
  { "refcount_bits", take_refcount_bits },
  { "lazy_refcounts", take_lazy_refcounts },
  { "extended_l2", take_extended_l2 },
  { "compression_type", take_compression },
  { "preallocation", take_preallocation },
  { "backing_file", take_backing_file },
  { "backing_fmt", take_backing_format },
  { "data_file", take_data_file },
  { "data_file_raw", take_data_file_raw },
  { "keep_data_file", take_keep_data_file },
  { "encrypt.format", take_format },
  { "encrypt.cipher-alg", take_luks_word },
  { "encrypt.cipher-mode", take_luks_word },
  { "encrypt.ivgen-alg", take_luks_word },
  { "encrypt.ivgen-hash-alg", take_luks_word },
  { "encrypt.hash-alg", take_luks_word },
  { "encrypt.iter-time", take_iter_time },
};

/* Of qemu-img, for whoever comes from there. */
static const struct option others[] = {
  { "encrypt.key-secret", take_key_secret },
  { "extent_size_hint", take_for_file_system },
  { "nocow", take_for_file_system },
};

static int
fail_unknown (const char *key, struct qcow2_error *err)
{
  char all[600] = "";

  for (size_t i = 0; i < sizeof options / sizeof options[0]; ++i)
    snprintf (all + strlen (all), sizeof all - strlen (all), "%s%s",
              i == 0 ? "" : ", ", options[i].key);
  return fail_with (err, QCOW2_ERR_INVALID, EINVAL,
                    "a new image has no option '%s'; there are: %s", key, all);
}

int
new_image_option (struct new_image *n, const char *key, const char *value,
                  struct qcow2_error *err)
{
  for (size_t i = 0; i < sizeof options / sizeof options[0]; ++i)
    if (strcmp (key, options[i].key) == 0)
      return options[i].take (n, key, value ? value : "on", err);
  for (size_t i = 0; i < sizeof others / sizeof others[0]; ++i)
    if (strcmp (key, others[i].key) == 0)
      return others[i].take (n, key, value ? value : "on", err);
  return fail_unknown (key, err);
}

/* ---- Lists ------------------------------------------------------------- */

/* Cut the first word off; a comma that is doubled is part of it. */
static char *
next_word (char **rest)
{
  char *const word = *rest, *to = word, *from = word;

  while (*from != '\0' && (*from != ',' || from[1] == ',')) {
    from += *from == ',';
    *to++ = *from++;
  }
  *rest = *from == ',' ? from + 1 : NULL;
  *to = '\0';
  return word;
}

static int
take_word (struct new_image *n, char *word, new_image_other_fn other,
           void *opaque, struct qcow2_error *err)
{
  char *const equals = strchr (word, '=');
  int r = 0;

  if (equals != NULL)
    *equals = '\0';
  if (other != NULL)
    r = other (opaque, word, equals ? equals + 1 : NULL, err);
  if (r == 0)
    r = new_image_option (n, word, equals ? equals + 1 : NULL, err);
  return r == -1 ? -1 : 0;
}

int
new_image_options (struct new_image *n, const char *list,
                   new_image_other_fn other, void *opaque,
                   struct qcow2_error *err)
{
  char *const copy = strdup (list), *rest = copy;
  int r = 0;

  if (copy == NULL)
    return fail_with (err, QCOW2_ERR_NOMEM, ENOMEM,
                      "out of memory for the options of a new image");
  while (r == 0 && rest != NULL)
    r = take_word (n, next_word (&rest), other, opaque, err);
  free (copy);
  return r;
}

void
new_image_free (struct new_image *n)
{
  free (n->backing_file);
  free (n->backing_format);
  free (n->data_file);
  for (size_t i = 0; i < sizeof n->luks_words / sizeof n->luks_words[0]; ++i)
    free (n->luks_words[i]);
  *n = (struct new_image) { .has_size = false };
}
