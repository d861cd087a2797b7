/* SPDX-License-Identifier: BSD-3-Clause */
/* shared.c - contexts that belong to no connection.
 *
 * Owns      the opening and closing of them.
 * Method    a shared context may be used by any thread, as far as the
 *           server's thread model allows several at once; the server takes
 *           none of its locks for it.  It has no export name before nbdkit
 *           1.44, and some plugins do not survive that: callers open one
 *           only where the plugin is known to ignore names.
 * Locks     under open_lock one context at a time is opened or closed, since
 *           nbdkit keeps a list of their names without a lock; held over the
 *           plugin's open and close.
 */
#include "config.h"

#include "below/shared.h"

#include "nbdkit_api.h"
#include "report.h"

#include <pthread.h>

static pthread_mutex_t open_lock = PTHREAD_MUTEX_INITIALIZER;
static nbdkit_backend *backend; /* constant after .after_fork */

void
shared_set_backend (nbdkit_backend *b)
{
  backend = b;
}

static void
close_locked (nbdkit_next *next)
{
  next->finalize (next);
  nbdkit_next_context_close (next);
}

nbdkit_next *
shared_open (const char *exportname, bool readonly)
{
  nbdkit_next *next;

  if (!holds (backend != NULL))         /* .after_fork has not been there */
    return NULL;
  pthread_mutex_lock (&open_lock);
  next = nbdkit_next_context_open (backend, readonly, exportname,
                                   1 /* shared */);
  if (next != NULL && next->prepare (next) == -1) {
    close_locked (next);
    next = NULL;
  }
  pthread_mutex_unlock (&open_lock);
  return next;
}

void
shared_close (nbdkit_next *next)
{
  pthread_mutex_lock (&open_lock);
  close_locked (next);
  pthread_mutex_unlock (&open_lock);
}
