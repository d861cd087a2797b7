/* SPDX-License-Identifier: BSD-3-Clause */
/* progress.c - tells the caller how far a change has come.
 *
 * Owns      the percentages, and cancelling.
 * Locks     none: the thread that makes the change calls.
 */
#include "config.h"

#include "edit/progress.h"

#include "base/bits.h"
#include "base/error.h"

int
q2_progress_add (struct q2_progress *p, uint64_t more, const char *state,
                 struct qcow2_error *err)
{
  unsigned percent = 100;

  p->done += more;
  if (p->total > 0)
    percent = (unsigned) q2_min (100, (uint64_t) ((double) p->done /
                                                  (double) p->total * 100));
  if (p->fn == NULL || p->fn (p->opaque, percent))
    return 0;
  return q2_fail (err, QCOW2_ERR_CANCELLED, QCOW2_NO_OFFSET, "%s", state);
}
