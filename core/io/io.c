/* SPDX-License-Identifier: BSD-3-Clause */
/* io.c - bounds, zero-fill, alignment and splitting of host I/O.
 *
 * Owns      pread, extents and cache of struct qcow2_io_ops: only this file
 *           calls them.
 * Method    clips the range at the end of the file and zeroes the rest; copies
 *           bytes that opening has read from the windows.  Then the common
 *           case (no minimum block, or already aligned) goes straight into the
 *           caller's buffer, and an unaligned head or tail goes through a
 *           bounce buffer of one block.  For those who check an image a read
 *           that fails with EIO is done once more.
 * Locks     none.  May block for as long as the host does.
 */
#include "config.h"

#include "io/io.h"

#include "base/assume.h"
#include "base/bits.h"
#include "base/cleanup.h"
#include "base/error.h"

#include <inttypes.h>
#include <errno.h>
#include <string.h>
#include <time.h>

const char *
q2_io_class_name (enum qcow2_io_class class)
{
  switch (class) {
  case QCOW2_IO_HEADER:     return "header";
  case QCOW2_IO_L1:         return "L1 table";
  case QCOW2_IO_L2:         return "L2 table";
  case QCOW2_IO_REFCOUNT:   return "refcount block";
  case QCOW2_IO_DATA:       return "data cluster";
  case QCOW2_IO_COMPRESSED: return "compressed cluster";
  }
  return "data";
}

/* A server, a cable or a disk that is busy with itself may bring the bytes the
 * next time; of other errors that is not to be expected.
 */
#define PAUSE_MS 20

static bool
may_pass (int errnum)
{
  return errnum == EIO;
}

static int
call_host_once (const struct q2_io *io, void *buf, uint32_t count,
                uint64_t host_off, enum qcow2_io_class class)
{
  struct q2_meter *const meter = io->shared ? &io->shared->meter : NULL;
  const uint64_t start =
    meter && q2_meter_wants_sample (meter, class, host_off)
    ? q2_meter_now () : 0;
  const int r =
    io->host->ops->pread (io->host->opaque, buf, count, host_off, class);

  if (start && r == 0)
    q2_meter_sample (meter, q2_meter_now () - start, count);
  if (meter)
    q2_meter_count (meter, class, count);
  return r;
}

/* A disk on which everything fails is given up soon. */
static bool
take_retry (const struct q2_io *io)
{
  return io->shared == NULL ||
    (atomic_load (&io->shared->retries) < Q2_IO_MAX_RETRIES &&
     atomic_fetch_add (&io->shared->retries, 1) < Q2_IO_MAX_RETRIES);
}

static int
call_host (const struct q2_io *io, void *buf, uint32_t count,
           uint64_t host_off, enum qcow2_io_class class)
{
  const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000000L };
  const int r = call_host_once (io, buf, count, host_off, class);

  if (!io->patient || !may_pass (r) || !take_retry (io))
    return r;
  nanosleep (&pause, NULL);
  return call_host_once (io, buf, count, host_off, class);
}

/* A range inside the file and aligned to the minimum block. */
static int
read_aligned (const struct q2_io *io, unsigned char *buf, uint64_t count,
              uint64_t host_off, enum qcow2_io_class class,
              struct qcow2_error *err)
{
  while (count > 0) {
    const uint32_t n = (uint32_t) q2_min (count, q2_io_max_request (io));
    const int r = call_host (io, buf, n, host_off, class);

    if (r != 0)
      return q2_fail_io (err, r, host_off,
                         "reading %" PRIu32 " bytes of %s at offset "
                         "0x%" PRIx64 " failed: %s", n,
                         q2_io_class_name (class), host_off, strerror (r));
    buf += n;
    host_off += n;
    count -= n;
  }
  return 0;
}

/* Part of one block, through a bounce buffer. */
static int
read_partial_block (const struct q2_io *io, unsigned char *buf, size_t count,
                    uint64_t host_off, enum qcow2_io_class class,
                    struct qcow2_error *err)
{
  const uint32_t block = io->host->min_block;
  const uint64_t start = q2_align_down (host_off, block);
  Q2_CLEANUP_FREE unsigned char *bounce = NULL;

