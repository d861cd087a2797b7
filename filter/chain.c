/* SPDX-License-Identifier: BSD-3-Clause */
/* chain.c - which filters are above and below us.
 *
 * Owns      nothing: it reads the command line of the server.
 * Method    nbdkit does not tell a filter what is below it, but Linux tells a
 *           process how it was started.  The filters stand there from the
 *           top to the bottom, as --filter=NAME or --filter NAME, where
 *           NAME may be a file, and getopt accepts the option shortened.
 *           What is found is there; that nothing is found proves nothing:
 *           there may be no /proc.
 *
 *           Which of them is us is told by the name under which nbdkit has
 *           loaded this code.
 * Locks     none: for config_complete.
 */
#include "config.h"

#include "filter.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_COMMAND_LINE (4u << 20)
/* Shorter, the option would mean something else, too. */
#define MIN_OPTION 2

/* The arguments one after the other, each with its terminator; NULL if they
 * cannot be had.
 */
static char *
read_command_line (size_t *ret_size)
{
  const int fd = open ("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  char *const text = malloc (MAX_COMMAND_LINE + 1);
  size_t size = 0;
  ssize_t n = 0;

  while (fd != -1 && text != NULL && size < MAX_COMMAND_LINE &&
         (n = read (fd, text + size, MAX_COMMAND_LINE - size)) > 0)
    size += n;
  if (fd != -1)
    close (fd);
  if (size == 0 || n == -1) {
    free (text);
    return NULL;
  }
  text[size] = '\0';
  *ret_size = size;
  return text;
}

/* What follows "--filter=", or "" for "--filter"; NULL for all else. */
static const char *
filter_option (const char *argument)
{
  const char *const end = argument + strcspn (argument, "=");
  const size_t len = end - argument;

  if (len < 2 + MIN_OPTION || len > strlen ("--filter") ||
      strncmp (argument, "--filter", len) != 0)
    return NULL;
  return *end == '=' ? end + 1 : end;
}

/* Whether "--filter=value" is the filter of that name. */
static bool
is_filter (const char *value, const char *name)
{
  const char *const file = strrchr (value, '/');
  char usual[80];

  snprintf (usual, sizeof usual, "nbdkit-%s-filter.so", name);
  return strcmp (value, name) == 0 ||
    strcmp (file ? file + 1 : value, usual) == 0;
}

static bool
is_us (const char *value)
{
  Dl_info info;

  return is_filter (value, "qcow2") ||
    (dladdr (read_command_line, &info) != 0 && info.dli_fname != NULL &&
     strcmp (value, info.dli_fname) == 0);
}

static enum chain_place
find (const char *text, size_t size, const char *name)
{
  bool passed_us = false;
  enum chain_place found = CHAIN_NOT_FOUND;

  for (const char *p = text; p < text + size; p += strlen (p) + 1) {
    const char *value = filter_option (p);

    if (strcmp (p, "--") == 0)  /* what follows are not options */
      break;
    if (value == NULL)
      continue;
    if (*value == '\0') {
      p += strlen (p) + 1;
      if (p >= text + size)
        break;
      value = p;
    }
    if (is_us (value))
      passed_us = true;
    else if (is_filter (value, name))
      found = passed_us ? CHAIN_BELOW : CHAIN_ABOVE;
  }
  return passed_us ? found : CHAIN_NOT_FOUND;
}

enum chain_place
chain_find (const char *name)
{
  size_t size;
  char *const text = read_command_line (&size);
  const enum chain_place r = text ? find (text, size, name)
    : CHAIN_NOT_FOUND;

  free (text);
  return r;
}
