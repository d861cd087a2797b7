/* SPDX-License-Identifier: BSD-3-Clause */
/* again.c - changes that an open view is in the way of.
 *
 * Owns      for how long they are tried.
 * Method    a client that has disconnected is there until its thread in the
 *           server has noticed, which takes long on a busy machine.  So
 *           somebody who copies a snapshot and deletes it then, one command
 *           after the other, would be refused now and then because of himself.
 *           Such a change is tried for a few seconds before it is refused; if
 *           it takes long, since others are held back each time, only twice.
 * Locks     none here.
 */
#include "config.h"

#include "control/again.h"

#include "report.h"
#include "control/roster.h"

#include <time.h>

#define PATIENCE_MS 3000
#define LONGEST_ATTEMPT_MS 500
#define FIRST_NAP_MS 10
#define LONGEST_NAP_MS 400

bool
again_in_a_moment (struct again *again)
{
  const uint64_t now = roster_clock ();

  if (roster_is_ending ())
    return false;
  if (again->nap == 0)
    *again = (struct again) { .since = now, .nap = FIRST_NAP_MS };
  else if (now - again->since >= PATIENCE_MS ||
           now - again->last >= LONGEST_ATTEMPT_MS)
    return false;
  else
    again->nap = 2 * again->nap < LONGEST_NAP_MS ? 2 * again->nap
      : LONGEST_NAP_MS;
  nanosleep (&(struct timespec) { .tv_nsec = again->nap * 1000000l }, NULL);
  again->last = roster_clock ();
  return true;
}

bool
again_soon (struct again *again, const struct qcow2_error *err)
{
  if (err->advice != QCOW2_ADVICE_CLOSE_VIEWS)
    return false;
  (void) holds (err->kind == QCOW2_ERR_BUSY);
  return again_in_a_moment (again);
}
