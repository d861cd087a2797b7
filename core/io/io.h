/* SPDX-License-Identifier: BSD-3-Clause */
/* io.h - the only way from the core to host bytes.
 *
 * Turns "read these bytes of the image" into calls that keep every promise
 * of struct qcow2_io_ops: inside the plugin, never empty, split, aligned.
 * Bytes past the end of the image file read as zeros, as every reader of
 * the format does: writers leave the last cluster and tables cut short.
 * Writing past the end makes the file grow, if the host can do that.
 */
#ifndef QCOW2_IO_IO_H
#define QCOW2_IO_IO_H

#include "base/bits.h"
#include "base/budget.h"
#include "base/ranges.h"
#include "io/meter.h"

#include "qcow2.h"

/* Largest request passed down: plugins and clients of remote stores have
 * limits near 32 or 64 MiB.
 */
#define Q2_IO_MAX (UINT32_C (32) << 20)

/* Bytes of the file that were read when the image was opened; constant. */
struct q2_window {
  unsigned char *bytes;         /* NULL: there is none */
  uint64_t start, end;
};
#define Q2_IO_WINDOWS 2

/* What the host may do faster than by reading and writing, or not at all. */
enum q2_io_speedup {
  Q2_IO_ZERO,                   /* see qcow2_io_ops.zero */
  Q2_IO_PUNCH,                  /* the same, with may_punch */
  Q2_IO_FAST_ZERO,              /* see qcow2_io_ops.fast_zero */
  Q2_IO_FAST_PUNCH,
  Q2_IO_TRIM,
};
#define Q2_IO_NR_SPEEDUPS 5
#define Q2_IO_NEVER (UINT32_C (1) << 31)

/* What all requests of an image share. */
struct q2_io_shared {
  const char *file;             /* NULL: it is the image file; else what to
                                   call it in messages; constant */
  struct qcow2_budget *budget;  /* of the image; NULL: no bound; constant */
  struct q2_window windows[Q2_IO_WINDOWS];
  struct q2_meter meter;
  /* What the host has refused: true for good; ranges have to be aligned to
   * these, Q2_IO_NEVER: it is no use to ask.
   */
  _Atomic bool no_cache, no_extents;
  _Atomic uint32_t unit[Q2_IO_NR_SPEEDUPS];
  /* Only used by images that are written to: */
  _Atomic bool written;         /* the windows are out of date */
  _Atomic bool flush_failed;    /* once */
  _Atomic bool bug;             /* shown by some request: no more changes */
  _Atomic uint64_t grown_size;  /* of the file; 0: it has not grown */
  pthread_mutex_t grow_lock;    /* one at a time asks the host to grow */
  struct q2_ranges blocks;      /* minimum blocks being written to */
};

extern void q2_io_shared_init (struct q2_io_shared *shared)
  __attribute__ ((__nonnull__));
extern void q2_io_shared_destroy (struct q2_io_shared *shared)
  __attribute__ ((__nonnull__));

/* One request's way to the file, on the caller's stack. */
struct q2_io {
  const struct qcow2_io *host;
  uint64_t file_size;           /* when the image was opened; may exceed
                                   host->size */
  struct q2_io_shared *shared;  /* may be NULL: nothing kept or measured */
};

/* After a request that has failed, or background work, in which a bug showed
 * up: the image takes no more changes.
 */
static inline void
q2_io_note_bug (const struct q2_io *io, const struct qcow2_error *err)
{
  if (io->shared && err->kind == QCOW2_ERR_BUG)
    io->shared->bug = true;
}

/* What to call the file in messages. */
static inline const char *
q2_io_file (const struct q2_io *io)
{
  return io->shared && io->shared->file ? io->shared->file
    : "the image file";
}

/* Of the image that this is a way to; NULL: no bound. */
static inline struct qcow2_budget *
q2_io_budget (const struct q2_io *io)
{
  return io->shared ? io->shared->budget : NULL;
}

/* True if the host takes long to answer, as far as is known: then requests
 * are worth saving, even at the price of reading too much.
 */
static inline bool
q2_io_is_slow (const struct q2_io *io)
{
  return io->shared && q2_meter_is_slow (&io->shared->meter);
}

/* Bytes of the image file now. */
static inline uint64_t
q2_io_size (const struct q2_io *io)
{
  const uint64_t grown = io->shared
    ? atomic_load_explicit (&io->shared->grown_size, memory_order_acquire)
    : 0;

  return q2_max (io->file_size, grown);
}

