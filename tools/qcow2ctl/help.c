/* SPDX-License-Identifier: BSD-3-Clause */
/* help.c - what --help and --version print.
 *
 * Owns      the layout.
 * Method    everything comes from the tables that the parser uses, so that
 *           they cannot differ.
 * Locks     none.
 */
#include "config.h"

#include "help.h"

#include "options.h"
#include "output.h"

#include <stdio.h>
#include <string.h>

/* The column where the text begins. */
#define COLUMN 26

static void
print_option (const struct option_spec *o)
{
  const char letter[] = { '-', o->letter, ',', '\0' };
  const char *help = o->help;
  char left[80];

  snprintf (left, sizeof left, "  %-3s --%s%s%s", o->letter ? letter : "",
            o->name, o->value ? " " : "", o->value ? o->value : "");
  printf ("%-*s", COLUMN, left);
  if (strlen (left) >= COLUMN)
    printf ("\n%*s", COLUMN, "");
  for (;;) {
    const size_t n = strcspn (help, "\n");

    printf ("%.*s\n", (int) n, help);
    if (help[n] == '\0')
      return;
    help += n + 1;
    printf ("%*s", COLUMN, "");
  }
}

/* A command can have one of its own with a name that all have. */
static bool
is_replaced (const struct option_spec *own, const struct option_spec *o)
{
  for (; own && own->name; ++own)
    if (own != o && strcmp (own->name, o->name) == 0)
      return true;
  return false;
}

static void
print_options (const char *title, const struct option_spec *own,
               const struct option_spec *list)
{
  if (list == NULL || list->name == NULL)
    return;
  printf ("\n%s:\n", title);
  for (; list->name; ++list)
    if (!is_replaced (own, list))
      print_option (list);
}

int
help_command (const struct command *c)
{
  printf ("Usage: qcow2ctl %s [options] %s\n\n%s.\n", c->name, c->operands,
          c->summary);
  print_options ("Options", NULL, c->options);
  if (c->more_help)
    printf ("\n%s", c->more_help);
  if (c->takes & TAKES_SHARE)
    print_options ("Locks", c->options, options_of_group (TAKES_SHARE));
  if (c->takes & TAKES_NO_LOCK)
    print_options ("Locks", c->options, options_of_group (TAKES_NO_LOCK));
  if (c->takes & TAKES_SOCKET)
    print_options ("Images that are being served", c->options,
                   options_of_group (TAKES_SOCKET));
  if (c->takes & TAKES_LAYERS)
    print_options ("Other files, which are opened only if these say so",
                   c->options, options_of_group (TAKES_LAYERS));
  print_options ("General", c->options, options_of_group (0));
  printf ("\nIMAGE is a path, or the NBD URI of a server of the bytes of the "
          "image file.\nSee qcow2ctl(1) for details.\n");
  return CODE_OK;
}

int
help_all (const struct command *const *commands)
{
  printf ("Usage: qcow2ctl [-q|-p] [--output human|json] COMMAND [options] "
          "IMAGE\n\nCommands:\n");
  for (; *commands; ++commands)
    printf ("  %-*s%s\n", COLUMN - 2, (*commands)->name, (*commands)->summary);
  print_options ("Options", NULL, options_of_group (0));
  printf ("  -V, --version%*sshow the version\n", COLUMN - 15, "");
  printf ("\n'qcow2ctl COMMAND --help' tells more about a command.\n\n"
          "Exit status: 0 all is well, 1 an error, 4 the image is in use, 5 "
          "something does\nnot exist, or exists already; of check also 2 "
          "corrupt, 3 leaks, 63 not checked.\n");
  return CODE_OK;
}

int
help_version (void)
{
  printf ("qcow2ctl %s\n", qcow2_version ());
  printf ("zlib=%s zstd=%s encryption=%s json=%s\n",
          qcow2_has_zlib () ? "yes" : "no", qcow2_has_zstd () ? "yes" : "no",
          qcow2_has_nettle () ? "yes" : "no",
          output_has_json () ? "yes" : "no");
  return CODE_OK;
}

static void
complete_options (const struct option_spec *own,
                  const struct option_spec *list)
{
  for (; list && list->name; ++list)
    if (!is_replaced (own, list))
      printf (" --%s%s", list->name, list->value ? "=" : "");
}

int
help_complete (const struct command *const *commands)
{
  for (; *commands; ++commands) {
    printf ("%s\t", (*commands)->name);
    complete_options (NULL, (*commands)->options);
    for (unsigned group = 1; group <= TAKES_LAST; group <<= 1)
      if ((*commands)->takes & group)
        complete_options ((*commands)->options, options_of_group (group));
    complete_options ((*commands)->options, options_of_group (0));
    printf ("\n");
  }
  return CODE_OK;
}
