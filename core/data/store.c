/* SPDX-License-Identifier: BSD-3-Clause */
/* store.c - reads and writes data clusters in the right file, encrypted or
 * not.
 *
 * Owns      the choice of the file, encryption, and access to the backing
 *           image.
 * Method    reads go straight into the caller's buffer and are decrypted
 *           there; on a fast host, in pieces that stay in the CPU's cache.
 *           Writes are encrypted into buffers of the store, since the caller's
 *           bytes must not change.  A piece that begins or ends inside a
 *           sector includes the rest of the sector.
 * Locks     'sectors', a range lock, is held over I/O by writers of encrypted
 *           sectors, so that none writes back an old part of a sector that
 *           another one has just changed.  Reads take no lock: a read that
 *           races with a write may return old data, new data or a mix.  But a
 *           write of a part of a sector also writes bytes that it was not
 *           asked to change.  So a read notices by two counters if that
 *           happened meanwhile, and is then repeated with the lock.
 *           buffers_lock guards the list of idle buffers.
 * Does not  know about compressed clusters, tables or entries.
 */
#include "config.h"

#include "data/store.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/buffer.h"
#include "base/error.h"
#include "base/plant.h"

#include <stdio.h>
#include <string.h>

/* Bytes encrypted at a time on a fast host: they stay in the CPU's cache
 * between two passes.
 */
#define PIECE_BYTES (UINT64_C (256) << 10)
/* The same on a slow host. */
#define SLOW_PIECE_BYTES (UINT64_C (4) << 20)

static const unsigned char zeros[65536];

void
q2_store_init (struct q2_store *s)
{
  q2_ranges_init (&s->sectors);
  q2_io_shared_init (&s->data_shared);
  s->data_shared.file = "the data file";
  q2_mutex_init (&s->buffers_lock, 6, "buffers_lock");
}

void
q2_store_destroy (struct q2_store *s)
{
  while (s->nr_buffers > 0)
    q2_buffer_free (s->buffers[--s->nr_buffers], PIECE_BYTES);
  q2_mutex_destroy (&s->buffers_lock);
  q2_io_shared_destroy (&s->data_shared);
  q2_ranges_destroy (&s->sectors);
  q2_cipher_free (s->cipher);
}

bool
q2_store_is_slow (const struct q2_store *s, const struct q2_io *io)
{
  if (s->data ? q2_meter_is_slow (&s->data_shared.meter)
      : q2_io_is_slow (io))
    return true;
  return s->below != NULL &&
    (q2_meter_is_slow (&s->below_shared->meter) ||
     q2_store_is_slow (s->below_store, io));
}

/* ---- Buffers -------------------------------------------------------- */

static void *
get_buffer (struct q2_store *s, uint64_t size)
{
  void *p = NULL;

  q2_mutex_lock (&s->buffers_lock);
  if (size == PIECE_BYTES && s->nr_buffers > 0)
    p = s->buffers[--s->nr_buffers];
  (void) q2_check (s->nr_buffers <= Q2_STORE_BUFFERS && size > 0);
  q2_mutex_unlock (&s->buffers_lock);
  return p ? p : q2_buffer_alloc (size);
}

static void
put_buffer (struct q2_store *s, void *p, uint64_t size)
{
  q2_mutex_lock (&s->buffers_lock);
  (void) q2_check (s->nr_buffers <= Q2_STORE_BUFFERS);
  if (size == PIECE_BYTES && s->nr_buffers < Q2_STORE_BUFFERS) {
    s->buffers[s->nr_buffers++] = p;
    p = NULL;
  }
  q2_mutex_unlock (&s->buffers_lock);
  q2_buffer_free (p, size);
}

/* ---- Reading -------------------------------------------------------- */

static struct q2_place
advance (struct q2_place place, uint64_t n)
{
  return (struct q2_place) { place.host_off + n, place.guest_off + n };
}