/* How many of them this way reaches. */
static inline uint64_t
q2_io_reach (const struct q2_io *io)
{
  return io->host->ops->grow ? q2_io_size (io)
    : q2_min (io->host->size, io->file_size);
}

/* Where what can be read ends, or what the last partial block hides. */
static inline uint64_t
q2_io_end (const struct q2_io *io)
{
  return q2_align_down (q2_io_reach (io), io->host->min_block);
}

/* An entry says that a cluster, or several, are in use: fail with
 * QCOW2_ERR_TRUNCATED if one of them begins at or behind the end of the file.
 */
extern int q2_io_check_in_file (const struct q2_io *io, uint64_t cluster_size,
                                uint64_t host_off, uint64_t len,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Read [host_off, host_off+count) into buf.  Any range is allowed. */
extern int q2_io_read (const struct q2_io *io, void *buf, uint64_t count,
                       uint64_t host_off, enum qcow2_io_class class,
                       struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Hint that the range will be read; nothing happens where the host takes no
 * hints.
 */
extern void q2_io_cache (const struct q2_io *io, uint64_t count,
                         uint64_t host_off) __attribute__ ((__nonnull__));

/* Which parts of the range are holes of the host file.  Ranges come out
 * ascending, without gaps and never past the end of the range; past the end
 * of the file is a hole.  Where the host cannot tell, or fails to, everything
 * is data.  Stops early, successfully, when fn returns nonzero.
 */
extern int q2_io_extents (const struct q2_io *io, uint64_t count,
                          uint64_t host_off, qcow2_host_extent_fn fn,
                          void *fn_opaque, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 4, 6), __warn_unused_result__));

/* The first part of [host_off, end) that is no hole, as far as that is one
 * piece: [*ret_start, *ret_end), empty and at 'end' if all of it is a hole.
 * Where the host cannot tell, or fails to, all is data: who reads a hole finds
 * zeros.
 */
extern void q2_io_next_data (const struct q2_io *io, uint64_t host_off,
                             uint64_t end, uint64_t *ret_start,
                             uint64_t *ret_end) __attribute__ ((__nonnull__));

/* ---- host_write.c --------------------------------------------------- */

/* Write the bytes; past the end of the file it grows, or the write fails
 * with QCOW2_ERR_NO_SPACE.  Where the host has a minimum block, the rest of
 * the first and last one is read and written back.
 */
extern int q2_io_write (const struct q2_io *io, const void *buf,
                        uint64_t count, uint64_t host_off,
                        enum qcow2_io_class class, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make durable what was written before. */
extern int q2_io_flush (const struct q2_io *io, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make the file at least that large; nothing to do if it is. */
extern int q2_io_grow (const struct q2_io *io, uint64_t min_size,
                       struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- zero.c --------------------------------------------------------- */

/* Make the range read as zeros, in the way that is cheapest for the host; if
 * it refuses they are written.
 */
extern int q2_io_zero (const struct q2_io *io, uint64_t count,
                       uint64_t host_off, bool may_punch,
                       enum qcow2_io_class class, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same, inside the file, but fail with QCOW2_ERR_NOT_FAST if more would
 * have to be written than what is not aligned at both ends.
 */
extern int q2_io_fast_zero (const struct q2_io *io, uint64_t count,
                            uint64_t host_off, bool may_punch,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Write zeros, so that afterwards the range has its place on the medium, as
 * far as whoever is below can give it one.
 */
extern int q2_io_write_zeros (const struct q2_io *io, uint64_t count,
                              uint64_t host_off, enum qcow2_io_class class,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Give the range back to the host, as far as it has whole blocks.  If the
 * host refuses, it just keeps them.
 */
extern void q2_io_trim (const struct q2_io *io, uint64_t count,
                        uint64_t host_off) __attribute__ ((__nonnull__));

/* The same, but they read as zeros afterwards, or as they did; nothing happens
 * where the host cannot zero.
 */
extern void q2_io_punch (const struct q2_io *io, uint64_t count,
                         uint64_t host_off) __attribute__ ((__nonnull__));

/* An errno value that means that the host can never do what it was asked
 * for.
 */
extern bool q2_is_unsupported (int errnum) __attribute__ ((__const__));

/* Name of what a request is for, in messages. */
extern const char *q2_io_class_name (enum qcow2_io_class class);

/* Largest request passed down. */
static inline uint32_t
q2_io_max_request (const struct q2_io *io)
{
  const uint32_t max = io->host->max_block;

  return max > 0 && max < Q2_IO_MAX ? max : Q2_IO_MAX;
}

#endif /* QCOW2_IO_IO_H */
