/* SPDX-License-Identifier: BSD-3-Clause */
/* newbacking.c - the backing file that an image is going to have.
 *
 * Owns      what may be opened for it: the file itself, since the user has
 *           named it, and below that what --new-backing names, or --follow
 *           allows.
 * Method    a file that is below the image already is used as it is open; so
 *           the engine knows that it need not compare what both have.  Else it
 *           is opened like the backing file of an image that names it, by
 *           rules of its own.
 * Locks     QEMU's locks on local files, for reading.
 */
#include "config.h"

#include "newbacking.h"

#include "host/chain.h"
#include "host/gate.h"
#include "host/given.h"
#include "host/layer.h"
#include "host/layers.h"
#include "sources.h"
#include "values.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool
is_none (const char *file)
{
  return file == NULL || file[0] == '\0';
}

int
new_backing_check (const struct args *args, const char *file)
{
  const char *const format = args_value (args, "backing-fmt");

  if (is_none (file))
    return format == NULL ? CODE_OK
      : fail_usage (args->command, "-F is for a backing file, and none was "
                    "given");
  if (format == NULL)
    return fail_usage (args->command, "the format of the backing file is "
                       "never guessed: give -F raw or -F qcow2");
  if (source_is_image (args->operands[0], file))
    return fail_code (CODE_FAILED, "%s cannot be its own backing file",
                      args->operands[0]);
  return CODE_OK;
}

struct backing_header
new_backing_header (const struct args *args, const char *file)
{
  return (struct backing_header) {
    .file = value_name (file),
    .format = value_name (args_value (args, "backing-fmt")),
    .flags = args_value (args, "force") ? QCOW2_SET_BACKING_FORCE : 0,
  };
}

/* ---- Opening ------------------------------------------------------------ */

static bool
is_place (const struct layer *l, const struct place *place)
{
  struct identity id = { .kind = ID_URI, .text = place->text };
  struct stat st;

  if (place->kind == PLACE_FILE &&
      (stat (place->text, &st) == -1 || !identity_of_file (&st, &id)))
    return false;
  return identity_equal (&l->key.id, &id);
}

/* What the user has said is in b->rules. */
static int
parse_rules (struct new_backing *b, const struct args *args, const char *path)
{
  static const struct rule_words words = { .program = "program" };
  const char *value = args_value (args, "backing-fmt");
  struct qcow2_error err;
  size_t i = 0;

  if (rules_add (&b->rules, &words, RULE_BACKING, "-b", path, &err) == -1 ||
      rules_add (&b->rules, &words, RULE_BACKING_FORMAT, "-F", value, &err)
      == -1)
    return fail_error (NULL, &err);
  while ((value = args_next (args, "new-backing", &i)) != NULL)
    if (rules_add (&b->rules, &words, RULE_BACKING, "--new-backing", value,
                   &err) == -1)
      return fail_error (NULL, &err);
  return CODE_OK;
}

/* What the program's rules own stays theirs. */
static void
lend_rules (struct rules *to, const struct rules *from)
{
  to->follow = from->follow;
  to->follow_given = from->follow_given;
  to->follow_fd = from->follow_fd;
  to->passphrases = from->passphrases;
  to->nr_passphrases = from->nr_passphrases;
  to->keyring = from->keyring;
}

static int
open_by_rules (struct new_backing *b, const struct image *i,
               const char *file, const char *format)
{
  const struct qcow2_reference reference = {
    .kind = QCOW2_BACKING_FILE, .name = file, .name_len = strlen (file),
    .format = format, .format_len = strlen (format),
    .encrypted = qcow2_get_info (i->image).encryption !=
      QCOW2_ENCRYPTION_NONE,
  };
  struct qcow2_error err;
  struct gate gate;
  int r;

  lend_rules (&b->rules, &i->ctl->rules);
  b->words = *i->ctl->env.words;
  b->words.backing = "--new-backing";
  b->env = i->ctl->env;
  b->env.words = &b->words;
  b->env.rules = &b->rules;
  gate_init (&gate, &b->env, &i->id, i->folder);
  r = gate_open_file (&gate, &reference, &b->file, &err);
  b->layers = gate.layers;
  if (r == -1)
    return fail_error (i->name, &err);
  if (b->rules.nr_backing > layers_depth (&b->layers))
    return fail_code (CODE_FAILED, "%s stands on %u backing file(s), but "
                      "--new-backing was given %zu times", file,
                      layers_depth (&b->layers) - 1, b->rules.nr_backing - 1);
  return CODE_OK;
}

static int
open_it (struct new_backing *b, const struct image *i, const char *file,
         const char *format)
{
  for (const struct layer *l = i->layers.backing; l; l = l->layers.backing)
    if (is_place (l, &b->rules.backing[0]) &&
        l->key.format == b->rules.formats[0]) {
      layer_get_file (l, &b->file);
      return b->rules.nr_backing == 1 ? CODE_OK
        : fail_code (CODE_FAILED, "%s is in the chain of %s already: "
                     "--new-backing is not needed", file, i->name);
    }
  return open_by_rules (b, i, file, format);
}

int
new_backing_open (struct new_backing *b, const struct image *i,
                  const struct args *args, const char *file)
{
  char *path;
  int code;

  *b = (struct new_backing) { .rules = RULES_INIT };
  if (is_none (file))
    return CODE_OK;
  code = source_check_name (file, false);
  if (code != CODE_OK)
    return code;
  path = source_path (i->name, file);
  if (path == NULL)
    return fail_code (CODE_FAILED, "out of memory");
  code = parse_rules (b, args, path);
  free (path);
  if (code == CODE_OK)
    code = open_it (b, i, file, args_value (args, "backing-fmt"));
  if (code != CODE_OK)
    new_backing_close (b);
  return code;
}

void
new_backing_close (struct new_backing *b)
{
  const struct rules nothing = RULES_INIT;

  layers_release (&b->layers);
  lend_rules (&b->rules, &nothing);
  rules_clear (&b->rules);
}

/* ---- Only the header ---------------------------------------------------- */

int
new_backing_in_header (struct ctl *ctl, const struct args *args,
                       const char *file)
{
  const struct backing_header h = new_backing_header (args, file);
  struct qcow2_error err;
  struct image i;
  int code = new_backing_check (args, file);

  if (code == CODE_OK)
    code = source_check_name (file, true);
  if (code == CODE_OK)
    code = image_open (ctl, &i, args->operands[0], OPEN_TO_CHANGE_HEADER);
  if (code != CODE_OK)
    return code;
  if (qcow2_set_backing (i.image, i.io, &h.file, &h.format, h.flags, &err)
      == -1)
    code = fail_error (i.name, &err);
  return image_close (&i, code);
}
