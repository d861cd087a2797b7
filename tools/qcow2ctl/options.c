/* SPDX-License-Identifier: BSD-3-Clause */
/* options.c - from the command line to struct ctl and struct args.
 *
 * Owns      the options that several commands have, and how options are
 *           written: --name VALUE, --name=VALUE, -x VALUE, -xVALUE, -xy; "--"
 *           ends them.
 * Method    options that many commands have are done here: they change struct
 *           ctl.  Those of one command end up in struct args as they are.
 * Locks     none.
 */
#include "config.h"

#include "options.h"

#include "host/given.h"
#include "output.h"
#include "terminal.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Groups ------------------------------------------------------------- */

static const struct option_spec general_options[] = {
  { "format", 'f', "qcow2",
    "what IMAGE is; there is no other, and nothing is\n"
    "ever guessed" },
  { "help", 'h', NULL, "show this help" },
  { "output", 0, "human|json", "how results are printed" },
  { "progress", 'p', NULL, "show how far it is, on the standard error" },
  { "quiet", 'q', NULL, "print nothing but errors" },
  { NULL, 0, NULL, NULL }
};

static const struct option_spec first_options[] = {
  { "version", 'V', NULL, "show the version" },
  { "complete", 0, NULL, "print what is there to complete" },
  { NULL, 0, NULL, NULL }
};

static const struct option_spec layer_options[] = {
  { "backing", 0, "FILE",
    "the backing file: a path or an NBD URI; once more\n"
    "for the one below it, and so on" },
  { "backing-format", 0, "raw|qcow2",
    "its format, where the image does not say so" },
  { "data-file", 0, "FILE", "the data file" },
  { "follow", 0, "DIR",
    "open the files that images name, beneath DIR" },
  { "passphrase", 0, "+FILE|-FD|-",
    "of an encrypted image: the first line of a file,\n"
    "of a descriptor, or asked for; once more for the\n"
    "next encrypted image below it" },
  { NULL, 0, NULL, NULL }
};

static const struct option_spec share_options[] = {
  { "force-share", 'U', NULL,
    "also if another program is writing to the image;\n"
    "what is shown may be inconsistent then" },
  { NULL, 0, NULL, NULL }
};

static const struct option_spec no_lock_options[] = {
  { "no-lock", 0, NULL,
    "do not lock files; needed to change an image on an\n"
    "NBD server, since NBD has no locks" },
  { NULL, 0, NULL, NULL }
};

static const struct option_spec socket_options[] = {
  { "socket", 'S', "SOCKET",
    "the control socket of a server that has the image\n"
    "open (qcow2-control); IMAGE is the name of an export" },
  { NULL, 0, NULL, NULL }
};

const struct option_spec *
options_of_group (unsigned group)
{
  switch (group) {
  case 0:
    return general_options;
  case TAKES_LAYERS:
    return layer_options;
  case TAKES_SHARE:
    return share_options;
  case TAKES_NO_LOCK:
    return no_lock_options;
  case TAKES_SOCKET:
    return socket_options;
  default:
    return NULL;
  }
}

/* ---- What options of several commands do -------------------------------- */

static int
check_format (const struct command *command, const char *value)
{
  return strcmp (value, "qcow2") == 0 ? CODE_OK
    : fail_usage (command, "the image cannot be '%s': this program is for "
                  "qcow2 images", value);
}

static int
set_output (struct ctl *ctl, const struct command *command, const char *value)
{
  if (strcmp (value, "json") != 0 && strcmp (value, "human") != 0)
    return fail_usage (command, "--output must be human or json, not '%s'",
                       value);
  ctl->json = strcmp (value, "json") == 0;
  if (ctl->json && !output_has_json ())
    return fail_code (CODE_FAILED, "--output json: this program was built "
                      "without the library jansson, which prints JSON");
  return CODE_OK;
}

static int
set_general (struct ctl *ctl, const struct command *command,
             const struct option_spec *spec, const char *value)
{
  switch (spec->name[0]) {
  case 'f':
    return check_format (command, value);
  case 'h':
    return OPTIONS_HELP;
  case 'V':
  case 'v':
    return OPTIONS_VERSION;
  case 'c':
    return OPTIONS_COMPLETE;
  case 'o':
    return set_output (ctl, command, value);
  case 'p':
    ctl->progress = true;
    return CODE_OK;
  default:
    ctl->quiet = true;
    return CODE_OK;
  }
}

