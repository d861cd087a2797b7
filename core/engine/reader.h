/* SPDX-License-Identifier: BSD-3-Clause */
/* reader.h - the read side of an image: bytes, extents, cache hints.
 *
 * Put together from a map and a codec pool; knows nothing of headers.
 */
#ifndef QCOW2_ENGINE_READER_H
#define QCOW2_ENGINE_READER_H

#include "codec/pool.h"
#include "map/map.h"

struct q2_reader {
  struct q2_tables *tables;
  struct q2_codec_pool *codecs;
};

/* All ranges must lie inside the disk and be longer than 0; see the
 * functions of the same names in qcow2.h.
 */
extern int q2_reader_pread (struct q2_reader *reader, const struct q2_io *io,
                            void *buf, uint64_t count, uint64_t guest_off,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

extern int q2_reader_extents (struct q2_reader *reader,
                              const struct q2_io *io, uint64_t count,
                              uint64_t guest_off, qcow2_extent_fn fn,
                              void *fn_opaque, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5, 7), __warn_unused_result__));

extern int q2_reader_cache (struct q2_reader *reader, const struct q2_io *io,
                            uint64_t count, uint64_t guest_off,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_ENGINE_READER_H */
