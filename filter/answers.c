/* SPDX-License-Identifier: BSD-3-Clause */
/* answers.c - what clients are told of an export.
 *
 * Owns      the callbacks that nbdkit asks once for each connection.
 * Method    all can be done with an image, and what is below only says whether
 *           it can be written to.  For a raw disk the plugin answers, except
 *           that a file which is not ours to write to stays as it is.
 * Locks     none.
 */
#include "config.h"

#include "answers.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "handle.h"
#include "raw.h"
#include "report.h"
#include "settings.h"
#include "stack.h"
#include "below/next.h"
#include "share/disk.h"

int64_t
answer_get_size (nbdkit_next *next, void *handle)
{
  struct handle *h = handle;

  (void) holds (h->raw == (h->image == NULL));  /* after .prepare */
  return h->raw ? next->get_size (next)
    : (int64_t) qcow2_get_info (h->image).virtual_size;
}

static bool
is_writable (const struct handle *h)
{
  (void) holds (!h->raw && !h->over);
  return h->access.disk->writable && !h->access.readonly && h->view == NULL;
}

/* What is compressed is packed together: the more at once, the less is lost
 * behind it.
 */
static uint32_t
compressed_size (uint32_t cluster_size)
{
  const uint32_t most = 2 * 1024 * 1024;

  return cluster_size > most / 8 ? most : 8 * cluster_size;
}

/* Any byte can be read.  A cluster is the unit that is decompressed, or
 * looked up, at once; below a page there is nothing to gain.
 */
int
answer_block_size (nbdkit_next *next, void *handle, uint32_t *minimum,
                   uint32_t *preferred, uint32_t *maximum)
{
  struct handle *h = handle;
  uint64_t cluster_size;

  if (h->raw)
    return next->block_size (next, minimum, preferred, maximum);
  cluster_size = qcow2_get_info (h->image).cluster_size;
  (void) holds ((cluster_size & (cluster_size - 1)) == 0);
  *minimum = 1;
  *preferred = cluster_size < 4096 ? 4096 : cluster_size;
  if (config.compress && is_writable (h))
    *preferred = compressed_size (*preferred);
  *maximum = 0xffffffff;
  return 0;
}

int
answer_can_write (nbdkit_next *next, void *handle)
{
  const struct handle *h = handle;

  return h->raw ? raw_can_write (h, next) : is_writable (h);
}

int
answer_can_flush (nbdkit_next *next, void *handle)
{
  const struct handle *h = handle;

  return h->raw ? next->can_flush (next) : is_writable (h);
}

int
answer_can_trim (nbdkit_next *next, void *handle)
{
  const struct handle *h = handle;

  return h->raw ? next->can_trim (next) : is_writable (h);
}

int
answer_can_zero (nbdkit_next *next, void *handle)
{
  const struct handle *h = handle;

  if (h->raw)
    return next->can_zero (next);
  return is_writable (h) ? NBDKIT_ZERO_NATIVE : NBDKIT_ZERO_NONE;
}

int
answer_can_fast_zero (nbdkit_next *next, void *handle)
{
  const struct handle *h = handle;

  return h->raw ? next->can_fast_zero (next) : is_writable (h);
}

int
answer_can_fua (nbdkit_next *next, void *handle)
{
  const struct handle *h = handle;

  if (h->raw)
    return next->can_fua (next);
  return is_writable (h) ? NBDKIT_FUA_NATIVE : NBDKIT_FUA_NONE;
}

int
answer_can_extents (nbdkit_next *next, void *handle)
{
  const struct handle *h = handle;

  /* Clients leave out what they take for holes when they copy. */
  if (stack_extents_mislead (true) ||
      (h->raw && stack_extents_mislead (false)))
    return 0;
  return h->raw ? next->can_extents (next) : 1;
}

int
answer_can_multi_conn (nbdkit_next *next, void *handle)
{
  const struct handle *h = handle;

  return h->raw ? next->can_multi_conn (next) : 1;
}

static const struct abilities *
below_abilities (const struct handle *h)
{
  return disk_abilities (h->access.disk, &h->access.below);
}

int
answer_can_cache (nbdkit_next *next, void *handle)
{
  const struct handle *h = handle;

  if (h->raw)
    return next->can_cache (next);
  return below_abilities (h)->cache == NBDKIT_CACHE_NATIVE
    ? NBDKIT_CACHE_NATIVE : NBDKIT_CACHE_EMULATE;
}

int
answer_is_rotational (nbdkit_next *next, void *handle)
{
  const struct handle *h = handle;

  return h->raw ? next->is_rotational (next)
    : below_abilities (h)->rotational;
}
