/* SPDX-License-Identifier: BSD-3-Clause */
/* zero.c - zeroing and trimming the host.
 *
 * Owns      zero, fast_zero and trim of struct qcow2_io_ops, and the memory of
 *           what the host has refused.
 * Method    asks the host to zero, and writes zeros if it refuses: only
 *           writing can fail.  Refusals are remembered by their cause.  EINVAL
 *           means alignment, as of a device whose sectors are larger than the
 *           host says, or of a plugin that takes no odd sizes: from then on
 *           only larger units are asked for, and zeros are written around
 *           them. Lack of support holds for good.  All else, such as EIO and
 *           ENOSPC, concerns this request alone.
 * Locks     shared->blocks, as in host_write.c; refusals are atomics.
 */
#include "config.h"

#include "io/io.h"

#include "base/bits.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static const unsigned char zeros[65536];

#define MAX_BUFFER (UINT64_C (1) << 20)

/* Writing fewer zeros than this is faster than asking. */
#define MIN_HOST_ZERO 32768

/* ---- What was refused ----------------------------------------------- */

/* Sectors, pages, and larger blocks of plugins. */
static const uint32_t units[] = { 512, 4096, 65536 };

/* The alignment that the host needs; Q2_IO_NEVER: it always refuses. */
static uint32_t
unit_of (const struct q2_io *io, enum q2_io_speedup what)
{
  const uint32_t block = io->host->min_block;
  const uint32_t unit = io->shared
    ? atomic_load_explicit (&io->shared->unit[what], memory_order_relaxed)
    : 0;

  return unit > block ? unit : block;
}

/* The host has refused a range aligned to 'unit'.  Returns true if a larger
 * unit is worth a try.
 */
static bool
learn (const struct q2_io *io, enum q2_io_speedup what, int errnum,
       uint32_t unit)
{
  uint32_t next = Q2_IO_NEVER;

  if (io->shared == NULL || (errnum != EINVAL && !q2_is_unsupported (errnum)))
    return false;
  for (size_t i = sizeof units / sizeof *units; i > 0; --i)
    if (errnum == EINVAL && units[i - 1] > unit)
      next = units[i - 1];
  /* Another thread may have learned more meanwhile. */
  for (uint32_t old = atomic_load (&io->shared->unit[what]);
       old < next &&
         !atomic_compare_exchange_weak (&io->shared->unit[what], &old, next);)
    ;
  return next != Q2_IO_NEVER;
}

/* ---- Asking --------------------------------------------------------- */

static int
ask (const struct q2_io *io, enum q2_io_speedup what, uint32_t count,
     uint64_t host_off, enum qcow2_io_class class)
{
  const struct qcow2_io_ops *const ops = io->host->ops;
  void *const opaque = io->host->opaque;

  switch (what) {
  case Q2_IO_ZERO:
    return ops->zero (opaque, count, host_off, false, class);
  case Q2_IO_PUNCH:
    return ops->zero (opaque, count, host_off, true, class);
  case Q2_IO_FAST_ZERO:
    return ops->fast_zero (opaque, count, host_off, false, class);
  case Q2_IO_FAST_PUNCH:
    return ops->fast_zero (opaque, count, host_off, true, class);
  case Q2_IO_TRIM:
    return ops->trim (opaque, count, host_off);
  }
  return ENOTSUP;
}

static bool
can_ask (const struct q2_io *io, enum q2_io_speedup what)
{
  const struct qcow2_io_ops *const ops = io->host->ops;

  switch (what) {
  case Q2_IO_ZERO:
  case Q2_IO_PUNCH:
    return ops->zero != NULL;
  case Q2_IO_FAST_ZERO:
  case Q2_IO_FAST_PUNCH:
    return ops->fast_zero != NULL;
  case Q2_IO_TRIM:
    return ops->trim != NULL;
  }
  return false;
}

/* A power of two, so that the pieces of an aligned range are aligned. */
static uint64_t
largest_piece (const struct q2_io *io)
{
  const uint64_t max = q2_io_max_request (io);

  return max >= 65536 ? q2_align_down (max, 65536) : max;
}

/* An aligned range. */
static int
ask_pieces (const struct q2_io *io, enum q2_io_speedup what, uint64_t start,
            uint64_t end, enum qcow2_io_class class)
{
  while (start < end) {
    const uint32_t n =
      (uint32_t) q2_min (end - start, largest_piece (io));
    const int r = ask (io, what, n, start, class);

    if (io->shared && what != Q2_IO_TRIM)
      q2_meter_count_write (&io->shared->meter, class, n);
    if (r != 0)
      return r;
    start += n;
  }
  return 0;
}

/* What is trimmed reads as anything, so it is changed, too. */
static int
ask_and_tell (const struct q2_io *io, enum q2_io_speedup what, uint64_t start,
              uint64_t end, enum qcow2_io_class class)
{
  struct q2_ahead_change change;
  int r;

  q2_io_begin_change (io, start, end, &change);
  r = ask_pieces (io, what, start, end, class);
  q2_io_end_change (io, &change);
  return r;
}

