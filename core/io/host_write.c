/* SPDX-License-Identifier: BSD-3-Clause */
/* host_write.c - writing, flushing and growing the file.
 *
 * Owns      pwrite, flush and grow of struct qcow2_io_ops: only this file
 *           calls them.
 * Method    like reading (io.c).  If the host has a minimum block, a write
 *           that ends inside a block reads the rest of it first.  Every write,
 *           aligned or not, locks its blocks meanwhile; else writing back the
 *           rest could undo another write.  What was read ahead of a range
 *           that is written is dropped (ahead_changes.c).
 * Locks     shared->blocks, a range lock, is held over I/O, which is its
 *           purpose; it is used only with minimum blocks.  shared->grow_lock
 *           is held while the host grows the file: threads that wait for it
 *           need just that.
 */
#include "config.h"

#include "io/io.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

void
q2_io_shared_init (struct q2_io_shared *shared)
{
  q2_mutex_init (&shared->grow_lock, 3, "grow_lock");
  q2_ranges_init (&shared->blocks);
}

void
q2_io_shared_destroy (struct q2_io_shared *shared)
{
  q2_ranges_destroy (&shared->blocks);
  q2_mutex_destroy (&shared->grow_lock);
  for (size_t i = 0; i < Q2_IO_WINDOWS; ++i)
    free (shared->windows[i].bytes);
}

/* ---- Growing -------------------------------------------------------- */

static int
fail_no_space (const struct q2_io *io, uint64_t min_size,
               struct qcow2_error *err)
{
  return q2_fail (err, QCOW2_ERR_NO_SPACE, min_size,
                  "no space left: %s has %" PRIu64 " bytes and %" PRIu64
                  " are needed", q2_io_file (io), q2_io_size (io), min_size);
}

void
q2_io_note_size (struct q2_io_shared *shared, uint64_t size)
{
  q2_mutex_lock (&shared->grow_lock);
  if (size > atomic_load (&shared->grown_size))
    atomic_store_explicit (&shared->grown_size, size, memory_order_release);
  q2_mutex_unlock (&shared->grow_lock);
}

static int
grow_locked (const struct q2_io *io, uint64_t min_size,
             struct qcow2_error *err)
{
  uint64_t size = 0;
  int r;

  q2_mutex_check_held (&io->shared->grow_lock);
  if (q2_io_end (io) >= min_size)
    return 0;
  r = io->host->ops->grow (io->host->opaque, min_size, &size);
  if (r == ENOSPC || r == EFBIG || r == EDQUOT)
    return fail_no_space (io, min_size, err);
  if (r != 0)
    return q2_fail_io (err, r, min_size,
                       "making %s %" PRIu64 " bytes long failed: %s",
                       q2_io_file (io), min_size, strerror (r));
  if (!q2_assume (size >= min_size, err))
    return -1;
  atomic_store_explicit (&io->shared->grown_size, size,
                         memory_order_release);
  return 0;
}

int
q2_io_grow (const struct q2_io *io, uint64_t min_size,
            struct qcow2_error *err)
{
  int r;

  min_size = q2_align_up (min_size, io->host->min_block);
  if (q2_io_end (io) >= min_size)
    return 0;
  if (io->host->ops->grow == NULL || io->shared == NULL)
    return fail_no_space (io, min_size, err);
  q2_mutex_lock (&io->shared->grow_lock);
  r = grow_locked (io, min_size, err);
  q2_mutex_unlock (&io->shared->grow_lock);
  return r;
}

/* ---- Writing -------------------------------------------------------- */

static int
fail_write (const char *what, int r, uint64_t count, uint64_t host_off,
            enum qcow2_io_class class, struct qcow2_error *err)
{
  /* The image may be a sparse file on a full disk. */
  if (r == ENOSPC || r == EDQUOT)
    return q2_fail (err, QCOW2_ERR_NO_SPACE, host_off,
                    "%s %" PRIu64 " bytes of %s at offset 0x%" PRIx64
                    " failed: %s below the image; make room there", what,
                    count, q2_io_class_name (class), host_off, strerror (r));
  return q2_fail_io (err, r, host_off,
                     "%s %" PRIu64 " bytes of %s at offset 0x%" PRIx64
                     " failed: %s", what, count, q2_io_class_name (class),
                     host_off, strerror (r));
}

