/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdkit_io.c - the engine's host I/O over nbdkit's 'next'.
 *
 * Owns      every data call to the layer below.  nbdkit asserts, that is
 *           aborts the whole server, when a request is empty, leaves the
 *           plugin or was not preceded by the right question; the engine
 *           promises not to do that, and here it is checked once more.
 * Method    'opaque' of struct qcow2_io is 'next' itself.
 * Locks     none.
 */
#include "config.h"

#include "filter.h"

#include <errno.h>
#include <stdlib.h>

/* -D qcow2.io=1: log every request to the layer below. */
NBDKIT_DLL_PUBLIC int qcow2_debug_io = 0;

static const char *const class_names[QCOW2_IO_NR_CLASSES] = {
  [QCOW2_IO_HEADER] = "header",
  [QCOW2_IO_L1] = "l1",
  [QCOW2_IO_L2] = "l2",
  [QCOW2_IO_REFCOUNT] = "refcount",
  [QCOW2_IO_DATA] = "data",
  [QCOW2_IO_COMPRESSED] = "compressed",
};

int
below_prepare (struct below *below, nbdkit_next *next)
{
  const int64_t size = next->get_size (next);
  uint32_t min, preferred, max;
  int r;

  if (size == -1)
    return -1;
  below->size = size;

  if (next->block_size (next, &min, &preferred, &max) == -1)
    return -1;
  below->min_block = min > 0 ? min : 1;
  below->max_block = max > 0 && max < UINT32_MAX
    ? max - max % below->min_block : 0;

  r = next->can_extents (next);
  if (r == -1)
    return -1;
  below->can_extents = r;

  below->can_cache = next->can_cache (next);
  return below->can_cache == -1 ? -1 : 0;
}

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
  nbdkit_next *const next = opaque;
  int err = 0;

  if (qcow2_debug_io)
    nbdkit_debug ("qcow2: below: read %s count=%u offset=0x%llx",
                  class_names[class], count, (unsigned long long) host_off);
  if (!in_range (next, count, host_off))
    return EIO;
  return next->pread (next, buf, count, host_off, 0, &err) == -1
    ? failed (err) : 0;
}

static int
below_extents (void *opaque, uint32_t count, uint64_t host_off,
               qcow2_host_extent_fn fn, void *fn_opaque)
{
  nbdkit_next *const next = opaque;
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
  nbdkit_next *const next = opaque;
  int err = 0;

  if (!in_range (next, count, host_off))
    return EIO;
  return next->cache (next, count, host_off, 0, &err) == -1
    ? failed (err) : 0;
}

static const struct qcow2_io_ops with_extents = {
  .pread = below_pread, .extents = below_extents, .cache = below_cache,
};
static const struct qcow2_io_ops without_extents = {
  .pread = below_pread, .cache = below_cache,
};

struct qcow2_io
below_io (const struct below *below, nbdkit_next *next)
{
  return (struct qcow2_io) {
    .ops = below->can_extents ? &with_extents : &without_extents,
    .opaque = next,
    .size = below->size,
    .min_block = below->min_block,
    .max_block = below->max_block,
  };
}