/* The same, with its minimum blocks locked. */
static int
ask_blocks (const struct q2_io *io, enum q2_io_speedup what, uint64_t start,
            uint64_t end, enum qcow2_io_class class)
{
  struct q2_range range;
  int r;

  if (io->host->min_block == 1 || what == Q2_IO_TRIM)
    return ask_and_tell (io, what, start, end, class);
  q2_ranges_lock (&io->shared->blocks, &range, start, end);
  r = ask_and_tell (io, what, start, end, class);
  q2_ranges_unlock (&io->shared->blocks, &range);
  return r;
}

/* The largest aligned part of a range, of at least 'least' bytes, that the
 * host has zeroed; both 0: none.
 */
struct middle {
  uint64_t start, end;
};

static struct middle
ask_middle (const struct q2_io *io, enum q2_io_speedup what, uint64_t count,
            uint64_t host_off, uint64_t least, enum qcow2_io_class class)
{
  while (can_ask (io, what)) {
    const uint32_t unit = unit_of (io, what);
    const struct middle m = {
      unit == Q2_IO_NEVER ? 0 : q2_align_up (host_off, unit),
      unit == Q2_IO_NEVER ? 0 : q2_align_down (host_off + count, unit),
    };
    int r;

    if (m.start >= m.end || m.end - m.start < least)
      break;
    r = ask_blocks (io, what, m.start, m.end, class);
    if (r == 0)
      return m;
    if (!learn (io, what, r, unit))
      break;
  }
  return (struct middle) { 0, 0 };
}

/* ---- Zeroing -------------------------------------------------------- */

/* Uses a large buffer, and so few requests, if there is memory for it. */
int
q2_io_write_zeros (const struct q2_io *io, uint64_t count, uint64_t host_off,
                   enum qcow2_io_class class, struct qcow2_error *err)
{
  const size_t size = (size_t) q2_min (count, MAX_BUFFER);
  Q2_CLEANUP_FREE unsigned char *large =
    count > sizeof zeros ? calloc (1, size) : NULL;
  const size_t max = large ? size : sizeof zeros;

  while (count > 0) {
    const uint64_t n = q2_min (count, max);

    if (q2_io_write (io, large ? large : zeros, n, host_off, class, err)
        == -1)
      return -1;
    host_off += n;
    count -= n;
  }
  return 0;
}

static int
write_around (const struct q2_io *io, uint64_t count, uint64_t host_off,
              struct middle m, enum qcow2_io_class class,
              struct qcow2_error *err)
{
  if (m.start == m.end)
    return q2_io_write_zeros (io, count, host_off, class, err);
  if (q2_io_write_zeros (io, m.start - host_off, host_off, class, err) == -1)
    return -1;
  return q2_io_write_zeros (io, host_off + count - m.end, m.end, class, err);
}

int
q2_io_zero (const struct q2_io *io, uint64_t count, uint64_t host_off,
            bool may_punch, enum qcow2_io_class class,
            struct qcow2_error *err)
{
  struct middle m;

  if (host_off + count > q2_io_end (io) &&
      q2_io_grow (io, host_off + count, err) == -1)
    return -1;
  m = ask_middle (io, may_punch ? Q2_IO_PUNCH : Q2_IO_ZERO, count, host_off,
                  MIN_HOST_ZERO, class);
  return write_around (io, count, host_off, m, class, err);
}

int
q2_io_fast_zero (const struct q2_io *io, uint64_t count, uint64_t host_off,
                 bool may_punch, struct qcow2_error *err)
{
  struct middle m = { 0, 0 };

  if (host_off + count > q2_io_end (io))
    return q2_fail (err, QCOW2_ERR_NOT_FAST, host_off, "%s would have to "
                    "grow to be zeroed", q2_io_file (io));
  m = ask_middle (io, may_punch ? Q2_IO_FAST_PUNCH : Q2_IO_FAST_ZERO, count,
                  host_off, 1, QCOW2_IO_DATA);
  if (m.start == m.end)
    return q2_fail (err, QCOW2_ERR_NOT_FAST, host_off, "zeros would have to "
                    "be written to %s at offset 0x%" PRIx64,
                    q2_io_file (io), host_off);
  return write_around (io, count, host_off, m, QCOW2_IO_DATA, err);
}

/* ---- Trimming ---------------------------------------------------- */

static void
give_back (const struct q2_io *io, enum q2_io_speedup what, uint64_t count,
           uint64_t host_off)
{
  const uint64_t end = q2_min (host_off + count, q2_io_end (io));
  struct middle done;

  if (host_off >= end)
    return;
  done = ask_middle (io, what, end - host_off, host_off, 1, QCOW2_IO_DATA);
  (void) done;                  /* ignore refusals */
}

void
q2_io_trim (const struct q2_io *io, uint64_t count, uint64_t host_off)
{
  give_back (io, Q2_IO_TRIM, count, host_off);
}

void
q2_io_punch (const struct q2_io *io, uint64_t count, uint64_t host_off)
{
  give_back (io, Q2_IO_PUNCH, count, host_off);
}