static int
write_pieces (const struct q2_io *io, const unsigned char *buf,
              uint64_t count, uint64_t host_off, enum qcow2_io_class class,
              struct qcow2_error *err)
{
  while (count > 0) {
    const uint32_t n = (uint32_t) q2_min (count, q2_io_max_request (io));
    const int r =
      io->host->ops->pwrite (io->host->opaque, buf, n, host_off, class);

    if (io->shared)
      q2_meter_count_write (&io->shared->meter, class, n);
    if (r != 0)
      return fail_write ("writing", r, n, host_off, class, err);
    buf += n;
    host_off += n;
    count -= n;
  }
  return 0;
}

static int
write_aligned (const struct q2_io *io, const unsigned char *buf,
               uint64_t count, uint64_t host_off, enum qcow2_io_class class,
               struct qcow2_error *err)
{
  struct q2_ahead_change change;
  int r;

  q2_io_begin_change (io, host_off, host_off + count, &change);
  r = write_pieces (io, buf, count, host_off, class, err);
  q2_io_end_change (io, &change);
  return r;
}

/* Write part of one block and keep the rest of it. */
static int
write_partial_block (const struct q2_io *io, const void *buf, size_t count,
                     uint64_t host_off, enum qcow2_io_class class,
                     struct qcow2_error *err)
{
  const uint32_t block = io->host->min_block;
  const uint64_t start = q2_align_down (host_off, block);
  Q2_CLEANUP_FREE unsigned char *bounce = malloc (block);

  if (bounce == NULL)
    return q2_fail_nomem (err, "an aligned block");
  if (q2_io_read (io, bounce, block, start, class, err) == -1)
    return -1;
  memcpy (bounce + (host_off - start), buf, count);
  return write_aligned (io, bounce, block, start, class, err);
}

/* Head, body and tail; the caller holds the blocks. */
static int
write_split (const struct q2_io *io, const unsigned char *buf,
             uint64_t count, uint64_t host_off, enum qcow2_io_class class,
             struct qcow2_error *err)
{
  const uint64_t block = io->host->min_block;

  if (!q2_is_aligned (host_off, block)) {
    const uint64_t n =
      q2_min (count, q2_align_up (host_off, block) - host_off);

    if (write_partial_block (io, buf, n, host_off, class, err) == -1)
      return -1;
    buf += n;
    host_off += n;
    count -= n;
  }
  if (count >= block) {
    const uint64_t n = q2_align_down (count, block);

    if (write_aligned (io, buf, n, host_off, class, err) == -1)
      return -1;
    buf += n;
    host_off += n;
    count -= n;
  }
  if (count > 0)
    return write_partial_block (io, buf, count, host_off, class, err);
  return 0;
}

int
q2_io_write (const struct q2_io *io, const void *buf, uint64_t count,
             uint64_t host_off, enum qcow2_io_class class,
             struct qcow2_error *err)
{
  const uint64_t block = io->host->min_block;
  const uint64_t end = host_off + count;
  struct q2_range range;
  int r;

  if (count == 0)
    return 0;
  if (end > q2_io_end (io) && q2_io_grow (io, end, err) == -1)
    return -1;
  if (block == 1)
    return write_aligned (io, buf, count, host_off, class, err);
  if (!q2_assume (io->shared != NULL, err))
    return -1;
  q2_ranges_lock (&io->shared->blocks, &range,
                  q2_align_down (host_off, block), q2_align_up (end, block));
  r = write_split (io, buf, count, host_off, class, err);
  q2_ranges_unlock (&io->shared->blocks, &range);
  return r;
}

/* ---- Flushing ------------------------------------------------------- */

/* A flush has succeeded that began when the file had grown to that size. */
static void
note_durable_size (struct q2_io_shared *shared, uint64_t size)
{
  uint64_t old = atomic_load (&shared->durable_size);

  while (old < size &&
         !atomic_compare_exchange_weak (&shared->durable_size, &old, size))
    ;
}

int
q2_io_flush (const struct q2_io *io, struct qcow2_error *err)
{
  const uint64_t size = q2_io_grown_size (io);
  int r;

  /* Another flush would succeed in spite of lost writes. */
  if (io->shared && io->shared->flush_failed)
    return q2_fail_io (err, EIO, QCOW2_NO_OFFSET, "an earlier flush of %s "
                       "has failed", q2_io_file (io));
  r = io->host->ops->flush (io->host->opaque);
  if (io->shared)
    atomic_fetch_add_explicit (&io->shared->meter.flushes, 1,
                               memory_order_relaxed);
  if (r == 0 && io->shared)
    note_durable_size (io->shared, size);
  if (r == 0)
    return 0;
  if (io->shared)
    io->shared->flush_failed = true;
  return q2_fail_io (err, r, QCOW2_NO_OFFSET,
                     "flushing %s failed: %s", q2_io_file (io), strerror (r));
}
