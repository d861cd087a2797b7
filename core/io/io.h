/* SPDX-License-Identifier: BSD-3-Clause */
/* io.h - reading, writing, flushing, zeroing and growing one file.
 *
 * All host bytes go through here; write/ and read/ call only cut, spend,
 * borrow and give_back of struct qcow2_io_ops themselves.  Any range is turned
 * into calls that keep the rules of that struct: inside the file, never empty,
 * split, aligned.  Bytes past the end of the file read as zeros, as for every
 * reader of the format: writers leave the last cluster or table cut short.
 * Writing past the end grows the file, if the host can do that.
 */
#ifndef QCOW2_IO_IO_H
#define QCOW2_IO_IO_H

#include "base/bits.h"
#include "base/budget.h"
#include "base/lock.h"
#include "base/ranges.h"
#include "io/ahead.h"
#include "io/meter.h"

#include "qcow2.h"

/* The largest request to the host: plugins and clients of remote stores have
 * limits near 32 or 64 MiB.
 */
#define Q2_IO_MAX (UINT32_C (32) << 20)

/* Bytes of the file that were read when the image was opened; constant. */
struct q2_window {
  unsigned char *bytes;         /* NULL: none */
  uint64_t start, end;
};
#define Q2_IO_WINDOWS 2

/* Operations that the host may do faster than by writing, or not at all. */
enum q2_io_speedup {
  Q2_IO_ZERO,                   /* see qcow2_io_ops.zero */
  Q2_IO_PUNCH,                  /* the same, with may_punch */
  Q2_IO_FAST_ZERO,              /* see qcow2_io_ops.fast_zero */
  Q2_IO_FAST_PUNCH,
  Q2_IO_TRIM,
};
#define Q2_IO_NR_SPEEDUPS 5
#define Q2_IO_NEVER (UINT32_C (1) << 31)

/* State that all requests of an image share. */
/* Reads of a check, or of a repair, that are tried once more. */
#define Q2_IO_MAX_RETRIES 64u

struct q2_io_shared {
  const char *file;             /* name of the file in messages, NULL: the
                                   image file; constant */
  struct qcow2_budget *budget;  /* the image's; NULL: no bound; constant */
  struct q2_ahead *ahead;       /* what was read ahead of the file, or NULL;
                                   constant */
  struct q2_window windows[Q2_IO_WINDOWS];
  struct q2_meter meter;
  _Atomic unsigned retries;     /* of this check, so far */
  /* Refusals of the host.  true holds for good; ranges must be aligned to the
   * unit, and Q2_IO_NEVER means that it always refuses.
   */
  _Atomic bool no_cache, no_extents;
  _Atomic uint32_t unit[Q2_IO_NR_SPEEDUPS];
  /* Only used by images that are written to: */
  _Atomic bool written;         /* the windows are out of date */
  _Atomic bool flush_failed;    /* once */
  _Atomic bool bug;             /* a request has hit one: no more changes */
  _Atomic uint64_t grown_size;  /* of the file, and all handles reach it; 0: it
                                   has not become larger */
  _Atomic uint64_t durable_size;        /* that it has for sure, of what was
                                           grown: it was flushed since.  It is
                                           never lowered: nobody writes to a
                                           file after cutting it */
  struct q2_mutex grow_lock;    /* held while the file grows */
  struct q2_ranges blocks;      /* minimum blocks being written to */
};

extern void q2_io_shared_init (struct q2_io_shared *shared)
  __attribute__ ((__nonnull__));
extern void q2_io_shared_destroy (struct q2_io_shared *shared)
  __attribute__ ((__nonnull__));

/* The I/O handle of one request, on the caller's stack. */
struct q2_io {
  const struct qcow2_io *host;
  uint64_t file_size;           /* when the image was opened; may exceed
                                   host->size */
  struct q2_io_shared *shared;  /* NULL: keeps and measures nothing */
  bool patient;                 /* a read that fails is tried once more: who
                                   checks an image believes that something is
                                   lost if it does */
};

/* The same for a check or a repair that begins. */
static inline struct q2_io
q2_io_patient (const struct q2_io *io)
{
  struct q2_io patient = *io;

  patient.patient = true;
  if (io->shared != NULL)
    atomic_store (&io->shared->retries, 0);
  return patient;
}

/* Call it with the error of a failed request or background job: if it is a
 * bug, the image takes no more changes.
 */
static inline void
q2_io_note_bug (const struct q2_io *io, const struct qcow2_error *err)
{
  if (io->shared && err->kind == QCOW2_ERR_BUG)
    io->shared->bug = true;
}

/* The name of the file in messages. */
static inline const char *
q2_io_file (const struct q2_io *io)
{
  return io->shared && io->shared->file ? io->shared->file
    : "the image file";
}

/* The budget of the image that the file belongs to; NULL: no bound. */
static inline struct qcow2_budget *
q2_io_budget (const struct q2_io *io)
{
  return io->shared ? io->shared->budget : NULL;
}

/* True if the host is known to be slow: then saving requests is worth reading
 * too much.
 */
static inline bool
q2_io_is_slow (const struct q2_io *io)
{
  return io->shared && q2_meter_is_slow (&io->shared->meter);
}

static inline uint64_t
q2_io_grown_size (const struct q2_io *io)
{
  return io->shared == NULL ? 0
    : atomic_load_explicit (&io->shared->grown_size, memory_order_acquire);
}

