/* SPDX-License-Identifier: BSD-3-Clause */
/* superblock.h - the header of an open image, and the only way to change it.
 *
 * Readers get copies of the current header, and of what qcow2_get_info tells
 * of it.  There are two ways to change it:
 *
 * - numbers that lie next to each other in the first sector are changed in
 *   place: q2_superblock_begin, q2_superblock_write, a flush by the caller,
 *   q2_superblock_end;
 * - all else by a function that edits the header in parts; what it returns is
 *   planned (format/header_plan.h), written and flushed.
 *
 * Either is published when it is durable, not before.
 */
#ifndef QCOW2_META_SUPERBLOCK_H
#define QCOW2_META_SUPERBLOCK_H

#include "base/lock.h"
#include "format/header_parts.h"
#include "format/header_span.h"
#include "io/io.h"

struct q2_superblock {
  /* A leaf, held only to copy: */
  struct q2_mutex current_lock;
  struct q2_header current;     /* with its number */
  struct qcow2_info info;       /* what it says */
  bool marks_in_doubt;          /* the file may have other feature bits than
                                   'current', since a change of them goes on,
                                   or has failed */

  struct q2_mutex lock;         /* one change at a time; held over I/O.  Who
                                   has it may look at 'current' without the
                                   other one; guards: */
  bool in_doubt;                /* the last change in parts has failed when
                                   some of it may have been written */
};

/* Of 'info' only what does not follow from the header is looked at; all of it
 * if there is none, since header->version is 0.
 */
extern void q2_superblock_init (struct q2_superblock *sb,
                                const struct q2_header *header,
                                const struct qcow2_info *info)
  __attribute__ ((__nonnull__));

/* All zero is allowed. */
extern void q2_superblock_destroy (struct q2_superblock *sb)
  __attribute__ ((__nonnull__));

/* What follows from a header. */
extern void q2_superblock_describe (const struct q2_header *header,
                                    struct qcow2_info *info)
  __attribute__ ((__nonnull__));

/* The current header.  One call gives fields that belong together.  Each that
 * is published has another number.
 */
extern struct q2_header q2_superblock_header (const struct q2_superblock *sb)
  __attribute__ ((__nonnull__));
extern struct qcow2_info q2_superblock_info (const struct q2_superblock *sb)
  __attribute__ ((__nonnull__));

/* The dirty bit is set in the file, whatever a write that has failed does. */
extern bool q2_superblock_is_dirty_surely (const struct q2_superblock *sb)
  __attribute__ ((__nonnull__));

/* ---- In place --------------------------------------------------------- */

struct q2_superblock_edit {
  struct q2_superblock *sb;
  struct q2_header header;      /* what it is to be, for the caller to change:
                                   only the numbers of spans */
  bool features;                /* they were among what was written */
};

/* Holds the superblock's lock until q2_superblock_end. */
extern void q2_superblock_begin (struct q2_superblock *sb,
                                 struct q2_superblock_edit *edit)
  __attribute__ ((__nonnull__));

/* Write one span of edit->header; the caller flushes. */
extern int q2_superblock_write (struct q2_superblock_edit *edit,
                                const struct q2_io *io,
                                enum q2_header_span span,
                                struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Publish edit->header if it is durable; else the current header stays, and
 * the file has either.
 */
extern void q2_superblock_end (struct q2_superblock_edit *edit, bool durable)
  __attribute__ ((__nonnull__));

/* Not known how far a change got: publish what the file has of all spans. */
extern int q2_superblock_reload (struct q2_superblock *sb,
                                 const struct q2_io *io,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ---- In parts --------------------------------------------------------- */

/* Edits the parts of the current header; -1 with *err set: no change. */
typedef int (*q2_superblock_edit_fn) (void *opaque,
                                      struct q2_header_parts *parts,
                                      struct qcow2_error *err);

/* A crash on the way may leave a header that is neither; without it, such a
 * change is refused with QCOW2_ERR_NO_SPACE.
 */
#define Q2_SUPERBLOCK_FORCE 1u

/* Only see whether the change would be refused. */
#define Q2_SUPERBLOCK_TRY 2u

/* Change the header durably: everything written before that it relies on must
 * be durable already.  A crash leaves the header of before or of after.  After
 * a failure the current header is what it was, and what is in the file one of
 * the two if sb->in_doubt, else the old one; each change begins with what the
 * file has.
 */
extern int q2_superblock_change (struct q2_superblock *sb,
                                 const struct q2_io *io,
                                 q2_superblock_edit_fn edit, void *opaque,
                                 unsigned flags, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 3, 6), __warn_unused_result__));

#endif /* QCOW2_META_SUPERBLOCK_H */
