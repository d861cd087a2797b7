/* SPDX-License-Identifier: BSD-3-Clause */
/* server.c - the threads behind the control socket.
 *
 * Owns      the listening socket, a thread that accepts, and one thread for
 *           each peer; telling them of what no command has caused.
 * Method    only our user and root are let in.  If there is no place a peer
 *           that is idle has to make room (roster.c); if all are busy the new
 *           one is refused.
 * Locks     none here.
 */
#include "config.h"

#include "control/server.h"

#include "nbdkit_api.h"
#include "lines.h"
#include "report.h"
#include "below/errand.h"
#include "control/call.h"
#include "control/frame.h"
#include "control/peer.h"
#include "control/roster.h"
#include "share/corrupt.h"
#include "share/disk.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* How long a new peer waits for one that has been told to make room. */
#define ROOM_TRIES 40
#define ROOM_PAUSE_MS 25

/* Constant while it is started. */
static struct {
  bool started;
  int fd;
  int wake[2];
  pthread_t thread;
} server;

static void
nap (unsigned ms)
{
  const struct timespec ts = { 0, ms * 1000000L };

  nanosleep (&ts, NULL);
}

/* ---- Peers ------------------------------------------------------------- */

static void *
run_peer (void *opaque)
{
  struct peer *const p = opaque;

  (void) holds (p->fd != -1 && !p->ended);
  peer_serve (p);
  /* Now, since nobody joins this thread before the next peer comes. */
  shutdown (p->fd, SHUT_RDWR);
  roster_set_ended (p);
  roster_ring (server.wake);
  return NULL;
}

static void
join (bool all)
{
  struct peer *p;

  while ((p = roster_next_to_join (all)) != NULL) {
    pthread_join (p->thread, NULL);
    roster_remove (p);
  }
}

static struct peer *
find_place (void)
{
  struct peer *p;

  join (false);
  if ((p = roster_free_place ()) != NULL || !roster_ask_for_room ())
    return p;
  for (unsigned i = 0; i < ROOM_TRIES && p == NULL; ++i) {
    nap (ROOM_PAUSE_MS);
    join (false);
    p = roster_free_place ();
  }
  return p;
}

/* Takes the descriptor in any case. */
static int
start_peer (struct peer *p, int fd)
{
  char *const input = malloc (FRAME_MAX_BYTES + 1);

  if (input == NULL || roster_add (p, fd, input) == -1) {
    free (input);
    close (fd);
    return -1;
  }
  if (pthread_create (&p->thread, NULL, run_peer, p) == 0)
    return 0;
  roster_remove (p);
  return -1;
}

/* ---- Accepting --------------------------------------------------------- */

static bool
may_come_in (int fd)
{
  struct ucred who;
  socklen_t len = sizeof who;

  if (getsockopt (fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == -1) {
    warning ("", "control socket: it is not known who connects, so he is "
             "refused: %m");
    return false;
  }
  if (who.uid == 0 || who.uid == geteuid ())
    return true;
  warning ("", "control socket: user %lu was refused; only the user of the "
           "server, and root, may connect", (unsigned long) who.uid);
  return false;
}

static void
accept_one (void)
{
  const int fd = accept4 (server.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
  struct peer *p;

  if (fd == -1) {
    /* Out of descriptors, for example: do not spin. */
    if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
      nap (200);
    return;
  }
  if (!may_come_in (fd)) {
    close (fd);
    return;
  }
  p = find_place ();
  if (p == NULL)
    close (fd);
  if (p == NULL || start_peer (p, fd) == -1)
    warning ("", "control socket: a connection was refused: there are %d "
             "already, or memory is short", ROSTER_PLACES);
}

static void *
run_server (void *opaque)
{
  (void) opaque;
  while (!roster_is_dismissed ()) {
    struct pollfd fds[2] = {
      { .fd = server.fd, .events = POLLIN },
      { .fd = server.wake[0], .events = POLLIN },
    };

    if (poll (fds, 2, -1) == -1)
      continue;
    if (fds[1].revents != 0) {
      roster_empty (server.wake);
      join (false);
    }
    if (fds[0].revents != 0)
      accept_one ();
  }
  roster_dismiss ();
  join (true);
  (void) holds (roster_next_to_join (true) == NULL);
  return NULL;
}

/* ---- What peers are told ----------------------------------------------- */

static void
tell_corrupt (const struct disk *d)
{
  const char *const why = corrupt_why (d);

  call_event ("X_Q2_CORRUPT",
              json_pack ("{s:o,s:o}", "device",
                         call_bytes (d->exportname, strlen (d->exportname)),
                         "reason", call_bytes (why, strlen (why))));
}

/* ---- The beginning and the end ----------------------------------------- */

int
server_start (int fd)
{
  (void) holds (!server.started && fd != -1);
  roster_open ();
  corrupt_watch (tell_corrupt);
  server.fd = fd;
  errand_except (fd);
  if (roster_pipe (server.wake) == 0) {
    if (pthread_create (&server.thread, NULL, run_server, NULL) == 0) {
      server.started = true;
      return 0;
    }
    roster_close_pipe (server.wake);
  }
  nbdkit_error ("qcow2-control: the socket cannot be served: %m");
  close (fd);
  return -1;
}

void
server_stop (void)
{
  if (!server.started)
    return;
  roster_dismiss ();
  roster_ring (server.wake);
  pthread_join (server.thread, NULL);
  server.started = false;
  roster_close_pipe (server.wake);
  close (server.fd);
}
