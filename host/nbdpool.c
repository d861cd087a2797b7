/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdpool.c - connections to an NBD server.
 *
 * Owns      struct nbdpool: connections to one export, which requests take
 *           and put back.
 * Method    if the server says that several connections see the same, more
 *           are made as they are needed, up to MAX_CONNECTIONS, else there is
 *           one; fewer if the server does not accept as many.  One that is
 *           broken is dropped, and all idle ones with it, since what ended
 *           it has as a rule ended them, too.
 *
 *           What is written to has its connections from the start, and
 *           never another: a flush through a new one could reach a server
 *           that has been started again meanwhile, succeed there, and say
 *           nothing of what was written before.
 *
 *           A server that does not answer, or an address that leads back to
 *           ourselves, must not keep whoever opens an image waiting for ever.
 * Locks     nbdpool.lock guards the list and number of connections; never
 *           held over I/O.  A connection belongs to who has taken it.
 */
#include "config.h"

#ifdef HAVE_LIBNBD

#include "host/nbdpool.h"

#include "qcow2.h"
#include "host/env.h"
#include "host/error.h"
#include "host/rules.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_CONNECTIONS 16
#define MAX_WRITERS 8

#define CONNECT_SECONDS 30

struct nbdpool {
  const struct host_env *env;
  const struct place *place;
  int64_t size;                 /* that every connection must show */
  pthread_mutex_t lock;
  pthread_cond_t returned;      /* a connection is idle, or one is gone */
  struct connection *idle;
  unsigned nr, max;
  bool sealed;                  /* no more are made */
};

/* ---- One connection --------------------------------------------------- */

static void
connection_free (struct connection *c)
{
  if (c == NULL)
    return;
  if (c->nbd)
    nbd_close (c->nbd);
  free (c);
}

/* It quotes what it could not parse, which is not for the log. */
const char *
nbdpool_message (const struct place *place)
{
  const char *const text = nbd_get_error ();

  if (text == NULL || strstr (text, place->text) != NULL)
    return strerror (nbd_get_errno () > 0 ? nbd_get_errno () : EIO);
  return text;
}

static int
connect_in_time (struct nbd_handle *nbd, const char *uri)
{
  struct timespec start, now;

  clock_gettime (CLOCK_MONOTONIC, &start);
  if (nbd_aio_connect_uri (nbd, uri) == -1)
    return -1;
  while (nbd_aio_is_connecting (nbd) == 1) {
    if (nbd_poll (nbd, 1000) == -1)
      return -1;
    clock_gettime (CLOCK_MONOTONIC, &now);
    if (now.tv_sec - start.tv_sec >= CONNECT_SECONDS)
      return 1;
  }
  return nbd_aio_is_ready (nbd) == 1 ? 0 : -1;
}

/* Returns 1 if the server does not answer. */
static int
connection_start (struct connection *c, const char *uri)
{
  c->nbd = nbd_create ();
  /* Which files and sockets the URI uses was decided by who started nbdkit:
   * none comes from an image.
   */
  if (c->nbd == NULL ||
      nbd_set_uri_allow_transports (c->nbd, LIBNBD_ALLOW_TRANSPORT_MASK)
      == -1 ||
      nbd_set_uri_allow_tls (c->nbd, LIBNBD_TLS_ALLOW) == -1 ||
      nbd_set_uri_allow_local_file (c->nbd, true) == -1 ||
      nbd_add_meta_context (c->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) == -1)
    return -1;
  return connect_in_time (c->nbd, uri);
}

static struct connection *
connection_new (const struct place *place, struct qcow2_error *err)
{
  struct connection *const c = calloc (1, sizeof *c);
  const int r = c ? connection_start (c, place->text) : -1;

  if (r == 0)
    return c;
  fail_with (err, QCOW2_ERR_IO, EIO, "%s cannot be opened: %s", place->name,
             r == 1 ? "the server does not answer"
             : c ? nbdpool_message (place) : strerror (ENOMEM));
  connection_free (c);
  return NULL;
}

/* One that was made later must reach the same.  NULL and logs on error. */
static struct connection *
connection_again (const struct nbdpool *p)
{
  struct qcow2_error err;
  struct connection *const c = connection_new (p->place, &err);

  if (c == NULL)
    host_warn (p->env, "", "%s", err.text);
  else if (nbd_get_size (c->nbd) == p->size)
    return c;
  else
    host_warn (p->env, p->place->name, "has changed its size");
  connection_free (c);
  return NULL;
}

