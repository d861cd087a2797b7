/* SPDX-License-Identifier: BSD-3-Clause */
/* errand.c - what only a thread of nbdkit's can do, for one that is ours.
 *
 * Owns      how such a thread is found.
 * Method    A thread that nbdkit made, and waits for one of ours, does it
 *           (a desk).  Else the server is connected to, by one of the sockets
 *           that this process listens on: the new connection's thread comes
 *           by in .preconnect, before a byte was said, knows the connection
 *           by its other end, does the errand, and ends it.  So neither a
 *           client's name nor TLS matters, and filters that count clients
 *           do not see it.  Others above, such as ip, may refuse it; then
 *           there is no way, as there is none with nbdkit -s.
 *
 *           A thread is known to be nbdkit's once it has brought us a
 *           connection or a request.
 * Locks     errands.turn is held by whoever has one by connecting.
 *           errands.lock guards the one that is to be done; it is held while
 *           connecting, since the other end is known only then.
 *           desk.lock guards one errand between two threads.
 */
#include "config.h"

#include "below/errand.h"

#include "nbdkit_api.h"
#include "report.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* How long a server that is busy, or about to end, may take to come by. */
#define WAIT_SECONDS 3

/* They are opened before anything else, so their numbers are low. */
#define MAX_FD 1024

static __thread struct {
  bool is_nbdkits, is_main;
  struct errand_desk *desk;
} here;

static struct {
  pthread_mutex_t turn;
  pthread_mutex_t lock;         /* guards the rest but 'any' and 'except' */
  pthread_cond_t changed;
  atomic_bool any;              /* there is one */
  void (*fn) (void *opaque);    /* or NULL */
  void *opaque;
  struct sockaddr_storage from; /* our end of the connection */
  bool taken, done;
  int errnum;                   /* what fn has left in errno */
  int except;                   /* constant once there are threads; or 0 */
} errands = {
  .turn = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER,
  .changed = PTHREAD_COND_INITIALIZER,
};

void
errand_note_thread (void)
{
  here.is_nbdkits = true;
}

void
errand_note_main_thread (void)
{
  here.is_main = true;
}

void
errand_except (int fd)
{
  errands.except = fd;
}

/* ---- By connecting ------------------------------------------------------ */

static bool
is_same_end (const struct sockaddr_storage *a,
             const struct sockaddr_storage *b)
{
  const struct sockaddr_in *const a4 = (const struct sockaddr_in *) a;
  const struct sockaddr_in *const b4 = (const struct sockaddr_in *) b;
  const struct sockaddr_in6 *const a6 = (const struct sockaddr_in6 *) a;
  const struct sockaddr_in6 *const b6 = (const struct sockaddr_in6 *) b;

  if (a->ss_family != b->ss_family)
    return false;
  switch (a->ss_family) {
  case AF_UNIX:                 /* our end has no name */
    return nbdkit_peer_pid () == getpid ();
  case AF_INET:
    return a4->sin_port == b4->sin_port &&
      a4->sin_addr.s_addr == b4->sin_addr.s_addr;
  case AF_INET6:
    return a6->sin6_port == b6->sin6_port &&
      memcmp (&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr) == 0;
  }
  return false;
}

static bool
is_ours (void)
{
  struct sockaddr_storage peer = { .ss_family = AF_UNSPEC };
  socklen_t len = sizeof peer;

  return nbdkit_peer_name ((struct sockaddr *) &peer, &len) == 0 &&
    is_same_end (&peer, &errands.from);
}

bool
errand_was_connection (void)
{
  bool ours;
  int errnum;

  errand_note_thread ();
  if (!atomic_load (&errands.any))
    return false;
  pthread_mutex_lock (&errands.lock);
  ours = errands.fn != NULL && !errands.taken && is_ours ();
  if (ours)
    errands.taken = true;
  pthread_mutex_unlock (&errands.lock);
  if (!ours)
    return false;
  /* Nobody changes these before 'done'. */
  errno = 0;
  errands.fn (errands.opaque);
  errnum = errno;
  pthread_mutex_lock (&errands.lock);
  errands.errnum = errnum;
  errands.done = true;
  pthread_cond_broadcast (&errands.changed);
  pthread_mutex_unlock (&errands.lock);
  return true;
}

static bool
is_listening (int fd)
{
  int yes = 0;
  socklen_t len = sizeof yes;

  return fd != errands.except &&
    getsockopt (fd, SOL_SOCKET, SO_ACCEPTCONN, &yes, &len) == 0 && yes;
}