static struct q2_place
first_sector (struct q2_place place)
{
  const uint64_t back = place.host_off & (Q2_CRYPT_SECTOR - 1);

  return (struct q2_place) { place.host_off - back, place.guest_off - back };
}

/* Read whole sectors, or any bytes if there is no encryption. */
static int
read_sectors (const struct q2_store *s, const struct q2_io *data, void *buf,
              uint64_t len, struct q2_place place, struct qcow2_error *err)
{
  const uint64_t piece =
    s->cipher && !q2_io_is_slow (data) ? PIECE_BYTES : len;
  unsigned char *p = buf;

  if (!q2_assume (!q2_store_is_unaligned (s, len, place), err))
    return -1;
  while (len > 0) {
    const uint64_t n = q2_min (len, piece);

    if (q2_io_read (data, p, n, place.host_off, QCOW2_IO_DATA, err) == -1)
      return -1;
    q2_store_decrypt (s, p, n, place);
    p += n;
    len -= n;
    place = advance (place, n);
  }
  return 0;
}

/* Read with the lock against writers of parts of sectors. */
static int
read_locked (struct q2_store *s, const struct q2_io *data, void *buf,
             uint64_t len, struct q2_place place, struct qcow2_error *err)
{
  struct q2_range range;
  int r;

  q2_ranges_lock (&s->sectors, &range, place.host_off, place.host_off + len);
  r = read_sectors (s, data, buf, len, place, err);
  q2_ranges_unlock (&s->sectors, &range);
  return r;
}

static int
read_whole (struct q2_store *s, const struct q2_io *data, void *buf,
            uint64_t len, struct q2_place place, struct qcow2_error *err)
{
  uint64_t before;

  if (s->cipher == NULL)
    return read_sectors (s, data, buf, len, place, err);
  /* Writers change the counters in the other order. */
  before = atomic_load (&s->partial_writes);
  if (atomic_load (&s->partial_writers) == 0) {
    if (read_sectors (s, data, buf, len, place, err) == -1)
      return -1;
    if (atomic_load (&s->partial_writes) == before)
      return 0;
  }
  return read_locked (s, data, buf, len, place, err);
}

static int
read_unaligned (struct q2_store *s, const struct q2_io *data,
                void *buf, uint64_t len, struct q2_place place,
                struct qcow2_error *err)
{
  const struct q2_place first = first_sector (place);
  const uint64_t skip = place.host_off - first.host_off;
  const uint64_t span = q2_align_up (skip + len, Q2_CRYPT_SECTOR);
  unsigned char *const bytes = q2_buffer_alloc (span);
  int r;

  if (bytes == NULL)
    return q2_fail_nomem (err, "encrypted sectors");
  r = read_whole (s, data, bytes, span, first, err);
  if (r == 0)
    memcpy (buf, bytes + skip, len);
  q2_buffer_free (bytes, span);
  return r;
}

int
q2_store_read (struct q2_store *s, const struct q2_io *io, void *buf,
               uint64_t len, struct q2_place place, struct qcow2_error *err)
{
  const struct q2_io data = q2_store_io (s, io);

  return q2_store_is_unaligned (s, len, place)
    ? read_unaligned (s, &data, buf, len, place, err)
    : read_whole (s, &data, buf, len, place, err);
}

/* ---- Writing -------------------------------------------------------- */

/* Read the sectors that the piece covers only partly, before it changes them.
 */
static int
read_edges (const struct q2_store *s, const struct q2_io *data,
            unsigned char *sectors, uint64_t span, struct q2_place first,
            uint64_t skip, uint64_t len, struct qcow2_error *err)
{
  const uint64_t last = span - Q2_CRYPT_SECTOR;
  const bool whole_first = skip == 0 && len >= Q2_CRYPT_SECTOR;

  if (!whole_first &&
      read_sectors (s, data, sectors, Q2_CRYPT_SECTOR, first, err) == -1)
    return -1;
  if (skip + len < span && (last > 0 || whole_first))
    return read_sectors (s, data, sectors + last, Q2_CRYPT_SECTOR,
                         advance (first, last), err);
  return 0;
}

