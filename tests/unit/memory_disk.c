/* SPDX-License-Identifier: BSD-3-Clause */
/* memory_disk.c - a file in memory that can show what a crash could leave.
 *
 * Owns      the present bytes, the bytes at the last flush, and every write in
 *           between.
 * Locks     none; one thread.
 */
#include "config.h"

#include "memory_disk.h"
#include "unit.h"

#include <errno.h>

static void *
need (void *p)
{
  REQUIRE (p != NULL);
  return p;
}

static void
store (unsigned char **bytes, uint64_t *stored, const void *buf,
       uint64_t len, uint64_t host_off)
{
  if (host_off + len > *stored) {
    *bytes = need (realloc (*bytes, host_off + len));
    memset (*bytes + *stored, 0, host_off + len - *stored);
    *stored = host_off + len;
  }
  memcpy (*bytes + host_off, buf, len);
}

/* Returns the errno that the change must fail with, or 0. */
static int
begin_change (struct memory_disk *d)
{
  if (d->before_change)
    d->before_change (d, d->opaque);
  return ++d->changes == d->fail_at ? d->fail_errnum : 0;
}

static bool
is_legal (const struct memory_disk *d, uint64_t count, uint64_t host_off)
{
  return CHECK (count > 0) && CHECK (count <= Q2_IO_MAX) &&
    CHECK (host_off <= d->size && count <= d->size - host_off);
}

static int
disk_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
            enum qcow2_io_class class)
{
  struct memory_disk *const d = opaque;
  const uint64_t inside =
    host_off < d->stored ? q2_min (count, d->stored - host_off) : 0;

  (void) class;
  d->reads++;
  d->read_bytes += count;
  if (!is_legal (d, count, host_off))
    return EIO;
  if (inside > 0)
    memcpy (buf, d->bytes + host_off, inside);
  memset ((unsigned char *) buf + inside, 0, count - inside);
  return 0;
}

static int
disk_pwrite (void *opaque, const void *buf, uint32_t count,
             uint64_t host_off, enum qcow2_io_class class)
{
  struct memory_disk *const d = opaque;
  const int fault = begin_change (d);
  struct disk_write *w;

  (void) class;
  d->writes++;
  if (!is_legal (d, count, host_off))
    return EIO;
  if (fault)
    return fault;
  d->pending =
    need (realloc (d->pending, (d->nr_pending + 1) * sizeof *w));
  w = &d->pending[d->nr_pending++];
  *w = (struct disk_write) { host_off, count, need (malloc (count)) };
  memcpy (w->bytes, buf, count);
  store (&d->bytes, &d->stored, buf, count, host_off);
  return 0;
}

static void
drop_pending (struct memory_disk *d)
{
  for (size_t i = 0; i < d->nr_pending; ++i)
    free (d->pending[i].bytes);
  d->nr_pending = 0;
}

static int
disk_flush (void *opaque)
{
  struct memory_disk *const d = opaque;
  const int fault = begin_change (d);

  d->flushes++;
  if (fault)
    return fault;
  for (size_t i = 0; i < d->nr_pending; ++i)
    store (&d->durable, &d->durable_stored, d->pending[i].bytes,
           d->pending[i].len, d->pending[i].host_off);
  drop_pending (d);
  return 0;
}

static int
disk_grow (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  struct memory_disk *const d = opaque;
  const int fault = begin_change (d);

  CHECK (min_size > d->size);
  if (fault)
    return fault;
  if (min_size > d->capacity)
    return ENOSPC;
  d->size = *ret_size = min_size;
  return 0;
}

static int
disk_cut (void *opaque, uint64_t size)
{
  struct memory_disk *const d = opaque;
  const int fault = begin_change (d);

  /* Only what has grown, and what is not needed. */
  CHECK (size >= d->first_size && size < d->size);
  if (fault)
    return fault;
  d->size = size;
  return 0;
}

/* What was never stored is a hole. */
static int
disk_extents (void *opaque, uint32_t count, uint64_t host_off,
              qcow2_host_extent_fn fn, void *fn_opaque)
{
  const struct memory_disk *const d = opaque;
  const uint64_t end = host_off + count;
  /* Where one kind may end and the other begin. */
  const uint64_t borders[] = { d->lie_start, d->lie_end, d->stored, end };

  while (host_off < end) {
    const bool hole = host_off >= d->stored ||
      (host_off >= d->lie_start && host_off < d->lie_end);
    uint64_t next = end;

    for (size_t i = 0; i < sizeof borders / sizeof borders[0]; ++i)
      if (borders[i] > host_off)
        next = q2_min (next, borders[i]);
    if (fn (fn_opaque, host_off, next - host_off, hole) != 0)
      return 0;
    host_off = next;
  }
  return 0;
}

static const struct qcow2_io_ops disk_ops = {
  .pread = disk_pread,
  .extents = disk_extents,
  .pwrite = disk_pwrite,
  .flush = disk_flush,
  .grow = disk_grow,
  .cut = disk_cut,
};

void
memory_disk_resize (struct memory_disk *d, uint64_t size)
{
  d->size = d->host.size = d->io.file_size = size;
}

void
memory_disk_init (struct memory_disk *d, const void *bytes, uint64_t size)
{
  memset (d, 0, sizeof *d);
  d->host.ops = &disk_ops;
  d->host.opaque = d;
  d->host.min_block = 1;
  q2_io_shared_init (&d->shared);
  d->io.host = &d->host;
  d->io.shared = &d->shared;
  d->capacity = UINT64_MAX;
  d->fail_errnum = EIO;
  if (size > 0) {
    store (&d->bytes, &d->stored, bytes, size, 0);
    store (&d->durable, &d->durable_stored, bytes, size, 0);
  }
  memory_disk_resize (d, size);
  d->first_size = size;
}

void
memory_disk_free (struct memory_disk *d)
{
  drop_pending (d);
  q2_io_shared_destroy (&d->shared);
  free (d->pending);
  free (d->bytes);
  free (d->durable);
}

unsigned char *
memory_disk_copy (const struct memory_disk *d)
{
  unsigned char *const bytes = need (calloc (1, d->size + 1));

  memcpy (bytes, d->bytes, q2_min (d->stored, d->size));
  return bytes;
}

void
memory_disk_crash (const struct memory_disk *d, struct rng *rng,
                   struct memory_disk *ret)
{
  memory_disk_init (ret, d->durable, d->durable_stored);
  for (size_t i = 0; i < d->nr_pending; ++i) {
    const struct disk_write *const w = &d->pending[i];
    uint64_t from = 0, to = w->len;

    if (rng && rng_below (rng, 3) == 0)
      continue;
    /* Torn: sectors before a border, or from it on. */
    if (rng && rng_below (rng, 4) == 0) {
      const uint64_t border = q2_align_up
        (w->host_off + rng_below (rng, w->len), 512) - w->host_off;

      if (border < to) {
        if (rng_below (rng, 2))
          from = border;
        else
          to = border;
      }
    }
    store (&ret->bytes, &ret->stored, w->bytes + from, to - from,
           w->host_off + from);
    store (&ret->durable, &ret->durable_stored, w->bytes + from, to - from,
           w->host_off + from);
  }
  memory_disk_resize (ret, d->size);
}
