/* SPDX-License-Identifier: BSD-3-Clause */
/* superblock.h - the header of an open image, and the only way to change it.
 *
 * Readers get the current header as an immutable struct behind one atomic
 * pointer; it stays valid until the superblock is destroyed.  A change is a
 * function that edits the header in parts; what it returns is planned
 * (format/header_plan.h), written, flushed, and then published.
 */
#ifndef QCOW2_META_SUPERBLOCK_H
#define QCOW2_META_SUPERBLOCK_H

#include "format/header_parts.h"
#include "io/io.h"

#include <pthread.h>
#include <stdatomic.h>

/* One header that was current once, or is. */
struct q2_superblock_version {
  struct q2_header header;
  struct q2_superblock_version *older;
};

struct q2_superblock {
  _Atomic (struct q2_superblock_version *) current;

  pthread_mutex_t lock;         /* one change at a time; held over I/O;
                                   guards the rest */
  struct q2_bytes area;         /* the header area as it is in the file */
  bool uncertain;               /* ... which a failed write may have changed */
};

/* The header area as for q2_header_decode, which has succeeded with it. */
extern int q2_superblock_init (struct q2_superblock *sb, const void *bytes,
                               size_t len, const struct q2_header *header,
                               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* All zero is allowed. */
extern void q2_superblock_destroy (struct q2_superblock *sb)
  __attribute__ ((__nonnull__));

/* The current header.  One call gives fields that belong together. */
static inline const struct q2_header *
q2_superblock_header (const struct q2_superblock *sb)
{
  return &atomic_load_explicit (&sb->current, memory_order_acquire)->header;
}

/* Edits the parts of the current header; -1 with *err set: no change. */
typedef int (*q2_superblock_edit_fn) (void *opaque,
                                      struct q2_header_parts *parts,
                                      struct qcow2_error *err);

/* A crash on the way may leave a header that is neither; without it, such a
 * change is refused with QCOW2_ERR_NO_SPACE.
 */
#define Q2_SUPERBLOCK_FORCE 1u

/* Change the header durably: everything written before that it relies on must
 * be durable already.  A crash leaves the header of before or of after.  After
 * a failure the current header is what it was, and what is in the file one of
 * the two; the next change looks.
 */
extern int q2_superblock_change (struct q2_superblock *sb,
                                 const struct q2_io *io,
                                 q2_superblock_edit_fn edit, void *opaque,
                                 unsigned flags, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 6), __warn_unused_result__));

#endif /* QCOW2_META_SUPERBLOCK_H */