/* To where that one listens; -1 if that cannot be done. */
static int
connect_to (int listening, struct sockaddr_storage *ret_from)
{
  const struct timeval wait = { .tv_sec = WAIT_SECONDS };
  struct sockaddr_storage to = { .ss_family = AF_UNSPEC };
  socklen_t len = sizeof to;
  int fd;

  if (getsockname (listening, (struct sockaddr *) &to, &len) == -1)
    return -1;
  fd = socket (to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd == -1)
    return -1;
  (void) setsockopt (fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
  if (connect (fd, (struct sockaddr *) &to, len) == -1) {
    close (fd);
    return -1;
  }
  len = sizeof *ret_from;
  memset (ret_from, 0, len);
  if (getsockname (fd, (struct sockaddr *) ret_from, &len) == -1) {
    close (fd);
    return -1;
  }
  return fd;
}

static bool
run_through (int listening, void (*fn) (void *opaque), void *opaque)
{
  struct pollfd p = { .events = POLLIN };
  bool done;
  int errnum;

  pthread_mutex_lock (&errands.lock);
  (void) holds (errands.fn == NULL);
  atomic_store (&errands.any, true);
  p.fd = connect_to (listening, &errands.from);
  if (p.fd != -1) {
    errands.fn = fn;
    errands.opaque = opaque;
    errands.taken = errands.done = false;
  }
  pthread_mutex_unlock (&errands.lock);
  if (p.fd == -1) {
    atomic_store (&errands.any, false);
    return false;
  }

  /* It says something, or ends, if it is not, or not any more, for this. */
  while (poll (&p, 1, WAIT_SECONDS * 1000) == -1 && errno == EINTR)
    ;
  pthread_mutex_lock (&errands.lock);
  while (errands.taken && !errands.done)
    pthread_cond_wait (&errands.changed, &errands.lock);
  done = errands.done;
  errnum = errands.errnum;
  errands.fn = NULL;
  errands.done = false;
  atomic_store (&errands.any, false);
  pthread_mutex_unlock (&errands.lock);
  close (p.fd);
  if (done)
    errno = errnum;
  return done;
}

static bool
run_by_connecting (void (*fn) (void *opaque), void *opaque)
{
  const int errnum = errno;
  bool done = false;

  pthread_mutex_lock (&errands.turn);
  for (int fd = 0; fd < MAX_FD && !done; ++fd)
    if (is_listening (fd))
      done = run_through (fd, fn, opaque);
  pthread_mutex_unlock (&errands.turn);
  if (!done)
    errno = errnum;
  return done;
}

/* ---- Where a thread waits for another one ------------------------------- */

void
errand_desk_init (struct errand_desk *desk)
{
  *desk = (struct errand_desk) { .fn = NULL };
  pthread_mutex_init (&desk->lock, NULL);
  pthread_cond_init (&desk->changed, NULL);
}

void
errand_desk_destroy (struct errand_desk *desk)
{
  (void) holds (desk->fn == NULL);
  pthread_cond_destroy (&desk->changed);
  pthread_mutex_destroy (&desk->lock);
}

void
errand_desk_use (struct errand_desk *desk)
{
  here.desk = desk;
}

void
errand_desk_leave (struct errand_desk *desk)
{
  here.desk = NULL;
  pthread_mutex_lock (&desk->lock);
  desk->closed = true;
  pthread_cond_broadcast (&desk->changed);
  pthread_mutex_unlock (&desk->lock);
}

static bool
ask_at (struct errand_desk *desk, void (*fn) (void *opaque), void *opaque)
{
  bool r;

  nbdkit_debug ("qcow2: an errand for the thread that waits for this one");
  pthread_mutex_lock (&desk->lock);
  (void) holds (desk->fn == NULL && !desk->closed);
  desk->fn = fn;
  desk->opaque = opaque;
  pthread_cond_broadcast (&desk->changed);
  while (desk->fn != NULL)
    pthread_cond_wait (&desk->changed, &desk->lock);
  r = desk->result;
  errno = desk->errnum;
  pthread_mutex_unlock (&desk->lock);
  return r;
}

void
errand_desk_serve (struct errand_desk *desk)
{
  pthread_mutex_lock (&desk->lock);
  while (!desk->closed) {
    if (desk->fn != NULL) {
      pthread_mutex_unlock (&desk->lock);
      /* Nobody looks at these meanwhile. */
      errno = 0;
      desk->result = errand_run (desk->fn, desk->opaque);
      desk->errnum = errno;
      pthread_mutex_lock (&desk->lock);
      desk->fn = NULL;
      pthread_cond_broadcast (&desk->changed);
    }
    else
      pthread_cond_wait (&desk->changed, &desk->lock);
  }
  pthread_mutex_unlock (&desk->lock);
}

/* ------------------------------------------------------------------------ */

bool
errand_run (void (*fn) (void *opaque), void *opaque)
{
  if (here.is_nbdkits)
    fn (opaque);
  else if (here.desk != NULL)
    return ask_at (here.desk, fn, opaque);
  else if (here.is_main || !run_by_connecting (fn, opaque)) {
    nbdkit_debug ("qcow2: there is no thread of nbdkit's for an errand");
    fn (opaque);
    return false;
  }
  return true;
}
