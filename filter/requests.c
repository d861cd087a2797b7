/* SPDX-License-Identifier: BSD-3-Clause */
/* requests.c - what clients ask of an export.
 *
 * Owns      the callbacks for data; each is one call of the engine, or, for a
 *           raw disk, of the plugin.
 * Locks     none.
 */
#include "config.h"

#include "requests.h"

#include "nbdkit_api.h"
#include "qcow2.h"
#include "handle.h"
#include "raw.h"
#include "report.h"
#include "below/errand.h"
#include "share/disk.h"
#include "share/ticker.h"
#include "share/views.h"

#include <errno.h>
#include <stdbool.h>

static int
fail (const struct handle *h, const struct qcow2_error *error, int *err)
{
  (void) holds (!h->raw && h->access.disk != NULL);
  *err = h->view ? report (view_label (h->view), error)
    : disk_report (h->access.disk, error);
  return -1;
}

/* A filter above asks for something after all was given back. */
static bool
is_over (const struct handle *h, int *err)
{
  errand_note_thread ();
  if (!h->over) {
    (void) holds (h->raw ? h->rawfile != NULL : h->image != NULL);
    return false;
  }
  nbdkit_error ("qcow2: a filter has sent a request after the end of its "
                "connection, which is refused");
  *err = ESHUTDOWN;
  return true;
}

int
request_pread (nbdkit_next *next, void *handle, void *buf, uint32_t count,
               uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct qcow2_error error;

  if (is_over (h, err))
    return -1;
  if (h->raw)
    return raw_pread (next, buf, count, offset, err);
  if (qcow2_pread (h->image, h->access.io, buf, count, offset,
                   &error) == -1)
    return fail (h, &error, err);
  return 0;
}

struct add_extents {
  struct nbdkit_extents *extents;
  bool one;                     /* the client wants only the first */
};

static uint32_t
nbdkit_type (enum qcow2_extent_type type)
{
  switch (type) {
  case QCOW2_EXTENT_DATA:
    return 0;
  case QCOW2_EXTENT_ZERO:
    return NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO;
  case QCOW2_EXTENT_ZERO_ALLOCATED:
    return NBDKIT_EXTENT_ZERO;
  }
  return 0;
}

static int
add_extent (void *opaque, uint64_t guest_off, uint64_t len,
            enum qcow2_extent_type type)
{
  const struct add_extents *a = opaque;

  if (nbdkit_add_extent (a->extents, guest_off, len, nbdkit_type (type))
      == -1)
    return -1;
  return a->one;
}

int
request_extents (nbdkit_next *next, void *handle, uint32_t count,
                 uint64_t offset, uint32_t flags,
                 struct nbdkit_extents *extents, int *err)
{
  struct handle *h = handle;
  struct add_extents add = { extents, flags & NBDKIT_FLAG_REQ_ONE };
  struct qcow2_error error;

  if (is_over (h, err))
    return -1;
  if (h->raw)
    return next->extents (next, count, offset, flags, extents, err);
  if (qcow2_extents (h->image, h->access.io, count, offset,
                     add_extent, &add, &error) == -1)
    return fail (h, &error, err);
  return 0;
}

int
request_cache (nbdkit_next *next, void *handle, uint32_t count,
               uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct qcow2_error error;

  if (is_over (h, err))
    return -1;
  if (h->raw)
    return next->cache (next, count, offset, flags, err);
  if (qcow2_cache (h->image, h->access.io, count, offset,
                   &error) == -1)
    return fail (h, &error, err);
  return 0;
}

/* Something was changed. */
static void
tick (struct handle *h)
{
  /* The engine would not have done it. */
  (void) holds (h->access.disk->writable && h->view == NULL);
  if (h->access.disk->ticker == NULL)
    ticker_instead (h->access.disk, h->access.io);
}

int
request_pwrite (nbdkit_next *next, void *handle, const void *buf,
                uint32_t count, uint64_t offset, uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct qcow2_error error;

  if (is_over (h, err))
    return -1;
  if (h->raw)
    return next->pwrite (next, buf, count, offset, flags, err);
  if (qcow2_pwrite (h->image, h->access.io, buf, count, offset,
                    flags & NBDKIT_FLAG_FUA, &error) == -1)
    return fail (h, &error, err);
  tick (h);
  return 0;
}

int
request_zero (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
              uint32_t flags, int *err)
{
  const unsigned how =
    (flags & NBDKIT_FLAG_MAY_TRIM ? QCOW2_ZERO_MAY_TRIM : 0) |
    (flags & NBDKIT_FLAG_FAST_ZERO ? QCOW2_ZERO_FAST : 0) |
    (flags & NBDKIT_FLAG_FUA ? QCOW2_ZERO_FUA : 0);
  struct handle *h = handle;
  struct qcow2_error error;

  if (is_over (h, err))
    return -1;
  if (h->raw)
    return raw_zero (next, count, offset, flags, err);
  if (qcow2_zero (h->image, h->access.io, count, offset, how, &error) == 0) {
    tick (h);
    return 0;
  }
  /* That is an answer, and no error. */
  if ((flags & NBDKIT_FLAG_FAST_ZERO) && error.kind == QCOW2_ERR_NOT_FAST) {
    *err = EOPNOTSUPP;
    return -1;
  }
  return fail (h, &error, err);
}

int
request_trim (nbdkit_next *next, void *handle, uint32_t count, uint64_t offset,
              uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct qcow2_error error;

  if (is_over (h, err))
    return -1;
  if (h->raw)
    return next->trim (next, count, offset, flags, err);
  if (qcow2_trim (h->image, h->access.io, count, offset,
                  flags & NBDKIT_FLAG_FUA, &error) == -1)
    return fail (h, &error, err);
  tick (h);
  return 0;
}

int
request_flush (nbdkit_next *next, void *handle, uint32_t flags, int *err)
{
  struct handle *h = handle;
  struct qcow2_error error;

  if (is_over (h, err))
    return -1;
  if (h->raw)
    return next->flush (next, flags, err);
  if (qcow2_flush (h->image, h->access.io, &error) == -1)
    return fail (h, &error, err);
  return 0;
}
