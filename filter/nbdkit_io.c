/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdkit_io.c - the engine's host I/O over nbdkit's 'next'.
 *
 * Owns      every data call to the layer below.  nbdkit asserts, that is
 *           aborts the whole server, when a request is empty, leaves the
 *           plugin or was not preceded by the right question; the engine
 *           promises not to do that, and here it is checked once more.
 * Method    'opaque' of struct qcow2_io is the struct below.  Where the
 *           server runs requests of a connection in parallel, background
 *           work may use the connection's context too; it is counted, and
 *           the connection waits for it before it goes.
 * Locks     below.lock guards that count; never held over I/O.
 */
#include "config.h"

#include "filter.h"

#include <errno.h>
#include <stdlib.h>

/* -D qcow2.io=1: log every request to the layer below. */
NBDKIT_DLL_PUBLIC int qcow2_debug_io = 0;

const char *const io_class_names[QCOW2_IO_NR_CLASSES] = {
  [QCOW2_IO_HEADER] = "header",
  [QCOW2_IO_L1] = "l1",
  [QCOW2_IO_L2] = "l2",
  [QCOW2_IO_REFCOUNT] = "refcount",
  [QCOW2_IO_DATA] = "data",
  [QCOW2_IO_COMPRESSED] = "compressed",
};

/* nbdkit promises an errno value with every failure, and aborts when it
 * gets 0 from us.
 */
static int
failed (int err)
{
  return err > 0 ? err : EIO;
}

static bool
in_range (nbdkit_next *next, uint64_t count, uint64_t host_off)
{
  const int64_t size = next->get_size (next);

  return size >= 0 && count > 0 && host_off <= (uint64_t) size &&
    count <= (uint64_t) size - host_off;
}

static int
below_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
             enum qcow2_io_class class)
{
  const struct below *const below = opaque;
  nbdkit_next *const next = below->next;
  int err = 0;

  if (qcow2_debug_io)
    nbdkit_debug ("qcow2: below: read %s count=%u offset=0x%llx",
                  io_class_names[class], count, (unsigned long long) host_off);
  /* Only background work is left then, for which the client has no use. */
  if (below->closing)
    return ESHUTDOWN;
  if (!in_range (next, count, host_off))
    return EIO;
  return next->pread (next, buf, count, host_off, 0, &err) == -1
    ? failed (err) : 0;
}

static int
below_extents (void *opaque, uint32_t count, uint64_t host_off,
               qcow2_host_extent_fn fn, void *fn_opaque)
{
  const struct below *const below = opaque;
  nbdkit_next *const next = below->next;
  const uint64_t end = host_off + count;
  struct nbdkit_extents *extents;
  int err = 0;

  if (!in_range (next, count, host_off))
    return EIO;
  extents = nbdkit_extents_new (host_off, end);
  if (extents == NULL)
    return failed (errno);
  if (next->extents (next, count, host_off, 0, extents, &err) == -1) {
    nbdkit_extents_free (extents);
    return failed (err);
  }
  for (size_t i = 0; i < nbdkit_extents_count (extents); ++i) {
    const struct nbdkit_extent e = nbdkit_get_extent (extents, i);
    const uint64_t len = e.offset + e.length > end
      ? end - e.offset : e.length;

    if (e.offset >= end ||
        fn (fn_opaque, e.offset, len, e.type & NBDKIT_EXTENT_ZERO) != 0)
      break;
  }
  nbdkit_extents_free (extents);
  return 0;
}

static int
below_cache (void *opaque, uint32_t count, uint64_t host_off)
{
  const struct below *const below = opaque;
  nbdkit_next *const next = below->next;
  int err = 0;

  if (!in_range (next, count, host_off))
    return EIO;
  return next->cache (next, count, host_off, 0, &err) == -1
    ? failed (err) : 0;
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

void
below_drain (struct below *below)
{
  pthread_mutex_lock (&below->lock);
  below->closing = true;
  while (below->borrowed > 0)
    pthread_cond_wait (&below->returned, &below->lock);
  pthread_mutex_unlock (&below->lock);
}

/* ---- What is below ------------------------------------------------------ */

static int
ask_block_size (struct below *below, nbdkit_next *next)
{
  uint32_t min, preferred, max;

  if (next->block_size (next, &min, &preferred, &max) == -1)
    return -1;
  below->io.min_block = min > 0 ? min : 1;
  below->io.max_block = max > 0 && max < UINT32_MAX
    ? max - max % below->io.min_block : 0;
  return 0;
}

int
below_prepare (struct below *below, nbdkit_next *next)
{
  const int64_t size = next->get_size (next);
  const int can_extents = next->can_extents (next);

  below->can_cache = next->can_cache (next);
  if (size == -1 || can_extents == -1 || below->can_cache == -1 ||
      ask_block_size (below, next) == -1)
    return -1;
  below->next = next;
  below->ops = (struct qcow2_io_ops) {
    .pread = below_pread,
    .extents = can_extents ? below_extents : NULL,
    .cache = below_cache,
  };
  below->io.ops = &below->ops;
  below->io.opaque = below;
  below->io.size = size;
  below->io.concurrent =
    config.thread_model == NBDKIT_THREAD_MODEL_PARALLEL;
  if (below->io.concurrent) {
    below->ops.borrow = below_borrow;
    below->ops.give_back = below_give_back;
  }
  return 0;
}
