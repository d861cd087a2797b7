/* SPDX-License-Identifier: BSD-3-Clause */
/* progress.c - how far a command is, and its end if the user wants that.
 *
 * Owns      the handlers of signals.
 * Method    a handler only notes that its signal came; the engine asks now and
 *           then, at points where it can end without harm.
 * Locks     none.
 */
#include "config.h"

#include "progress.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t want_end, want_report;

static void
note_end (int sig)
{
  (void) sig;
  want_end = 1;
}

static void
note_report (int sig)
{
  (void) sig;
  want_report = 1;
}

void
progress_expect (void)
{
  struct sigaction report = {
    .sa_handler = note_report, .sa_flags = SA_RESTART,
  };

  sigemptyset (&report.sa_mask);
  sigaction (SIGUSR1, &report, NULL);
}

void
progress_begin (struct progress *p, const struct ctl *ctl)
{
  /* Once: the second signal does what it did before. */
  struct sigaction end = {
    .sa_handler = note_end, .sa_flags = SA_RESTART | SA_RESETHAND,
  };

  *p = (struct progress) { .shown = ctl->progress, .last = UINT32_MAX };
  sigemptyset (&end.sa_mask);
  sigaction (SIGINT, &end, NULL);
  sigaction (SIGTERM, &end, NULL);
  sigaction (SIGHUP, &end, NULL);
}

bool
progress_report (void *opaque, unsigned percent)
{
  struct progress *const p = opaque;

  if (p->shown && percent != p->last) {
    fprintf (stderr, "    (%u/100%%)\r", percent);
    p->last = percent;
  }
  if (want_report) {
    want_report = 0;
    fprintf (stderr, "    (%u/100%%)\n", percent);
  }
  return !want_end;
}

void
progress_end (struct progress *p)
{
  if (p->shown && p->last != UINT32_MAX)
    fprintf (stderr, "\n");
  p->shown = false;
}
