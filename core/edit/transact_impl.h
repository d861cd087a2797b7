/* SPDX-License-Identifier: BSD-3-Clause */
/* transact_impl.h - what the files of a transaction share: transact.c has its
 * steps, transact_beside.c those that are done while the disks change,
 * transact_part.c what is done to one image, transact_live.c the same while
 * its disk changes.  Nobody else includes this.
 */
#ifndef QCOW2_EDIT_TRANSACT_IMPL_H
#define QCOW2_EDIT_TRANSACT_IMPL_H

#include "edit/bitmaps.h"
#include "edit/taking.h"

enum q2_stage { WAITING, CLAIMED, BEGUN, SWITCHED };

struct q2_member {
  struct qcow2_part *part;
  const char *what;             /* for errors */
  enum q2_stage stage;
  struct q2_edit edit;
  struct q2_bitmap_set set;     /* if there are actions */
  struct q2_taking taking;      /* if there is a snapshot */
  struct q2_since *since;       /* not yet, or not any more the writer's */
  bool has_set, has_taking;     /* those were begun, ... */
  bool is_ready;                /* ... and are complete */
  bool is_frozen;               /* beside: the gate is closed */
  bool is_live;                 /* it stays open while bitmaps are made */
  bool has_pinned;              /* a view reads one that is to be disabled */
  bool is_followed;             /* two sets are kept up */
};

struct q2_group {
  struct q2_member *members;
  struct q2_member **order;        /* of their addresses */
  size_t nr, failed;            /* which one has */
  bool beside;                  /* the disks change meanwhile */
};

/* Milliseconds until then; at least one, since 0 is no limit. */
static inline unsigned
q2_ms_left (uint64_t deadline)
{
  const uint64_t now = q2_now_ms ();

  return now < deadline ? (unsigned) (deadline - now) : 1;
}

/* ---- transact_part.c ---------------------------------------------------- */

/* Its snapshot is going to be taken. */
extern int q2_transact_begin_taking (struct q2_member *member,
                                     struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Its bitmaps; the gate is closed. */
extern int q2_transact_prepare_set (struct q2_member *member,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* The writer's record of what changes becomes the member's, or the other way
 * round; the gate is closed.
 */
extern void q2_transact_swap_since (struct q2_member *member)
  __attribute__ ((__nonnull__));

/* What changes is not recorded any more. */
extern void q2_transact_end_since (struct q2_member *member)
  __attribute__ ((__nonnull__));

/* ---- transact_live.c ---------------------------------------------------- */

/* Whether it is to be done so; the gate is closed. */
extern void q2_transact_choose_live (struct q2_member *member)
  __attribute__ ((__nonnull__));

/* Its bitmaps: all is ready to be switched. */
extern int q2_transact_prepare_live (struct q2_member *member,
                                     struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* It was switched, or will not be: one set is kept up again. */
extern void q2_transact_end_live (struct q2_member *member)
  __attribute__ ((__nonnull__));

/* ---- transact_beside.c -------------------------------------------------- */

/* All gates are claimed.  Afterwards all is ready to be switched, and those
 * with bitmaps are closed.
 */
extern int q2_transact_prepare_beside (struct q2_group *group,
                                       struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* It has failed: those that are not switched are beside again, since taking
 * snapshots back may take long.
 */
extern void q2_transact_let_on (struct q2_group *group)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_EDIT_TRANSACT_IMPL_H */
