/* SPDX-License-Identifier: BSD-3-Clause */
/* main.c - the table of commands, and which of them runs.
 *
 * Owns      struct ctl, from the first option to the exit code.
 * Method    options that all commands have may stand before the command and
 *           behind it.  A command of two words, "snapshot list", is found
 *           before one of one word.
 * Locks     none.
 */
#include "config.h"

#include "ctl.h"

#include "host/given.h"
#include "commands.h"
#include "embed.h"
#include "help.h"
#include "options.h"
#include "output.h"
#include "progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command *const commands[] = {
  &cmd_amend,
  &cmd_bitmap_add,
  &cmd_bitmap_clear,
  &cmd_bitmap_disable,
  &cmd_bitmap_enable,
  &cmd_bitmap_list,
  &cmd_bitmap_merge,
  &cmd_bitmap_remove,
  &cmd_cancel,
  &cmd_check,
  &cmd_checkpoint,
  &cmd_commit,
  &cmd_create,
  &cmd_empty,
  &cmd_flush,
  &cmd_info,
  &cmd_jobs,
  &cmd_key_add,
  &cmd_key_change,
  &cmd_key_list,
  &cmd_key_remove,
  &cmd_map,
  &cmd_measure,
  &cmd_rebase,
  &cmd_resize,
  &cmd_set_backing,
  &cmd_snapshot_apply,
  &cmd_snapshot_create,
  &cmd_snapshot_delete,
  &cmd_snapshot_list,
  &cmd_snapshot_vmstate,
  &cmd_stats,
  NULL
};

/* The command that the operands begin with, and how many of them are its name;
 * NULL and says so if there is none.
 */
static const struct command *
find_command (char **words, size_t nr, size_t *ret_words)
{
  for (size_t i = 0; commands[i]; ++i) {
    const char *const name = commands[i]->name;
    const size_t first = strcspn (name, " ");

    if (strlen (words[0]) != first || strncmp (words[0], name, first) != 0)
      continue;
    if (name[first] == '\0' ||
        (nr > 1 && strcmp (words[1], name + first + 1) == 0)) {
      *ret_words = name[first] == '\0' ? 1 : 2;
      return commands[i];
    }
  }
  return NULL;
}

/* "snapshot" alone, or with a word that is unknown. */
static int
fail_no_command (char **words, size_t nr)
{
  const size_t len = strlen (words[0]);
  bool half = false;

  for (size_t i = 0; commands[i]; ++i)
    half |= strncmp (commands[i]->name, words[0], len) == 0 &&
      commands[i]->name[len] == ' ';
  if (half && nr == 1)
    return fail_usage (NULL, "'%s' needs another word: what to do", words[0]);
  return fail_usage (NULL, "there is no command '%s%s%s'", words[0],
                     half ? " " : "", half ? words[1] : "");
}

static int
run_command (struct ctl *ctl, char **argv, size_t argc)
{
  struct args args = { .command = NULL };
  size_t words = 0;
  int code;

  args.command = find_command (argv, argc, &words);
  if (args.command == NULL)
    return fail_no_command (argv, argc);
  code = options_parse (ctl, argv + words, argc - words, &args);
  if (code == CODE_OK)
    code = args.command->run (ctl, &args);
  else if (code == OPTIONS_HELP)
    code = help_command (args.command);
  options_free (&args);
  return code;
}

int
main (int argc, char **argv)
{
  struct ctl ctl = { .lock = true, .rules = RULES_INIT };
  size_t done = 0;
  int code;

  progress_expect ();
  embed_init (&ctl);
  code = options_parse_first (&ctl, argv + 1, argc - 1, &done);
  if (code == OPTIONS_HELP)
    code = help_all (commands);
  else if (code == OPTIONS_VERSION)
    code = help_version ();
  else if (code == OPTIONS_COMPLETE)
    code = help_complete (commands);
  else if (code == CODE_OK)
    code = run_command (&ctl, argv + 1 + done, argc - 1 - done);
  rules_clear (&ctl.rules);
  return output_finish (code);
}
