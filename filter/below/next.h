/* SPDX-License-Identifier: BSD-3-Clause */
/* next.h - calls to the layer below through one context, checked.
 *
 * Offsets and counts are bytes of the file, and must lie inside of it.  All
 * return 0 or an errno value unless it says otherwise.  They take no lock: who
 * may use a context at the same time is the caller's business.
 */
#ifndef BELOW_NEXT_H
#define BELOW_NEXT_H

#include "nbdkit_api.h"
#include "qcow2.h"

/* What the layer below can do.  It is asked once, since calls through
 * 'next' require that it has been asked.
 */
struct abilities {
  uint64_t size;
  uint32_t min_block, max_block;        /* as in struct qcow2_io */
  int cache;                            /* NBDKIT_CACHE_* */
  bool extents;
  bool write, flush, zero, trim;        /* false: not asked, perhaps */
  bool multi_conn;
  bool rotational;
};

/* Returns -1 and logs on error. */
extern int next_ask (nbdkit_next *next, bool writing,
                     struct abilities *abilities);

/* Whether clients can be allowed to write to what can do that. */
extern bool next_is_writable (const struct abilities *abilities);

/* As in struct qcow2_io_ops. */
extern int next_pread (nbdkit_next *next, void *buf, uint32_t count,
                       uint64_t host_off, enum qcow2_io_class io_class);
extern int next_extents (nbdkit_next *next, uint32_t count,
                         uint64_t host_off, qcow2_host_extent_fn fn,
                         void *fn_opaque);
extern int next_cache (nbdkit_next *next, uint32_t count, uint64_t host_off);
extern int next_pwrite (nbdkit_next *next, const void *buf, uint32_t count,
                        uint64_t host_off, enum qcow2_io_class io_class);
extern int next_flush (nbdkit_next *next);
extern int next_zero (nbdkit_next *next, uint32_t count, uint64_t host_off,
                      bool may_punch, enum qcow2_io_class io_class);
extern int next_trim (nbdkit_next *next, uint32_t count, uint64_t host_off);

#endif /* BELOW_NEXT_H */
