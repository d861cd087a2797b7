/* SPDX-License-Identifier: BSD-3-Clause */
/* peek.c - an image that is opened only to see what it has inside.
 *
 * Owns      struct peek.
 * Method    a client that asks for the list of exports has no connection to
 *           one yet, and then there are only shared contexts to be had.  The
 *           image is opened as a connection would open it, and given back,
 *           so that who connects to it next finds it open.
 * Locks     none: a peek belongs to one thread.
 */
#include "config.h"

#include "filter.h"

#include <string.h>

static int
open_shared (struct peek *p)
{
  const enum access_needs needs = access_open (&p->access);

  if (needs == ACCESS_FAILED)
    return -1;
  if (needs != ACCESS_NEEDS_NOTHING) {
    p->next = shared_open (p->access.exportname,
                           needs == ACCESS_NEEDS_READER);
    if (p->next == NULL)
      return -1;
  }
  if (access_prepare (&p->access, p->next) == -1)
    return -1;
  p->name = p->access.disk->name;
  p->image = p->access.disk->image;
  p->io = p->access.io;
  return 0;
}

int
peek_open (struct peek *p, const char *exportname, bool readonly)
{
  *p = (struct peek) { .image = NULL };
  if (!writer_possible ())
    return -1;
  if (access_init (&p->access, exportname, strlen (exportname), readonly)
      == -1)
    return -1;
  if (open_shared (p) == 0)
    return 0;
  peek_close (p);
  return -1;
}

void
peek_close (struct peek *p)
{
  access_end (&p->access, p->image ? &p->access.below.io : NULL);
  if (p->next)
    shared_close (p->next);
  access_destroy (&p->access);
}