/* ---- The pool --------------------------------------------------------- */

/* The lock is held on entry and on return, but not in between. */
static struct connection *
connect_locked (struct nbdpool *p)
{
  struct connection *c;

  (void) host_holds (p->env, !p->sealed && p->idle == NULL);
  p->nr++;
  pthread_mutex_unlock (&p->lock);
  c = connection_again (p);
  pthread_mutex_lock (&p->lock);
  if (c != NULL)
    return c;
  /* The server may allow only so many; what there is will do. */
  if (host_holds (p->env, p->nr > 0))
    p->nr--;
  p->max = p->nr > 0 ? p->nr : 1;
  pthread_cond_broadcast (&p->returned);
  return NULL;
}

/* NULL and logs if there is none to be had. */
struct connection *
nbdpool_take (struct nbdpool *p)
{
  struct connection *c = NULL;
  bool failed = false;

  pthread_mutex_lock (&p->lock);
  while (c == NULL && !((failed || p->sealed) && p->nr == 0)) {
    if (p->idle != NULL) {
      (void) host_holds (p->env, p->nr > 0);
      c = p->idle;
      p->idle = c->next;
    }
    else if (p->nr < p->max) {
      c = connect_locked (p);
      failed = c == NULL;
    }
    else
      pthread_cond_wait (&p->returned, &p->lock);
  }
  pthread_mutex_unlock (&p->lock);
  return c;
}

void
nbdpool_put_back (struct nbdpool *p, struct connection *c)
{
  pthread_mutex_lock (&p->lock);
  (void) host_holds (p->env, p->nr > 0 && p->nr <= p->max);
  c->next = p->idle;
  p->idle = c;
  pthread_cond_signal (&p->returned);
  pthread_mutex_unlock (&p->lock);
}

void
nbdpool_drop (struct nbdpool *p, struct connection *broken)
{
  struct connection *c;

  pthread_mutex_lock (&p->lock);
  broken->next = p->idle;
  p->idle = NULL;
  for (c = broken; c; c = c->next)
    if (host_holds (p->env, p->nr > 0))
      p->nr--;
  if (p->sealed)
    p->max = p->nr;
  pthread_cond_broadcast (&p->returned);
  pthread_mutex_unlock (&p->lock);
  while ((c = broken) != NULL) {
    broken = c->next;
    connection_free (c);
  }
}

struct nbdpool *
nbdpool_new (const struct host_env *env, const struct place *place,
             struct qcow2_error *err)
{
  struct nbdpool *const p = calloc (1, sizeof *p);

  if (p == NULL) {
    fail_with (err, QCOW2_ERR_NOMEM, ENOMEM, "out of memory for a layer");
    return NULL;
  }
  pthread_mutex_init (&p->lock, NULL);
  pthread_cond_init (&p->returned, NULL);
  p->env = env;
  p->place = place;
  p->idle = connection_new (place, err);
  if (p->idle == NULL) {
    nbdpool_free (p);
    return NULL;
  }
  p->nr = 1;
  p->size = nbd_get_size (p->idle->nbd);
  p->max = nbd_can_multi_conn (p->idle->nbd) == 1 ? MAX_CONNECTIONS : 1;
  return p;
}

void
nbdpool_seal (struct nbdpool *p)
{
  struct connection *c;

  /* One by one: nobody else knows of the pool yet. */
  (void) host_holds (p->env, !p->sealed && p->nr == 1);
  while (p->nr < p->max && p->nr < MAX_WRITERS &&
         (c = connection_again (p)) != NULL) {
    c->next = p->idle;
    p->idle = c;
    p->nr++;
  }
  p->max = p->nr;
  p->sealed = true;
}

struct nbd_handle *
nbdpool_first (const struct nbdpool *p)
{
  (void) host_holds (p->env, p->idle != NULL && p->nr == 1);
  return p->idle->nbd;
}

void
nbdpool_free (struct nbdpool *p)
{
  struct connection *c;

  if (p == NULL)
    return;
  for (c = p->idle; c; c = c->next)
    p->nr--;
  /* All have been put back. */
  (void) host_holds (p->env, p->nr == 0);
  while ((c = p->idle) != NULL) {
    p->idle = c->next;
    nbd_shutdown (c->nbd, 0);
    connection_free (c);
  }
  pthread_cond_destroy (&p->returned);
  pthread_mutex_destroy (&p->lock);
  free (p);
}

#endif /* HAVE_LIBNBD */
