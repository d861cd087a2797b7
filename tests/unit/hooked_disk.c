/* SPDX-License-Identifier: BSD-3-Clause */
/* hooked_disk.c - see hooked_disk.h.
 *
 * Owns      the hooks around the host's operations.
 * Method    each host has its own copy of the table of operations, in which
 *           those with a hook are replaced.
 * Locks     host.lock, for the records and for fields of the file.
 */
#include "config.h"

#include "hooked_disk.h"

#include "base/be.h"

/* ---- Hooks -------------------------------------------------------------- */

static int
hooked_pread (void *opaque, void *buf, uint32_t count, uint64_t host_off,
              enum qcow2_io_class io_class)
{
  struct hooked_disk *const d = opaque;
  const int r = d->inner.pread (opaque, buf, count, host_off, io_class);

  if (d->after_read)
    d->after_read (d, count, host_off, io_class);
  return r;
}

static int
hooked_pwrite (void *opaque, const void *buf, uint32_t count,
               uint64_t host_off, enum qcow2_io_class io_class)
{
  struct hooked_disk *const d = opaque;

  if (d->before_write)
    d->before_write (d, count, host_off, io_class);
  return d->inner.pwrite (opaque, buf, count, host_off, io_class);
}

static int
hooked_flush (void *opaque)
{
  struct hooked_disk *const d = opaque;

  if (d->before_flush)
    d->before_flush (d);
  return d->inner.flush (opaque);
}

static int
hooked_trim (void *opaque, uint32_t count, uint64_t host_off)
{
  struct hooked_disk *const d = opaque;

  pthread_mutex_lock (&d->host.lock);
  REQUIRE (d->nr_trims < HOOKED_MAX_TRIMS);
  d->trims[d->nr_trims].host_off = host_off;
  d->trims[d->nr_trims++].len = count;
  pthread_mutex_unlock (&d->host.lock);
  if (d->before_trim)
    d->before_trim (d);
  return d->inner.trim (opaque, count, host_off);
}

static int
hooked_grow (void *opaque, uint64_t min_size, uint64_t *ret_size)
{
  struct hooked_disk *const d = opaque;

  pthread_mutex_lock (&d->host.lock);
  if (min_size > d->asked)
    d->asked = min_size;
  pthread_mutex_unlock (&d->host.lock);
  return d->inner.grow (opaque, min_size, ret_size);
}

/* ---- Life --------------------------------------------------------------- */

static void
build (struct hooked_disk *d, unsigned cluster_bits, unsigned refcount_order,
       uint64_t virtual_size, unsigned nr, unsigned gap)
{
  const struct image_spec spec = {
    .version = 3, .cluster_bits = cluster_bits,
    .refcount_order = refcount_order, .virtual_size = virtual_size,
  };
  unsigned char *cluster;

  memset (d, 0, sizeof *d);
  builder_init (&d->b, &spec);
  cluster = malloc (d->b.cluster_size);
  REQUIRE (cluster != NULL);
  for (unsigned i = 0; i < nr; ++i) {
    memset (cluster, 'a' + (int) i, d->b.cluster_size);
    if (gap > 0)
      builder_alloc (&d->b, gap);
    builder_data (&d->b, i, cluster);
  }
  free (cluster);
  builder_finish (&d->b);
}

void
hooked_disk_build (struct hooked_disk *d, unsigned cluster_bits,
                   unsigned refcount_order, uint64_t virtual_size,
                   unsigned nr)
{
  build (d, cluster_bits, refcount_order, virtual_size, nr, 0);
}

void
hooked_disk_build_apart (struct hooked_disk *d, unsigned cluster_bits,
                         unsigned refcount_order, uint64_t virtual_size,
                         unsigned nr)
{
  build (d, cluster_bits, refcount_order, virtual_size, nr, 1);
}

void
hooked_disk_serve (struct hooked_disk *d, const struct host_spec *spec)
{
  host_init (&d->host, spec, d->b.bytes, d->b.size);
  d->inner = d->host.ops;
  d->host.ops.pread = hooked_pread;
  d->host.ops.pwrite = hooked_pwrite;
  d->host.ops.flush = hooked_flush;
  d->host.ops.trim = hooked_trim;
  if (d->inner.grow)
    d->host.ops.grow = hooked_grow;
}

