/* SPDX-License-Identifier: BSD-3-Clause */
/* change.c - how a request that changes the disk waits.
 *
 * Owns      the rule that nobody waits while he is in flight: releasing space
 *           waits for those who are.  What was read of the image before is
 *           out of date afterwards.
 * Locks     see each.
 */
#include "config.h"

#include "write/writer.h"

int
q2_change_commit (struct q2_change *c, struct qcow2_error *err)
{
  int r;

  q2_change_leave (c);
  r = q2_writer_commit (c->w, c->io, err);
  q2_change_enter (c);
  return r;
}

bool
q2_change_hold (struct q2_change *c, struct q2_range *range, uint64_t first,
                uint64_t end)
{
  struct q2_writer *const w = c->w;

  if (q2_ranges_trylock (&w->clusters, range, first, end))
    return true;
  q2_change_leave (c);
  q2_ranges_wait (&w->clusters, first, end);
  q2_change_enter (c);
  return false;
}

int
q2_change_hold_for_new (struct q2_change *c, struct q2_range *range,
                        uint64_t first, uint64_t end, bool *ret_held,
                        struct qcow2_error *err)
{
  *ret_held = false;
  if (q2_writer_is_pressed (c->w))
    return q2_change_commit (c, err);
  *ret_held = q2_change_hold (c, range, first, end);
  return 0;
}
