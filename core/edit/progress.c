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

static int
fail_cancelled (const char *state, struct qcow2_error *err)
{
  return q2_fail (err, QCOW2_ERR_CANCELLED, QCOW2_NO_OFFSET, "%s", state);
}

void
q2_progress_init (struct q2_progress *p, const struct qcow2_progress *wanted)
{
  if (wanted == NULL)
    return;
  p->fn = wanted->fn;
  p->opaque = wanted->opaque;
  p->last = wanted->last;
}

int
q2_progress_add (struct q2_progress *p, uint64_t more, const char *state,
                 struct qcow2_error *err)
{
  unsigned percent = 100;

  p->done += more;
  if (p->total > 0)
    percent = (unsigned) q2_min (100, (uint64_t) ((double) p->done /
                                                  (double) p->total * 100));
  return p->fn == NULL || p->fn (p->opaque, percent) ? 0
    : fail_cancelled (state, err);
}

int
q2_progress_last (struct q2_progress *p, const char *state,
                  struct qcow2_error *err)
{
  if (q2_progress_add (p, 0, state, err) == -1)
    return -1;
  return p->last == NULL || p->last (p->opaque) ? 0
    : fail_cancelled (state, err);
}