  if (start + block > q2_io_reach (io))
    return q2_fail_advise (err, QCOW2_ERR_IO, QCOW2_ADVICE_ROUND_UP, host_off,
                           "offset 0x%" PRIx64 " lies in the last, partial "
                           "block of the file, which cannot be read with a "
                           "minimum block size of %" PRIu32, host_off, block);
  bounce = malloc (block);
  if (bounce == NULL)
    return q2_fail_nomem (err, "an aligned block");
  if (read_aligned (io, bounce, block, start, class, err) == -1)
    return -1;
  memcpy (buf, bounce + (host_off - start), count);
  return 0;
}

/* A range inside the file: head, body and tail. */
static int
read_split (const struct q2_io *io, unsigned char *buf, uint64_t count,
            uint64_t host_off, enum qcow2_io_class class,
            struct qcow2_error *err)
{
  const uint64_t block = io->host->min_block;

  if (block > 1 && !q2_is_aligned (host_off, block)) {
    const uint64_t n =
      q2_min (count, q2_align_up (host_off, block) - host_off);

    if (read_partial_block (io, buf, n, host_off, class, err) == -1)
      return -1;
    buf += n;
    host_off += n;
    count -= n;
  }
  if (count >= block) {
    const uint64_t n = block > 1 ? q2_align_down (count, block) : count;

    if (read_aligned (io, buf, n, host_off, class, err) == -1)
      return -1;
    buf += n;
    host_off += n;
    count -= n;
  }
  if (count > 0)
    return read_partial_block (io, buf, count, host_off, class, err);
  return 0;
}

static bool
read_window (const struct q2_io *io, void *buf, uint64_t count,
             uint64_t host_off)
{
  if (io->shared == NULL || atomic_load (&io->shared->written))
    return false;
  for (size_t i = 0; i < Q2_IO_WINDOWS; ++i) {
    const struct q2_window *const w = &io->shared->windows[i];

    if (w->bytes && host_off >= w->start && host_off < w->end &&
        count <= w->end - host_off) {
      memcpy (buf, w->bytes + (host_off - w->start), count);
      return true;
    }
  }
  return false;
}

int
q2_io_read (const struct q2_io *io, void *buf, uint64_t count,
            uint64_t host_off, enum qcow2_io_class class,
            struct qcow2_error *err)
{
  const uint64_t size = q2_io_size (io);
  uint64_t inside;

  if (count == 0 || host_off >= size) {
    memset (buf, 0, count);
    return 0;
  }
  inside = q2_min (count, size - host_off);
  if (inside < count)
    memset ((unsigned char *) buf + inside, 0, count - inside);
  if (read_window (io, buf, inside, host_off))
    return 0;
  if (host_off + inside > q2_io_reach (io))
    return q2_fail_advise (err, QCOW2_ERR_IO, QCOW2_ADVICE_NEW_HANDLE,
                           host_off,
                           "%s was %" PRIu64 " bytes long when it was opened, "
                           "but only %" PRIu64 " can be reached here",
                           q2_io_file (io), size, q2_io_reach (io));
  return read_split (io, buf, inside, host_off, class, err);
}

bool
q2_is_unsupported (int errnum)
{
  return errnum == ENOTSUP || errnum == EOPNOTSUPP || errnum == ENOSYS ||
    errnum == ENOTTY || errnum == ENODEV;
}

void
q2_io_cache (const struct q2_io *io, uint64_t count, uint64_t host_off)
{
  const uint64_t block = io->host->min_block;
  const uint64_t end_of_io = q2_io_end (io);
  uint64_t end;

  if (host_off >= end_of_io || io->host->ops->cache == NULL ||
      (io->shared && atomic_load (&io->shared->no_cache)))
    return;
  end = host_off + q2_min (count, end_of_io - host_off);
  end = q2_align_up (end, block);
  host_off = q2_align_down (host_off, block);
  while (host_off < end) {
    const uint32_t n =
      (uint32_t) q2_min (end - host_off, q2_io_max_request (io));
    const int r = io->host->ops->cache (io->host->opaque, n, host_off);

    if (r != 0 && io->shared && q2_is_unsupported (r))
      atomic_store (&io->shared->no_cache, true);
    if (r != 0)                 /* the hint is optional */
      return;
    host_off += n;
  }
}

