/* SPDX-License-Identifier: BSD-3-Clause */
/* control.c - the control socket, qcow2-control=PATH.
 *
 * Owns      the path, from the parameter to the last moment; whether this was
 *           built with a JSON library, without which there is no socket.
 * Method    address.c makes the socket, server.c serves it.  It is made before
 *           nbdkit goes to the background, like nbdkit's own: whoever has
 *           started a server can connect at once, and a socket that cannot be
 *           made is an error at start.  Only if the server is going to be
 *           another user it is made afterwards, to belong to him.
 * Locks     none: only the main thread is here.
 */
#include "config.h"

#include "control/control.h"

#include "cmdline.h"
#include "nbdkit_api.h"
#include "control/address.h"
#ifdef HAVE_JANSSON
#include "control/jobs.h"
#endif
#include "control/server.h"

#include <stdlib.h>
#include <unistd.h>

static char *path;              /* absolute, or NULL */
#ifdef HAVE_JANSSON
static int listening = -1;      /* it is made, and not yet served */
#endif

bool
control_supported (void)
{
#ifdef HAVE_JANSSON
  return true;
#else
  return false;
#endif
}

int
control_parse (const char *value)
{
  if (!control_supported ()) {
    nbdkit_error ("qcow2-control: this filter was built without the library "
                  "jansson, which the control socket needs");
    return -1;
  }
  /* A daemon changes its directory. */
  path = nbdkit_absolute_path (value);
  return path == NULL ? -1 : address_check (path);
}

#ifdef HAVE_JANSSON

static bool
may_change_user (void)
{
  return geteuid () == 0 && cmdline_has_option ('u', "--us");
}

#endif

int
control_get_ready (void)
{
#ifdef HAVE_JANSSON
  if (path == NULL || may_change_user ())
    return 0;
  listening = address_listen (path);
  return listening == -1 ? -1 : 0;
#else
  return 0;
#endif
}

int
control_start (void)
{
#ifdef HAVE_JANSSON
  int fd = listening;

  if (path == NULL)
    return 0;
  listening = -1;
  if (fd == -1)
    fd = address_listen (path);
  if (fd == -1)
    return -1;
  if (server_start (fd) == 0)
    return 0;
  address_remove (path);
  return -1;
#else
  return 0;
#endif
}

void
control_stop (void)
{
#ifdef HAVE_JANSSON
  server_stop ();
  jobs_stop ();
#endif
  if (path != NULL)
    address_remove (path);
}

void
control_unload (void)
{
  free (path);
  path = NULL;
}
