/* SPDX-License-Identifier: BSD-3-Clause */
/* terminal.c - asking for a passphrase.
 *
 * Owns      the settings of the terminal while a line is typed in.
 * Method    the terminal of the process, wherever stdin comes from; without
 *           one there is nobody to ask.
 * Locks     none.
 */
#include "config.h"

#include "terminal.h"

#include "host/error.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>

/* Without what the newline stands for. */
static char *
read_line (FILE *tty)
{
  char *line = NULL;
  size_t size = 0;
  ssize_t n;

  n = getline (&line, &size, tty);
  if (n > 0 && line[n - 1] == '\n')
    line[--n] = '\0';
  if (n > 0)
    return line;
  free (line);
  return NULL;
}

/* What a signal has to put right before it ends the program. */
static int hidden_fd;
static struct termios shown;

static void
show_again (int sig)
{
  tcsetattr (hidden_fd, TCSANOW, &shown);
  raise (sig);                  /* which does what it did before */
}

static const int ending[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
#define NR_ENDING (sizeof ending / sizeof ending[0])

static void
hide (int fd, const struct termios *now, struct sigaction *old)
{
  struct termios hidden = *now;
  struct sigaction action = {
    .sa_handler = show_again, .sa_flags = SA_RESETHAND | SA_NODEFER,
  };

  hidden_fd = fd;
  shown = *now;
  sigemptyset (&action.sa_mask);
  for (size_t i = 0; i < NR_ENDING; ++i)
    sigaction (ending[i], &action, &old[i]);
  hidden.c_lflag &= ~ECHO;
  tcsetattr (fd, TCSAFLUSH, &hidden);
}

static void
show (int fd, const struct sigaction *old)
{
  tcsetattr (fd, TCSAFLUSH, &shown);
  for (size_t i = 0; i < NR_ENDING; ++i)
    sigaction (ending[i], &old[i], NULL);
}

int
terminal_ask (const char *key, char **ret_typed, struct qcow2_error *err)
{
  FILE *const tty = fopen ("/dev/tty", "r+e");
  struct sigaction actions[NR_ENDING];
  struct termios old;

  if (tty == NULL || tcgetattr (fileno (tty), &old) == -1) {
    fail_with (err, QCOW2_ERR_IO, errno, "%s -: there is no terminal to ask "
               "on: %s", key, strerror (errno));
    if (tty != NULL)
      fclose (tty);
    return -1;
  }
  setvbuf (tty, NULL, _IONBF, 0);       /* no copy stays in a buffer */
  hide (fileno (tty), &old, actions);
  /* The stream is read from only: C permits no output right after input. */
  dprintf (fileno (tty), "passphrase: ");
  *ret_typed = read_line (tty);
  show (fileno (tty), actions);
  dprintf (fileno (tty), "\n");
  fclose (tty);
  if (*ret_typed != NULL)
    return 0;
  return fail_with (err, QCOW2_ERR_IO, EIO, "%s -: nothing was typed in", key);
}