/* The last cluster of a file may be cut short. */
int
q2_io_check_in_file (const struct q2_io *io, uint64_t cluster_size,
                     uint64_t host_off, uint64_t len,
                     struct qcow2_error *err)
{
  const uint64_t size = q2_io_size (io);
  const uint64_t last = q2_align_down (host_off + len - 1, cluster_size);

  if (last < size)
    return 0;
  return q2_fail_advise (err, QCOW2_ERR_TRUNCATED, QCOW2_ADVICE_COPY, last,
                         "the cluster at offset 0x%" PRIx64 " is in use, but "
                         "the image file ends before it, after %" PRIu64
                         " bytes", last, size);
}

/* ---- Extents -------------------------------------------------------- */

#define MAX_EXTENTS_REQUEST (UINT32_C (1) << 30)

/* Clips extents of the host to the range of the caller: with a minimum block
 * the host is asked about a wider one.
 */
struct clip {
  uint64_t start, end;          /* the rest of the caller's range */
  qcow2_host_extent_fn fn;
  void *fn_opaque;
  bool stopped;
};

static int
clip_extent (void *opaque, uint64_t host_off, uint64_t len, bool hole)
{
  struct clip *clip = opaque;
  const uint64_t to = q2_min (host_off + len, clip->end);

  if (clip->stopped || to <= clip->start)
    return clip->stopped;
  if (clip->fn (clip->fn_opaque, clip->start, to - clip->start, hole) != 0)
    clip->stopped = true;
  clip->start = to;
  return clip->stopped;
}

/* Report extents of the host until it fails. */
static void
ask_host (const struct q2_io *io, struct clip *clip, uint64_t end)
{
  const uint64_t block = io->host->min_block;

  while (clip->start < end && !clip->stopped) {
    const uint64_t from = q2_align_down (clip->start, block);
    const uint64_t to = q2_align_up (end, block);
    const uint32_t n = (uint32_t) q2_min (to - from, MAX_EXTENTS_REQUEST);
    const uint64_t before = clip->start;
    const int r = io->host->ops->extents (io->host->opaque, n, from,
                                          clip_extent, clip);

    if (r != 0 && io->shared && q2_is_unsupported (r))
      atomic_store (&io->shared->no_extents, true);
    if (r != 0)
      return;
    /* An answer that tells nothing about the range counts as data. */
    if (clip->start == before && !clip->stopped)
      clip_extent (clip, before, end - before, false);
  }
}

int
q2_io_extents (const struct q2_io *io, uint64_t count, uint64_t host_off,
               qcow2_host_extent_fn fn, void *fn_opaque,
               struct qcow2_error *err)
{
  const uint64_t end = host_off + count;
  const uint64_t size = q2_io_size (io);
  const uint64_t end_of_io = q2_io_end (io);
  const uint64_t ask_end = q2_min (end, end_of_io);
  struct clip clip = { host_off, ask_end, fn, fn_opaque, false };

  if (!q2_assume (end >= host_off, err))
    return -1;
  if (io->host->ops->extents != NULL && host_off < ask_end &&
      !(io->shared && atomic_load (&io->shared->no_extents)))
    ask_host (io, &clip, ask_end);
  /* Without an answer: data up to the end of the file, a hole past it. */
  clip.end = end;
  if (clip.start < q2_min (end, size))
    clip_extent (&clip, clip.start, q2_min (end, size) - clip.start, false);
  if (clip.start < end)
    clip_extent (&clip, clip.start, end - clip.start, true);
  return 0;
}

struct stretch {
  uint64_t start, end;          /* equal: none yet */
};

static int
note_stretch (void *opaque, uint64_t host_off, uint64_t len, bool hole)
{
  struct stretch *const s = opaque;

  if (hole)
    return s->start < s->end;
  if (s->start == s->end)
    s->start = host_off;
  s->end = host_off + len;
  return 0;
}

void
q2_io_next_data (const struct q2_io *io, uint64_t host_off, uint64_t end,
                 uint64_t *ret_start, uint64_t *ret_end)
{
  struct stretch s = { end, end };
  struct qcow2_error ignored;

  if (host_off < end &&
      q2_io_extents (io, end - host_off, host_off, note_stretch, &s,
                     &ignored) == -1)
    s = (struct stretch) { host_off, end };
  *ret_start = s.start;
  *ret_end = s.end;
}
