/* SPDX-License-Identifier: BSD-3-Clause */
/* roster.c - who is connected to the control socket.
 *
 * Owns      the places, of which there are ROSTER_PLACES, and what each peer
 *           is to be told.
 * Method    a thread that waits is told what to do under the lock, and looks
 *           when its pipe says so.  When all places are taken the peer that
 *           has been idle for longest has to go, so that nobody keeps others
 *           out by doing nothing.
 * Locks     control.lock guards the places, and what is marked (C); no other
 *           lock is taken under it, and it is held over no I/O but a write of
 *           one byte to a pipe that never blocks.
 */
#include "config.h"

#include "control/roster.h"

#include "report.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct {
  pthread_mutex_t lock;         /* control.lock */
  bool ending;
  struct peer peers[ROSTER_PLACES];
} roster = { .lock = PTHREAD_MUTEX_INITIALIZER };

uint64_t
roster_clock (void)
{
  struct timespec ts;

  clock_gettime (CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * UINT64_C (1000) + ts.tv_nsec / 1000000;
}

/* ---- Pipes ------------------------------------------------------------- */

int
roster_pipe (int ends[2])
{
  return pipe2 (ends, O_CLOEXEC | O_NONBLOCK);
}

void
roster_close_pipe (const int ends[2])
{
  close (ends[0]);
  close (ends[1]);
}

/* If the pipe is full whoever reads it is going to look anyway. */
void
roster_ring (const int ends[2])
{
  const ssize_t n = write (ends[1], "", 1);

  (void) n;
}

void
roster_empty (const int ends[2])
{
  char bytes[64];

  while (read (ends[0], bytes, sizeof bytes) > 0)
    ;
}

/* ---- Places ------------------------------------------------------------ */

/* A place of ours, which somebody has. */
static bool
is_taken (const struct peer *p)
{
  return p >= roster.peers && p < roster.peers + ROSTER_PLACES && p->fd != -1;
}

void
roster_open (void)
{
  roster.ending = false;
  for (size_t i = 0; i < ROSTER_PLACES; ++i)
    roster.peers[i].fd = -1;
}

struct peer *
roster_free_place (void)
{
  for (size_t i = 0; i < ROSTER_PLACES; ++i)
    if (roster.peers[i].fd == -1)
      return &roster.peers[i];
  return NULL;
}

int
roster_add (struct peer *p, int fd, char *input)
{
  struct peer fresh = {
    .fd = fd, .input = input, .idle_since = roster_clock (),
  };

  fresh.events = malloc (ROSTER_MAX_EVENTS);
  if (fresh.events == NULL || roster_pipe (fresh.wake) == -1) {
    free (fresh.events);
    return -1;
  }
  pthread_mutex_lock (&roster.lock);
  (void) holds (fd != -1 && !is_taken (p));
  fresh.leave = roster.ending;
  *p = fresh;
  pthread_mutex_unlock (&roster.lock);
  return 0;
}

void
roster_remove (struct peer *p)
{
  pthread_mutex_lock (&roster.lock);
  if (holds (is_taken (p))) {
    (void) holds (p->events != NULL && p->input != NULL);
    close (p->fd);
    roster_close_pipe (p->wake);
    free (p->events);
    free (p->input);
    *p = (struct peer) { .fd = -1 };
  }
  pthread_mutex_unlock (&roster.lock);
}

struct peer *
roster_next_to_join (bool all)
{
  struct peer *found = NULL;

  pthread_mutex_lock (&roster.lock);
  for (size_t i = 0; i < ROSTER_PLACES && found == NULL; ++i)
    if (roster.peers[i].fd != -1 && (all || roster.peers[i].ended))
      found = &roster.peers[i];
  pthread_mutex_unlock (&roster.lock);
  return found;
}

bool
roster_ask_for_room (void)
{
  struct peer *longest = NULL;

  pthread_mutex_lock (&roster.lock);
  for (size_t i = 0; i < ROSTER_PLACES; ++i) {
    struct peer *const p = &roster.peers[i];

    /* Else there would be room, and no pipe. */
    if (holds (is_taken (p)) && !p->busy &&
        (longest == NULL || p->idle_since < longest->idle_since))
      longest = p;
  }
  if (longest != NULL) {
    longest->leave = true;
    roster_ring (longest->wake);
  }
  pthread_mutex_unlock (&roster.lock);
  return longest != NULL;
}

void
roster_dismiss (void)
{
  pthread_mutex_lock (&roster.lock);
  roster.ending = true;
  for (size_t i = 0; i < ROSTER_PLACES; ++i)
    if (roster.peers[i].fd != -1) {
      roster.peers[i].leave = true;
      roster_ring (roster.peers[i].wake);
    }
  pthread_mutex_unlock (&roster.lock);
}

/* ---- One peer ---------------------------------------------------------- */

bool
roster_heed (struct peer *p)
{
  bool leave;

  roster_empty (p->wake);
  pthread_mutex_lock (&roster.lock);
  leave = p->leave;
  pthread_mutex_unlock (&roster.lock);
  return !leave;
}

bool
roster_set_busy (struct peer *p, bool busy)
{
  bool leave;

  pthread_mutex_lock (&roster.lock);
  (void) holds (is_taken (p) && !p->ended && p->busy != busy);
  p->busy = busy;
  p->idle_since = roster_clock ();
  leave = p->leave;
  pthread_mutex_unlock (&roster.lock);
  return !leave;
}

void
roster_set_negotiated (struct peer *p)
{
  pthread_mutex_lock (&roster.lock);
  (void) holds (p->busy && !p->negotiated);     /* by a command, once */
  p->negotiated = true;
  pthread_mutex_unlock (&roster.lock);
}

void
roster_set_ended (struct peer *p)
{
  pthread_mutex_lock (&roster.lock);
  (void) holds (is_taken (p) && !p->ended);
  p->ended = true;
  pthread_mutex_unlock (&roster.lock);
}

/* ---- Events ------------------------------------------------------------ */

size_t
roster_take_events (struct peer *p, char *buf)
{
  size_t len;

  pthread_mutex_lock (&roster.lock);
  len = holds (p->events_len <= ROSTER_MAX_EVENTS) ? p->events_len : 0;
  memcpy (buf, p->events, len);
  p->events_len = 0;
  pthread_mutex_unlock (&roster.lock);
  return len;
}

/* One that does not take its events has to go. */
static void
tell_locked (struct peer *p, const char *text)
{
  const size_t len = strlen (text);

  if (!holds (p->events_len <= ROSTER_MAX_EVENTS) ||
      len > ROSTER_MAX_EVENTS - p->events_len)
    p->leave = true;
  else {
    memcpy (p->events + p->events_len, text, len);
    p->events_len += len;
  }
  roster_ring (p->wake);
}

void
roster_tell_all (const char *text)
{
  pthread_mutex_lock (&roster.lock);
  for (size_t i = 0; i < ROSTER_PLACES; ++i) {
    struct peer *const p = &roster.peers[i];

    if (p->fd != -1 && !p->ended && p->negotiated)
      tell_locked (p, text);
  }
  pthread_mutex_unlock (&roster.lock);
}

bool
roster_is_dismissed (void)
{
  bool ending;

  pthread_mutex_lock (&roster.lock);
  ending = roster.ending;
  pthread_mutex_unlock (&roster.lock);
  return ending;
}

/* nbdkit tells filters only when all clients have gone, and some may wait for
 * what asks this.  It logs a line when it says so, which is why it is asked no
 * more then.
 */
bool
roster_is_ending (void)
{
  static _Atomic bool was_told;

  if (!was_told && (roster_is_dismissed () || nobody_waits (NULL)))
    was_told = true;
  return was_told;
}