static int
set_layer (struct ctl *ctl, const struct option_spec *spec, const char *value)
{
  static const struct rule_words words = {
    .ask = terminal_ask, .program = "program",
  };
  static const enum rule_option rules[] = {
    RULE_BACKING, RULE_BACKING_FORMAT, RULE_DATA_FILE, RULE_FOLLOW,
    RULE_PASSPHRASE,
  };
  struct qcow2_error err;
  char key[40];

  snprintf (key, sizeof key, "--%s", spec->name);
  if (rules_add (&ctl->rules, &words, rules[spec - layer_options], key, value,
                 &err) == 0)
    return CODE_OK;
  return fail_error (NULL, &err);
}

static int
note (struct args *args, const struct option_spec *spec, const char *value)
{
  args->specs[args->nr_options] = spec;
  args->values[args->nr_options++] = value;
  return CODE_OK;
}

/* Whether the option is one of that list. */
static bool
is_in (const struct option_spec *spec, const struct option_spec *list)
{
  for (; list && list->name; ++list)
    if (list == spec)
      return true;
  return false;
}

static int
set (struct ctl *ctl, struct args *args, const struct option_spec *spec,
     const char *value)
{
  if (is_in (spec, general_options) || is_in (spec, first_options))
    return set_general (ctl, args ? args->command : NULL, spec, value);
  if (is_in (spec, layer_options))
    return set_layer (ctl, spec, value);
  if (is_in (spec, share_options)) {
    ctl->lock = false;
    return CODE_OK;
  }
  if (is_in (spec, no_lock_options)) {
    ctl->lock = false;
    ctl->no_lock = true;
    return CODE_OK;
  }
  if (is_in (spec, socket_options)) {
    ctl->socket = value;
    return CODE_OK;
  }
  /* Only commands have others. */
  assert (args != NULL);
  return note (args, spec, value);
}

/* ---- Finding an option -------------------------------------------------- */

/* By name, of 'len' bytes, or by letter if name is NULL.  What a command has
 * of its own comes before what all have.
 */
static const struct option_spec *
find_in (const struct option_spec *list, const char *name, size_t len,
         char letter)
{
  for (; list && list->name; ++list)
    if (name != NULL ? strlen (list->name) == len &&
        strncmp (list->name, name, len) == 0 : list->letter == letter)
      return list;
  return NULL;
}

static const struct option_spec *
find (const struct command *command, const char *name, size_t len, char letter)
{
  const struct option_spec *spec =
    find_in (command ? command->options : first_options, name, len, letter);

  if (command == NULL && spec == NULL)
    spec = find_in (socket_options, name, len, letter);
  for (unsigned group = 1; command && !spec && group <= TAKES_LAST;
       group <<= 1)
    if (command->takes & group)
      spec = find_in (options_of_group (group), name, len, letter);
  return spec ? spec : find_in (general_options, name, len, letter);
}

/* ---- Reading words ------------------------------------------------------ */

struct words {
  char **argv;
  size_t argc, i;               /* the next one */
};

static int
parse_long (struct ctl *ctl, struct words *w, struct args *args)
{
  const struct command *const command = args ? args->command : NULL;
  const char *const word = w->argv[w->i++] + 2;
  const size_t len = strcspn (word, "=");
  const struct option_spec *const spec = find (command, word, len, 0);
  const char *value = "";

  if (spec == NULL)
    return fail_usage (command, "there is no option --%.*s", (int) len, word);
  if (spec->value == NULL && word[len] == '=')
    return fail_usage (command, "--%s takes no value", spec->name);
  if (spec->value != NULL && word[len] == '=')
    value = word + len + 1;
  else if (spec->value != NULL && w->i < w->argc)
    value = w->argv[w->i++];
  else if (spec->value != NULL)
    return fail_usage (command, "--%s needs a value: %s", spec->name,
                       spec->value);
  return set (ctl, args, spec, value);
}

static int
parse_letters (struct ctl *ctl, struct words *w, struct args *args)
{
  const struct command *const command = args ? args->command : NULL;
  const char *letters = w->argv[w->i++] + 1;
  int code = CODE_OK;

  while (*letters && code == CODE_OK) {
    const char letter = *letters++;
    const struct option_spec *const spec = find (command, NULL, 0, letter);
    const char *value = "";

    if (spec == NULL)
      return fail_usage (command, "there is no option -%c", letter);
    if (spec->value != NULL) {
      value = *letters ? letters : w->i < w->argc ? w->argv[w->i++] : NULL;
      letters = "";
    }
    if (value == NULL)
      return fail_usage (command, "-%c needs a value: %s", letter,
                         spec->value);
    code = set (ctl, args, spec, value);
  }
  return code;
}

