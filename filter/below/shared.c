/* SPDX-License-Identifier: BSD-3-Clause */
/* shared.c - contexts that belong to no connection.
 *
 * Owns      the opening and closing of them.
 * Method    a shared context may be used by any thread, as far as the
 *           server's thread model allows several at once; the server takes
 *           none of its locks for it.  It has no export name before nbdkit
 *           1.44, and some plugins do not survive that: callers open one
 *           only where the plugin is known to ignore names.  Since then the
 *           plugin sees a name, but only on threads of nbdkit's: errand.c.
 * Locks     under open_lock one context at a time is opened or closed, since
 *           nbdkit keeps a list of their names without a lock; held over the
 *           plugin's open and close.
 */
#include "config.h"

#include "below/shared.h"

#include "nbdkit_api.h"
#include "report.h"
#include "settings.h"
#include "below/errand.h"

#include <pthread.h>

/* -D qcow2.errands=1: as if the plugin cared for names. */
NBDKIT_DLL_PUBLIC int qcow2_debug_errands = 0;

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

struct opening {
  const char *exportname;
  bool readonly;
  nbdkit_next *next;            /* what came of it */
};

static void
open_here (void *opaque)
{
  struct opening *const o = opaque;

  pthread_mutex_lock (&open_lock);
  o->next = nbdkit_next_context_open (backend, o->readonly, o->exportname,
                                      1 /* shared */);
  if (o->next != NULL && o->next->prepare (o->next) == -1) {
    close_locked (o->next);
    o->next = NULL;
  }
  pthread_mutex_unlock (&open_lock);
}

static bool
may_be_asked_for_name (void)
{
  return qcow2_debug_errands ||
    (NBDKIT_AT_LEAST (1, 44) && config.names != NAMES_IGNORED);
}

nbdkit_next *
shared_open (const char *exportname, bool readonly)
{
  struct opening o = { .exportname = exportname, .readonly = readonly };

  if (!holds (backend != NULL))         /* .after_fork has not been there */
    return NULL;
  if (!may_be_asked_for_name ())
    open_here (&o);
  else if (!errand_run (open_here, &o) && o.next == NULL)
    warning (exportname, "only a thread that serves a client can open this "
             "for a plugin with several exports, and the server cannot be "
             "connected to from inside to get one");
  return o.next;
}

void
shared_close (nbdkit_next *next)
{
  pthread_mutex_lock (&open_lock);
  close_locked (next);
  pthread_mutex_unlock (&open_lock);
}
