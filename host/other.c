/* SPDX-License-Identifier: BSD-3-Clause */
/* other.c - lending the way to another file.
 *
 * Owns      nothing: what is lent is the file's own io.
 * Locks     none; 'io' is constant.
 */
#include "config.h"

#include "host/other.h"

int
other_borrow (void *opaque, struct qcow2_io *ret_io)
{
  const struct other *const other = opaque;

  *ret_io = other->io;
  return 0;
}

void
other_give_back (struct qcow2_io *io)
{
}