static bool
is_option (const char *word)
{
  return word[0] == '-' && word[1] != '\0';
}

static int
parse_option (struct ctl *ctl, struct words *w, struct args *args)
{
  return w->argv[w->i][1] == '-' ? parse_long (ctl, w, args)
    : parse_letters (ctl, w, args);
}

int
options_parse_first (struct ctl *ctl, char **argv, size_t argc,
                     size_t *ret_done)
{
  struct words w = { argv, argc, 0 };
  int code = CODE_OK;

  while (code == CODE_OK && w.i < argc && is_option (argv[w.i]))
    code = parse_option (ctl, &w, NULL);
  *ret_done = w.i;
  if (code == CODE_OK && w.i == argc)
    return fail_usage (NULL, "no command was given");
  return code;
}

/* "-1G" is no option where a command takes a change of a size. */
static bool
is_operand (const struct command *command, const char *word)
{
  return !is_option (word) ||
    (strchr (command->operands, '-') != NULL &&
     word[1] >= '0' && word[1] <= '9');
}

/* The server opened the image: there is nothing to say about files. */
static int
check_socket (const struct ctl *ctl, const struct args *args)
{
  const struct command *const c = args->command;
  const struct rules *const r = &ctl->rules;

  if (ctl->socket == NULL)
    return (c->takes & NEEDS_SOCKET) == 0 ? CODE_OK
      : fail_usage (c, "this is about a server: give its control socket, "
                    "-S SOCKET");
  if ((c->takes & TAKES_SOCKET) == 0)
    return fail_usage (c, "that cannot be done with an image that a server "
                       "has open (-S)");
  if (!ctl->lock || r->nr_backing > 0 || r->nr_formats > 0 || r->follow ||
      r->data_file || r->nr_passphrases > 0)
    return fail_usage (c, "with -S there are no options for locks and other "
                       "files: the server has the image open");
  return CODE_OK;
}

/* The name of an export may be empty. */
static int
check_operands (const struct ctl *ctl, const struct args *args)
{
  const struct command *const c = args->command;

  if (args->nr_operands < c->min_operands)
    return fail_usage (c, "something is missing: %s %s", c->name, c->operands);
  if (args->nr_operands > c->max_operands)
    return fail_usage (c, "'%s' is too much: %s %s",
                       args->operands[c->max_operands], c->name, c->operands);
  for (size_t i = 0; i < args->nr_operands; ++i)
    if (args->operands[i] != NULL && args->operands[i][0] == '\0' &&
        (ctl->socket == NULL || i > 0))
      return fail_usage (c, "an empty word is no operand: %s %s", c->name,
                         c->operands);
  return CODE_OK;
}

int
options_parse (struct ctl *ctl, char **argv, size_t argc, struct args *args)
{
  struct words w = { argv, argc, 0 };
  bool only_operands = false;
  int code = CODE_OK;

  args->operands = calloc (argc + 1, sizeof *args->operands);
  /* "-xyz" may be several. */
  for (size_t i = 0; i < argc; ++i)
    args->nr_options += strlen (argv[i]);
  args->specs = calloc (args->nr_options + 1, sizeof *args->specs);
  args->values = calloc (args->nr_options + 1, sizeof *args->values);
  args->nr_options = 0;
  if (args->operands == NULL || args->specs == NULL || args->values == NULL)
    return fail_code (CODE_FAILED, "out of memory");
  while (code == CODE_OK && w.i < argc)
    if (!only_operands && strcmp (argv[w.i], "--") == 0) {
      only_operands = true;
      w.i++;
    }
    else if (only_operands || is_operand (args->command, argv[w.i]))
      args->operands[args->nr_operands++] = argv[w.i++];
    else
      code = parse_option (ctl, &w, args);
  if (code == CODE_OK)
    code = check_socket (ctl, args);
  return code == CODE_OK ? check_operands (ctl, args) : code;
}

void
options_free (struct args *args)
{
  free (args->operands);
  free (args->specs);
  free (args->values);
}

const char *
args_next (const struct args *args, const char *name, size_t *i)
{
  while (*i < args->nr_options) {
    const size_t n = (*i)++;

    if (strcmp (args->specs[n]->name, name) == 0)
      return args->values[n];
  }
  return NULL;
}

const char *
args_value (const struct args *args, const char *name)
{
  const char *value, *last = NULL;
  size_t i = 0;

  while ((value = args_next (args, name, &i)) != NULL)
    last = value;
  return last;
}
