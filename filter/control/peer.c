/* SPDX-License-Identifier: BSD-3-Clause */
/* peer.c - one connection to the control socket.
 *
 * Owns      how long a peer is waited for, and how much is kept for it.
 * Method    one thread reads a message, runs its command, and sends the reply;
 *           events are sent in between.  Nobody else waits for a peer: one
 *           that does not read, or leaves a message unfinished, or does not
 *           negotiate, is given up; one that only listens may stay, until the
 *           place is needed (roster.c).
 * Locks     none here.
 */
#include "config.h"

#include "control/peer.h"

#include "lines.h"
#include "report.h"
#include "control/frame.h"
#include "control/qmp.h"
#include "control/roster.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* For the rest of a message, for negotiating, and for taking a reply. */
#define PATIENCE_MS 10000

/* Wait for that event, or until the peer is to look up; -1: it is to leave, or
 * the time is over.
 */
static int
wait_for (struct peer *p, short event, uint64_t deadline)
{
  struct pollfd fds[2] = {
    { .fd = p->fd, .events = event },
    { .fd = p->wake[0], .events = POLLIN },
  };
  const uint64_t now = roster_clock ();
  int r;

  if (deadline != UINT64_MAX && now >= deadline)
    return -1;
  r = poll (fds, 2, deadline == UINT64_MAX ? -1 : (int) (deadline - now));
  if (r == -1)
    return errno == EINTR ? 0 : -1;
  return fds[1].revents == 0 || roster_heed (p) ? 0 : -1;
}

static int
send_all (struct peer *p, const char *text, size_t len)
{
  const uint64_t deadline = roster_clock () + PATIENCE_MS;

  while (len > 0) {
    const ssize_t n = send (p->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n > 0) {
      text += n;
      len -= (size_t) n;
    }
    else if ((n == -1 && errno != EAGAIN && errno != EINTR) ||
             wait_for (p, POLLOUT, deadline) == -1)
      return -1;
  }
  return 0;
}

/* Takes the text; NULL: it could not be made, the peer cannot be helped. */
static int
send_text (struct peer *p, char *text)
{
  const int r = text == NULL ? -1 : send_all (p, text, strlen (text));

  free (text);
  return r;
}

static int
send_events (struct peer *p)
{
  char buf[ROSTER_MAX_EVENTS];
  const size_t len = roster_take_events (p, buf);

  return len > 0 ? send_all (p, buf, len) : 0;
}

/* Returns 0 if a bit has come, or it is time to look up. */
static int
receive (struct peer *p)
{
  /* More than a message can have is not kept (frame.c). */
  const bool room = holds (p->input_len < FRAME_MAX_BYTES + 1);
  ssize_t n = !room ? 0 : recv (p->fd, p->input + p->input_len,
                    FRAME_MAX_BYTES + 1 - p->input_len, MSG_DONTWAIT);
  uint64_t deadline = UINT64_MAX;

  if (n > 0) {
    if (p->input_len == 0)
      p->input_since = roster_clock ();
    p->input_len += (size_t) n;
    return 0;
  }
  if (n == 0 || (errno != EAGAIN && errno != EINTR))
    return -1;
  if (p->input_len > 0 || !p->negotiated)
    deadline = p->input_since + PATIENCE_MS;
  return wait_for (p, POLLIN, deadline);
}

static void
consume (struct peer *p, size_t len)
{
  if (!holds (len <= p->input_len))
    len = p->input_len;
  p->input_len -= len;
  memmove (p->input, p->input + len, p->input_len);
  p->input_since = roster_clock ();
}

/* Whoever is to leave is told what has become of his command, but not waited
 * for.
 */
static int
run_message (struct peer *p, size_t skip, size_t len)
{
  bool negotiated = p->negotiated, stay;
  char *reply;
  int r;

  if (!roster_set_busy (p, true))
    return -1;
  reply = qmp_run (p->input + skip, len, &negotiated);
  if (negotiated && !p->negotiated)
    roster_set_negotiated (p);
  stay = roster_set_busy (p, false);
  consume (p, skip + len);
  r = send_text (p, reply);
  return stay ? r : -1;
}

/* The message that has come, if it is complete; 1: it is not. */
static int
handle (struct peer *p)
{
  size_t skip, len;

  switch (frame_find (p->input, p->input_len, &skip, &len)) {
  case FRAME_PARTIAL:
    if (skip > 0)
      consume (p, skip);
    return 1;
  case FRAME_MESSAGE:
    return run_message (p, skip, len);
  case FRAME_GARBAGE:
    consume (p, skip + len);
    return send_text (p, qmp_error ("JSON parse error, a message is an object "
                                    "that begins with '{'"));
  case FRAME_TOO_LONG:
    send_text (p, qmp_error ("a message can have 65536 bytes"));
    break;
  case FRAME_TOO_DEEP:
    send_text (p, qmp_error ("a message can be nested 16 levels deep"));
    break;
  }
  warning ("", "control socket: a connection was closed: it sent a message "
           "that is too long, or too deeply nested");
  return -1;
}

void
peer_serve (struct peer *p)
{
  int r;

  (void) holds (p->input != NULL && p->input_len == 0);
  p->input_since = roster_clock ();
  r = send_text (p, qmp_greeting ());
  while (r == 0) {
    r = handle (p);
    if (r != -1 && send_events (p) == -1)
      r = -1;
    if (r == 1)
      r = receive (p);
  }
}
