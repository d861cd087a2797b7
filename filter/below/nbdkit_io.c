/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdkit_io.c - the engine's host I/O over a connection's 'next'.
 *
 * Owns      struct below: a struct qcow2_io over one context.
 * Method    'opaque' of struct qcow2_io is the struct below.  Where the
 *           server runs requests of a connection in parallel, background
 *           work may use the connection's context too; it is counted, and
 *           the connection waits for it before it goes.
 *
 *           An image that is written to is reached by one way for all its
 *           connections (writer.c), and this one lies idle; except where
 *           such a way cannot be had, see disk.c.  Then it belongs to a
 *           member (members.c), and others may have to flush it.
 * Locks     below.lock guards that count; never held over I/O.
 *           below.serial is held over each request of a member, below the
 *           parallel model; durable.lock is taken before it.
 */
#include "config.h"

#include "below/nbdkit_io.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/durable.h"
#include "report.h"
#include "settings.h"
#include "below/next.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static void
enter (struct below *below)
{
  if (below->one_at_a_time)
    pthread_mutex_lock (&below->serial);
}

static int
leave (struct below *below, int r)
{
  if (below->one_at_a_time)
    pthread_mutex_unlock (&below->serial);
  return r;
}

static int
below_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
             enum qcow2_io_class class)
{
  struct below *const below = opaque;

  /* Only background work is left then, for which the client has no use.  The
   * way of a member may be lent to a command of the control socket, too, which
   * has to end: the member waits for it.
   */
  if (below->closing && below->durable == NULL)
    return ESHUTDOWN;
  enter (below);
  return leave (below, next_pread (below->next, buf, count, host_off, class));
}

static int
below_extents (void *opaque, uint32_t count, uint64_t host_off,
               qcow2_host_extent_fn fn, void *fn_opaque)
{
  struct below *const below = opaque;

  enter (below);
  return leave (below, next_extents (below->next, count, host_off, fn,
                                     fn_opaque));
}

static int
below_cache (void *opaque, uint32_t count, uint64_t host_off)
{
  struct below *const below = opaque;

  enter (below);
  return leave (below, next_cache (below->next, count, host_off));
}

/* Whoever writes does so through his own context, which is the one that has
 * to make it durable, unless others can.
 */
static bool
may_write (struct below *below)
{
  if (below->durable && durable_is_lost (below->durable))
    return false;
  atomic_store (&below->unflushed, true);
  return true;
}

static int
below_pwrite (void *opaque, const void *buf, uint32_t count,
              uint64_t host_off, enum qcow2_io_class class)
{
  struct below *const below = opaque;

  if (!may_write (below))
    return EIO;
  enter (below);
  return leave (below, next_pwrite (below->next, buf, count, host_off,
                                    class));
}

static int
flush_context (void *opaque)
{
  struct below *const below = opaque;

  (void) holds (below->next != NULL && below->can.flush);
  atomic_store (&below->unflushed, false);
  enter (below);
  return leave (below, next_flush (below->next));
}

static int
below_flush (void *opaque)
{
  struct below *const below = opaque;

  return below->durable
    ? durable_flush (below->durable, flush_context, below)
    : flush_context (below);
}

static int
below_zero (void *opaque, uint32_t count, uint64_t host_off, bool may_punch,
            enum qcow2_io_class class)
{
  struct below *const below = opaque;

  if (!may_write (below))
    return EIO;
  enter (below);
  return leave (below, next_zero (below->next, count, host_off, may_punch,
                                  class));
}

static int
below_trim (void *opaque, uint32_t count, uint64_t host_off)
{
  struct below *const below = opaque;

  if (!may_write (below))
    return EIO;
  enter (below);
  return leave (below, next_trim (below->next, count, host_off));
}

/* ---- Background work --------------------------------------------------- */

bool
below_lend (struct below *below)
{
  bool closing;

  pthread_mutex_lock (&below->lock);
  closing = below->closing;
  if (!closing)
    below->borrowed++;
  pthread_mutex_unlock (&below->lock);
  return !closing;
}

void
below_take_back (struct below *below)
{
  pthread_mutex_lock (&below->lock);
  if (holds (below->borrowed > 0)) {
    below->borrowed--;
    if (below->borrowed == 0)
      pthread_cond_broadcast (&below->returned);
  }
  pthread_mutex_unlock (&below->lock);
}

static int
below_borrow (void *opaque, struct qcow2_io *ret_io)
{
  struct below *const below = opaque;

  *ret_io = below->io;
  return below_lend (below) ? 0 : ESHUTDOWN;
}

static void
below_give_back (struct qcow2_io *io)
{
  below_take_back (io->opaque);
}

void
below_become_member (struct below *below, struct durable *durable)
{
  (void) holds (below->lanes == NULL);
  below->durable = durable;
  below->one_at_a_time = config.thread_model != NBDKIT_THREAD_MODEL_PARALLEL;
}

/* The caller may go on using it: what it has to write when a connection
 * ends comes after this.
 */
void
below_drain (struct below *below)
{
  pthread_mutex_lock (&below->lock);
  (void) holds (!below->closing);       /* one thread ends a connection */
  below->closing = true;
  while (below->borrowed > 0)
    pthread_cond_wait (&below->returned, &below->lock);
  below->closing = false;
  pthread_mutex_unlock (&below->lock);
}

/* ---- Preparing ---------------------------------------------------------- */

int
below_prepare (struct below *below, nbdkit_next *next, bool writing)
{
  struct abilities *const can = &below->can;

  (void) holds (below->borrowed == 0 && below->durable == NULL);
  if (next_ask (next, writing, can) == -1)
    return -1;
  below->next = next;
  below->ops = (struct qcow2_io_ops) {
    .pread = below_pread,
    .extents = can->extents ? below_extents : NULL,
    .cache = below_cache,
  };
  if (next_is_writable (can)) {
    below->ops.pwrite = below_pwrite;
    below->ops.flush = below_flush;
    below->ops.zero = can->zero ? below_zero : NULL;
    below->ops.trim = can->trim ? below_trim : NULL;
  }
  below->io = (struct qcow2_io) {
    .ops = &below->ops, .opaque = below, .size = can->size,
    .min_block = can->min_block, .max_block = can->max_block,
    .concurrent = config.thread_model == NBDKIT_THREAD_MODEL_PARALLEL,
  };
  if (below->io.concurrent) {
    below->ops.borrow = below_borrow;
    below->ops.give_back = below_give_back;
  }
  return 0;
}