void
hooked_disk_open (struct hooked_disk *d)
{
  const struct qcow2_options options = {
    .writable = true, .overlap_check = QCOW2_OVERLAP_CACHED,
    .lazy_refcounts = d->lazy_refcounts, .refcounts = d->refcounts,
  };

  host_reopen (&d->host);
  d->image = qcow2_open (&d->host.io, &options, &d->err);
  REQUIRE (d->image != NULL);
  REQUIRE (qcow2_get_info (d->image).writable);
}

void
hooked_disk_free (struct hooked_disk *d)
{
  qcow2_close (d->image);
  host_free (&d->host);
  builder_free (&d->b);
}

/* ---- Fields ------------------------------------------------------------- */

static bool
is_served (const struct hooked_disk *d)
{
  return d->host.bytes != NULL;
}

uint64_t
hooked_disk_get (struct hooked_disk *d, uint64_t host_off)
{
  uint64_t value;

  if (!is_served (d))
    return load_be64 (d->b.bytes + host_off);
  pthread_mutex_lock (&d->host.lock);
  value = load_be64 (d->host.bytes + host_off);
  pthread_mutex_unlock (&d->host.lock);
  return value;
}

void
hooked_disk_put (struct hooked_disk *d, uint64_t host_off, uint64_t value)
{
  if (!is_served (d)) {
    store_be64 (d->b.bytes + host_off, value);
    return;
  }
  pthread_mutex_lock (&d->host.lock);
  store_be64 (d->host.bytes + host_off, value);
  pthread_mutex_unlock (&d->host.lock);
}

/* ---- Requests ----------------------------------------------------------- */

/* log2 of how many clusters a refcount block counts, from the header. */
static unsigned
counted_bits (struct hooked_disk *d)
{
  const unsigned cluster_bits = (uint32_t) hooked_disk_get (d, 16);
  const unsigned order = (unsigned) (hooked_disk_get (d, 96) >> 32);

  return cluster_bits + 3 - order;
}

uint64_t
hooked_disk_block_off (struct hooked_disk *d, uint64_t host_off)
{
  const uint64_t cluster = host_off >> (uint32_t) hooked_disk_get (d, 16);

  return hooked_disk_get (d, hooked_disk_get (d, 48) +
                          8 * (cluster >> counted_bits (d)));
}

uint64_t
hooked_disk_refcount_off (struct hooked_disk *d, uint64_t host_off)
{
  const unsigned cluster_bits = (uint32_t) hooked_disk_get (d, 16);
  const unsigned bits = counted_bits (d);
  const uint64_t i = (host_off >> cluster_bits) & ((UINT64_C (1) << bits) - 1);

  return hooked_disk_block_off (d, host_off) + (i << (cluster_bits - bits));
}

bool
hooked_disk_write (struct hooked_disk *d, uint64_t guest_cluster, int byte)
{
  const uint32_t size = (uint32_t) d->b.cluster_size;
  unsigned char *const buf = malloc (size);
  int r;

  REQUIRE (buf != NULL);
  memset (buf, byte, size);
  r = qcow2_pwrite (d->image, &d->host.io, buf, size, guest_cluster * size,
                    false, &d->err);
  free (buf);
  return r == 0;
}

bool
hooked_disk_trim (struct hooked_disk *d, uint64_t guest_cluster)
{
  return qcow2_trim (d->image, &d->host.io, d->b.cluster_size,
                     guest_cluster * d->b.cluster_size, false, &d->err) == 0;
}

bool
hooked_disk_flush (struct hooked_disk *d)
{
  return qcow2_flush (d->image, &d->host.io, &d->err) == 0;
}

void
hooked_disk_check (struct hooked_disk *d, uint64_t guest_cluster, int byte)
{
  const uint32_t size = (uint32_t) d->b.cluster_size;
  unsigned char *const buf = malloc (2 * (size_t) size);

  REQUIRE (buf != NULL);
  memset (buf + size, byte, size);
  if (CHECK_EQ (qcow2_pread (d->image, &d->host.io, buf, size,
                             guest_cluster * size, &d->err), 0))
    CHECK_BYTES (buf, buf + size, size);
  free (buf);
}

unsigned
hooked_disk_trims_of (const struct hooked_disk *d, uint64_t host_off)
{
  unsigned n = 0;

  for (size_t i = 0; i < d->nr_trims; ++i)
    n += d->trims[i].host_off < host_off + d->b.cluster_size &&
      host_off < d->trims[i].host_off + d->trims[i].len;
  return n;
}
