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
 *           such a way cannot be had, see disk.c.
 * Locks     below.lock guards that count; never held over I/O.
 */
#include "config.h"

#include "filter.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

static int
below_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
             enum qcow2_io_class class)
{
  const struct below *const below = opaque;

  /* Only background work is left then, for which the client has no use. */
  if (below->closing)
    return ESHUTDOWN;
  return next_pread (below->next, buf, count, host_off, class);
}

static int
below_extents (void *opaque, uint32_t count, uint64_t host_off,
               qcow2_host_extent_fn fn, void *fn_opaque)
{
  const struct below *const below = opaque;

  return next_extents (below->next, count, host_off, fn, fn_opaque);
}

static int
below_cache (void *opaque, uint32_t count, uint64_t host_off)
{
  const struct below *const below = opaque;

  return next_cache (below->next, count, host_off);
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

  return may_write (below)
    ? next_pwrite (below->next, buf, count, host_off, class) : EIO;
}

static int
flush_context (void *opaque)
{
  struct below *const below = opaque;

  atomic_store (&below->unflushed, false);
  return next_flush (below->next);
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

  return may_write (below)
    ? next_zero (below->next, count, host_off, may_punch, class) : EIO;
}

static int
below_trim (void *opaque, uint32_t count, uint64_t host_off)
{
  struct below *const below = opaque;

  return may_write (below) ? next_trim (below->next, count, host_off) : EIO;
}

/* ---- Background work --------------------------------------------------- */

static int
below_borrow (void *opaque, struct qcow2_io *ret_io)
{
  struct below *const below = opaque;
  int r = 0;

  if (below->lanes)
    return lanes_borrow (below->lanes, &below->io, ret_io);
  pthread_mutex_lock (&below->lock);
  if (below->closing)
    r = ESHUTDOWN;
  else
    below->borrowed++;
  pthread_mutex_unlock (&below->lock);
  *ret_io = below->io;
  return r;
}

static void
below_give_back (struct qcow2_io *io)
{
  struct below *const below = io->opaque;

  pthread_mutex_lock (&below->lock);
  if (--below->borrowed == 0)
    pthread_cond_broadcast (&below->returned);
  pthread_mutex_unlock (&below->lock);
}

void
below_use_lanes (struct below *below, struct lanes *lanes)
{
  below->lanes = lanes;
  below->ops.borrow = below_borrow;
  below->ops.give_back = below_give_back;
}

/* The caller may go on using it: what it has to write when a connection
 * ends comes after this.
 */
void
below_drain (struct below *below)
{
  pthread_mutex_lock (&below->lock);
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