/* The present size of the file in bytes. */
static inline uint64_t
q2_io_size (const struct q2_io *io)
{
  return q2_max (io->file_size, q2_io_grown_size (io));
}

/* How large a file that has grown is after a crash, at least; 0: it is not
 * known.
 */
static inline uint64_t
q2_io_durable_size (const struct q2_io *io)
{
  return io->shared == NULL ? 0
    : atomic_load_explicit (&io->shared->durable_size, memory_order_acquire);
}

/* How many of them this handle reaches. */
static inline uint64_t
q2_io_reach (const struct q2_io *io)
{
  const uint64_t grown = q2_io_grown_size (io);

  return io->host->ops->grow || grown > 0 ? q2_max (io->file_size, grown)
    : q2_min (io->host->size, io->file_size);
}

/* The end of the bytes that can be read; past it is the file's end, or a
 * partial block that no request can reach.
 */
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

/* Hint that the range will be read; does nothing if the host takes no hints.
 */
extern void q2_io_cache (const struct q2_io *io, uint64_t count,
                         uint64_t host_off) __attribute__ ((__nonnull__));

/* Report which parts of the range are holes of the file: ascending, without
 * gaps, never past the end of the range.  Past the end of the file is a hole.
 * If the host cannot tell, or fails, everything is data.  Stops early, with
 * success, when fn returns nonzero.
 */
extern int q2_io_extents (const struct q2_io *io, uint64_t count,
                          uint64_t host_off, qcow2_host_extent_fn fn,
                          void *fn_opaque, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 4, 6), __warn_unused_result__));

/* The first contiguous part of [host_off, end) that is not a hole:
 * [*ret_start, *ret_end), empty and at 'end' if all of it is a hole.  If the
 * host cannot tell, or fails, all is data, which is harmless: a hole reads as
 * zeros.
 */
extern void q2_io_next_data (const struct q2_io *io, uint64_t host_off,
                             uint64_t end, uint64_t *ret_start,
                             uint64_t *ret_end) __attribute__ ((__nonnull__));

/* Around each request that changes [start, end) of the file, or may change it
 * although it fails.
 */
static inline void
q2_io_begin_change (const struct q2_io *io, uint64_t start, uint64_t end,
                    struct q2_ahead_change *change)
{
  if (io->shared && io->shared->ahead)
    q2_ahead_begin_change (io->shared->ahead, start, end, change);
}

static inline void
q2_io_end_change (const struct q2_io *io, struct q2_ahead_change *change)
{
  if (io->shared && io->shared->ahead)
    q2_ahead_end_change (io->shared->ahead, change);
}

/* ---- host_write.c --------------------------------------------------- */

/* Write the bytes.  A write past the end grows the file, or fails with
 * QCOW2_ERR_NO_SPACE.  If the host has a minimum block, the rest of the first
 * and the last one is read and written back.
 */
extern int q2_io_write (const struct q2_io *io, const void *buf,
                        uint64_t count, uint64_t host_off,
                        enum qcow2_io_class class, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make earlier writes durable.  Fails for good once a flush has failed. */
extern int q2_io_flush (const struct q2_io *io, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Somebody else has made it that long. */
extern void q2_io_note_size (struct q2_io_shared *shared, uint64_t size)
  __attribute__ ((__nonnull__));

/* Make the file at least 'min_size' bytes long, if it is shorter. */
extern int q2_io_grow (const struct q2_io *io, uint64_t min_size,
                       struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- zero.c --------------------------------------------------------- */

/* Make the range read as zeros, in the cheapest way for the host; if that
 * refuses, write zeros.
 */
extern int q2_io_zero (const struct q2_io *io, uint64_t count,
                       uint64_t host_off, bool may_punch,
                       enum qcow2_io_class class, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The same, inside the file, but fail with QCOW2_ERR_NOT_FAST if more than the
 * unaligned ends would have to be written.
 */
extern int q2_io_fast_zero (const struct q2_io *io, uint64_t count,
                            uint64_t host_off, bool may_punch,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Write zeros, so that the host allocates space for the range, if it can. */
extern int q2_io_write_zeros (const struct q2_io *io, uint64_t count,
                              uint64_t host_off, enum qcow2_io_class class,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Trim the whole blocks of the range.  Errors of the host are ignored. */
extern void q2_io_trim (const struct q2_io *io, uint64_t count,
                        uint64_t host_off) __attribute__ ((__nonnull__));

/* The same, but afterwards the blocks read as zeros, or as before.  Does
 * nothing if the host cannot zero.
 */
extern void q2_io_punch (const struct q2_io *io, uint64_t count,
                         uint64_t host_off) __attribute__ ((__nonnull__));

/* True for an errno value which says that the host never supports the request.
 */
extern bool q2_is_unsupported (int errnum) __attribute__ ((__const__));

/* The name of a class of requests in messages. */
extern const char *q2_io_class_name (enum qcow2_io_class class);

/* The largest request of this handle. */
static inline uint32_t
q2_io_max_request (const struct q2_io *io)
{
  const uint32_t max = io->host->max_block;

  return max > 0 && max < Q2_IO_MAX ? max : Q2_IO_MAX;
}

#endif /* QCOW2_IO_IO_H */
