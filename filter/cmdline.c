/* SPDX-License-Identifier: BSD-3-Clause */
/* cmdline.c - which options nbdkit was started with.
 *
 * Owns      nothing.
 * Method    nbdkit does not tell its filters, so its command line is read
 *           from /proc, as far as nbdkit looks for options.  Ask only where it
 *           is safe to believe that an option was given.
 * Locks     none.
 */
#include "config.h"

#include "cmdline.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_COMMAND_LINE (1 << 20)

/* Options of nbdkit that take a value; the rest of their word is that. */
static const char with_value[] = "DegipPtuU";

static bool
is_in_word (const char *word, char letter, const char *prefix)
{
  /* nbdkit takes beginnings of options, as long as they are unique. */
  if (strncmp (word, prefix, strlen (prefix)) == 0)
    return true;
  if (word[0] != '-' || word[1] == '-')
    return false;
  for (const char *c = word + 1; *c != '\0'; ++c) {
    if (*c == letter)
      return true;
    if (strchr (with_value, *c) != NULL)
      return false;
  }
  return false;
}

static size_t
read_command_line (char *bytes, size_t len)
{
  const int fd = open ("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
  size_t done = 0;
  ssize_t n;

  if (fd == -1)
    return 0;
  while (done < len && (n = read (fd, bytes + done, len - done)) > 0)
    done += (size_t) n;
  close (fd);
  return done;
}

bool
cmdline_has_option (char letter, const char *prefix)
{
  char *const bytes = malloc (MAX_COMMAND_LINE);
  const size_t len = bytes ? read_command_line (bytes, MAX_COMMAND_LINE) : 0;
  bool found = len == 0 || len == MAX_COMMAND_LINE;

  for (size_t at = 0; at < len && !found; ) {
    const char *const word = bytes + at;
    const size_t end = strnlen (word, len - at);

    if (at + end == len || strcmp (word, "--") == 0)
      break;
    found = is_in_word (word, letter, prefix);
    at += end + 1;
  }
  free (bytes);
  return found;
}
