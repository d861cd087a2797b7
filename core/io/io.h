/* SPDX-License-Identifier: BSD-3-Clause */
/* io.h - the only way from the core to host bytes.
 *
 * Turns "read these bytes of the image" into calls that keep every promise
 * of struct qcow2_io_ops: inside the plugin, never empty, split, aligned.
 * Bytes past the end of the image file read as zeros, as every reader of
 * the format does: writers leave the last cluster and tables cut short.
 */
#ifndef QCOW2_IO_IO_H
#define QCOW2_IO_IO_H

#include "qcow2.h"

/* Largest request passed down: plugins and clients of remote stores have
 * limits near 32 or 64 MiB.
 */
#define Q2_IO_MAX (UINT32_C (32) << 20)

/* One request's way to the file, on the caller's stack. */
struct q2_io {
  const struct qcow2_io *host;
  uint64_t file_size;           /* of the image; may exceed host->size */
};

/* Read [host_off, host_off+count) into buf.  Any range is allowed. */
extern int q2_io_read (const struct q2_io *io, void *buf, uint64_t count,
                       uint64_t host_off, enum qcow2_io_class class,
                       struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Hint that the range will be read; host->ops->cache must exist. */
extern int q2_io_cache (const struct q2_io *io, uint64_t count,
                        uint64_t host_off, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Which parts of the range are holes of the host file.  Ranges come out
 * ascending, without gaps and never past the end of the range; past the end
 * of the file is a hole.  Where the host cannot tell, everything is data.
 * Stops early, successfully, when fn returns nonzero.
 */
extern int q2_io_extents (const struct q2_io *io, uint64_t count,
                          uint64_t host_off, qcow2_host_extent_fn fn,
                          void *fn_opaque, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 4, 6), __warn_unused_result__));

#endif /* QCOW2_IO_IO_H */