/* Write as much as the buffer takes, from the start of the piece. */
static int
write_some (const struct q2_store *s, const struct q2_io *data,
            unsigned char *sectors, uint64_t size, const void *buf,
            uint64_t len, struct q2_place place, uint64_t *ret_done,
            struct qcow2_error *err)
{
  const struct q2_place first = first_sector (place);
  const uint64_t skip = place.host_off - first.host_off;
  const uint64_t n = q2_min (len, size - skip);
  const uint64_t span = q2_align_up (skip + n, Q2_CRYPT_SECTOR);
  const uint64_t sector =
    (s->guest_iv ? first.guest_off : first.host_off) / Q2_CRYPT_SECTOR;
  const void *plain = buf;

  if (!q2_assume (skip < size && span <= size, err))
    return -1;
  if (n < span) {
    if (read_edges (s, data, sectors, span, first, skip, n, err) == -1)
      return -1;
    memcpy (sectors + skip, buf, n);
    plain = sectors;
  }
  q2_cipher_encrypt (s->cipher, sectors, plain, span, sector);
  *ret_done = n;
  return q2_io_write (data, sectors, span, first.host_off, QCOW2_IO_DATA,
                      err);
}

static int
write_pieces (struct q2_store *s, const struct q2_io *data,
              unsigned char *sectors, uint64_t size,
              const unsigned char *buf, uint64_t len, struct q2_place place,
              struct qcow2_error *err)
{
  const bool partial = q2_store_is_unaligned (s, len, place);
  int r = 0;

  if (partial) {
    atomic_fetch_add (&s->partial_writers, 1);
    atomic_fetch_add (&s->partial_writes, 1);
  }
  while (len > 0 && r == 0) {
    uint64_t n = 0;

    r = write_some (s, data, sectors, size, buf, len, place, &n, err);
    if (r == 0 && !q2_assume (n > 0 && n <= len, err))
      r = -1;
    buf += n;
    len -= n;
    place = advance (place, n);
  }
  if (partial)
    atomic_fetch_sub (&s->partial_writers, 1);
  return r;
}

static int
write_encrypted (struct q2_store *s, const struct q2_io *data,
                 const unsigned char *buf, uint64_t len,
                 struct q2_place place, struct qcow2_error *err)
{
  const uint64_t size = len > PIECE_BYTES && q2_io_is_slow (data)
    ? SLOW_PIECE_BYTES : PIECE_BYTES;
  unsigned char *const sectors = get_buffer (s, size);
  struct q2_range range;
  int r;

  if (sectors == NULL)
    return q2_fail_nomem (err, "encrypting");
  q2_ranges_lock (&s->sectors, &range,
                  q2_align_down (place.host_off, Q2_CRYPT_SECTOR),
                  q2_align_up (place.host_off + len, Q2_CRYPT_SECTOR));
  r = write_pieces (s, data, sectors, size, buf, len, place, err);
  q2_ranges_unlock (&s->sectors, &range);
  put_buffer (s, sectors, size);
  return r;
}

int
q2_store_write (struct q2_store *s, const struct q2_io *io, const void *buf,
                uint64_t len, struct q2_place place, struct qcow2_error *err)
{
  const struct q2_io data = q2_store_io (s, io);

  if (len == 0)
    return 0;
  return s->cipher ? write_encrypted (s, &data, buf, len, place, err)
    : q2_io_write (&data, buf, len, place.host_off, QCOW2_IO_DATA, err);
}

int
q2_store_zero (struct q2_store *s, const struct q2_io *io, uint64_t len,
               struct q2_place place, bool may_punch,
               struct qcow2_error *err)
{
  const struct q2_io data = q2_store_io (s, io);

