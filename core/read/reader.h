/* SPDX-License-Identifier: BSD-3-Clause */
/* reader.h - the read side of an image: bytes, extents, cache hints.
 *
 * Combines the map, a codec pool and, for slow hosts, ahead buffers; knows
 * nothing of headers.
 */
#ifndef QCOW2_READ_READER_H
#define QCOW2_READ_READER_H

#include "base/workers.h"
#include "codec/pool.h"
#include "read/clusters.h"
#include "data/store.h"
#include "read/stream.h"
#include "io/ahead.h"
#include "map/map.h"

#include <stdatomic.h>

/* Memory for reading ahead. */
#define Q2_MAX_AHEAD_BYTES (UINT64_C (24) << 20)

/* The image owns the parts; the pointers are constant. */
struct q2_reader {
  struct q2_tables *tables;
  struct q2_store *store;
  struct q2_codec_pool *codecs;
  struct q2_clusters *clusters;
  struct q2_ahead *ahead;
  struct q2_workers *workers;
  struct q2_job_group jobs;     /* jobs that use this reader */
  struct q2_streams streams;
  unsigned cpus;                /* how many clusters to decompress at once */
  bool alone;                   /* what the image has not allocated is zeros,
                                   whatever is below it */
  _Atomic unsigned active;      /* read requests running now */
  _Atomic uint64_t map_pos;     /* where the last extents request ended */
  _Atomic uint64_t inflated_bytes;
};

/* What the readers of one image share: all but its tables, and what is read
 * ahead.  The streams are 'reader''s own: q2_streams_destroy.
 */
extern void q2_reader_share (struct q2_reader *reader,
                             const struct q2_reader *of)
  __attribute__ ((__nonnull__));

/* All ranges must lie inside the disk and be longer than 0; see the
 * functions of the same names in qcow2.h.
 */
extern int q2_reader_pread (struct q2_reader *reader, const struct q2_io *io,
                            void *buf, uint64_t count, uint64_t guest_off,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* On success *ret_all is true if all of the range was reported and fn did not
 * stop; false if fn stopped, even at the very end, or if a part of the range
 * is unknown.
 */
extern int q2_reader_extents (struct q2_reader *reader,
                              const struct q2_io *io, uint64_t count,
                              uint64_t guest_off, qcow2_extent_fn fn,
                              void *fn_opaque, bool *ret_all,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5, 7, 8), __warn_unused_result__));

extern int q2_reader_cache (struct q2_reader *reader, const struct q2_io *io,
                            uint64_t count, uint64_t guest_off,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* How an overlay reads this image as its backing image. */
extern const struct q2_backing_ops q2_reader_backing_ops;

/* ---- prefetch.c: reading ahead ------------------ */

/* How far to read ahead at most, in bytes. */
extern uint64_t q2_prefetch_max (const struct q2_reader *reader,
                                 const struct q2_io *io)
  __attribute__ ((__nonnull__));

/* Read ahead the guest range [from, to), at most that long; in the background
 * if the host lends an I/O handle.  Returns the end of the part that is or
 * will be read.
 */
extern uint64_t q2_prefetch_data (struct q2_reader *reader,
                                  const struct q2_io *io, uint64_t from,
                                  uint64_t to)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Load the L2 tables that map the range, in the background. */
extern void q2_prefetch_tables (struct q2_reader *reader,
                                const struct q2_io *io, uint64_t from,
                                uint64_t to)
  __attribute__ ((__nonnull__));

/* ---- decompress.c: one compressed cluster --------------------------- */

/* Decompress a COMPRESSED run to 'buf'.  The stream comes from the ahead
 * buffers if they have it, else from the host.
 */
extern int q2_decompress_run (struct q2_reader *reader,
                              const struct q2_io *io,
                              const struct q2_run *run, void *buf,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- gather.c: host ranges of runs ------------------------------ */

/* Host ranges worth one request each. */
struct q2_piece {
  uint64_t start, end;
};
#define Q2_MAX_PIECES 64
#define Q2_PIECE_BYTES (UINT64_C (1) << 20)
struct q2_pieces {
  struct q2_piece piece[Q2_MAX_PIECES];
  size_t nr;
};

/* True if most neighbours on the disk are neighbours in the file, too.
 * Compressed clusters are packed in the order in which they were written, with
 * clusters that could not be compressed among them; so the file around them
 * likely has the bytes needed next.
 */
extern bool q2_is_packed (const struct q2_geometry *geo,
                          const struct q2_run *runs, size_t nr)
  __attribute__ ((__nonnull__));

/* The same for the runs of a request; a single cluster is compared with its
 * neighbour.
 */
extern bool q2_is_worth_widening (struct q2_reader *reader,
                                  const struct q2_io *io,
                                  const struct q2_run *runs, size_t nr)
  __attribute__ ((__nonnull__));

/* Add the host ranges of the compressed runs, and of the data ones if 'data';
 * with 'widen' add all of the chunks that they lie in (see q2_is_packed).
 * Neighbours are joined up to Q2_PIECE_BYTES.  Ranges that do not fit into
 * *pieces are left out.
 */
extern void q2_gather (const struct q2_run *runs, size_t nr, bool data,
                       bool widen, uint64_t file_size,
                       struct q2_pieces *pieces)
  __attribute__ ((__nonnull__));

/* Read the part of a piece that no buffer has yet into the ahead buffers.
 * Errors are ignored: the request that needs the bytes meets them again.
 */
extern void q2_fetch_piece (struct q2_reader *reader, const struct q2_io *io,
                            const struct q2_piece *piece,
                            enum qcow2_io_class class)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_READ_READER_H */