  if (s->cipher == NULL)
    return q2_io_zero (&data, len, place.host_off, may_punch, QCOW2_IO_DATA,
                       err);
  while (len > 0) {
    /* Between two pieces another writer may come: not within a sector. */
    const uint64_t skip = place.host_off & (Q2_CRYPT_SECTOR - 1);
    const uint64_t n = q2_min (len, sizeof zeros - skip);

    if (write_encrypted (s, &data, zeros, n, place, err) == -1)
      return -1;
    len -= n;
    place = advance (place, n);
  }
  return 0;
}

void
q2_store_trim (struct q2_store *s, uint64_t len, uint64_t host_off)
{
  const struct q2_io data = {
    .host = s->data, .file_size = s->data->size, .shared = &s->data_shared,
  };

  /* Zeros in the file decrypt to noise. */
  if (Q2_PLANTED (Q2_PLANT_TRIM_DATA))
    q2_io_trim (&data, len, host_off);
  else if (s->cipher == NULL)
    q2_io_punch (&data, len, host_off);
}

int
q2_store_flush (struct q2_store *s, struct qcow2_error *err)
{
  const struct q2_io data = {
    .host = s->data, .file_size = s->data ? s->data->size : 0,
    .shared = &s->data_shared,
  };

  return s->data ? q2_io_flush (&data, err) : 0;
}

/* ---- The backing image -------------------------------------------------- */

static struct q2_io
below_io (const struct q2_store *s)
{
  return (struct q2_io) {
    .host = s->below_host, .file_size = s->below_file_size,
    .shared = s->below_shared,
  };
}

/* How many of the bytes are inside the backing image. */
static uint64_t
inside_below (const struct q2_store *s, uint64_t len, uint64_t guest_off)
{
  return guest_off < s->below_size
    ? q2_min (len, s->below_size - guest_off) : 0;
}

/* A corrupt backing image does not make this image corrupt, and its offsets
 * mean nothing in this file.
 */
static int
fail_below (struct qcow2_error *err)
{
  char text[sizeof err->text];

  memcpy (text, err->text, sizeof text);
  snprintf (err->text, sizeof err->text, "in the backing file: %.*s",
            (int) (sizeof text - sizeof "in the backing file: "), text);
  if (err->kind == QCOW2_ERR_CORRUPT)
    err->kind = QCOW2_ERR_IO;
  err->offset = QCOW2_NO_OFFSET;
  return -1;
}

int
q2_store_read_below (const struct q2_store *s, void *buf, uint64_t len,
                     uint64_t guest_off, struct qcow2_error *err)
{
  const uint64_t inside = inside_below (s, len, guest_off);

  (void) q2_check (inside <= len && (inside == 0 || s->below != NULL));
  memset ((unsigned char *) buf + inside, 0, len - inside);
  if (inside > 0) {
    const struct q2_io io = below_io (s);

    if (s->below_ops->pread (s->below, &io, buf, inside, guest_off, err) == -1)
      return fail_below (err);
  }
  return 0;
}

int
q2_store_extents_below (const struct q2_store *s, uint64_t len,
                        uint64_t guest_off, qcow2_extent_fn fn,
                        void *fn_opaque, struct qcow2_error *err)
{
  const uint64_t inside = inside_below (s, len, guest_off);
  bool all = true;

  if (inside > 0) {
    const struct q2_io io = below_io (s);

    if (s->below_ops->extents (s->below, &io, inside, guest_off, fn,
                               fn_opaque, &all, err) == -1)
      return fail_below (err);
  }
  /* Report nothing after a part that is unknown, or at which fn stopped. */
  if (inside < len && all)
    fn (fn_opaque, guest_off + inside, len - inside, QCOW2_EXTENT_ZERO);
  return 0;
}

int
q2_store_cache_below (const struct q2_store *s, uint64_t len,
                      uint64_t guest_off, struct qcow2_error *err)
{
  const uint64_t inside = inside_below (s, len, guest_off);
  const struct q2_io io = below_io (s);

  if (inside > 0 &&
      s->below_ops->cache (s->below, &io, inside, guest_off, err) == -1)
    return fail_below (err);
  return 0;
}
