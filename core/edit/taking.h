/* SPDX-License-Identifier: BSD-3-Clause */
/* taking.h - a snapshot that is being taken, in steps.
 *
 *   q2_taking_begin        what has to be known of the image
 *   q2_taking_capture      the moment that it shows: with the gate closed
 *   q2_taking_prepare      all that the header is going to name
 *   q2_taking_edit_header  for q2_edit_switch
 *   q2_taking_finish       the header has it
 *   q2_taking_undo         ... or will not have it
 */
#ifndef QCOW2_EDIT_TAKING_H
#define QCOW2_EDIT_TAKING_H

#include "edit/snapshot.h"

struct q2_taking {
  struct q2_edit *edit;
  struct q2_tree tree;
  struct q2_snaptable table;
  struct q2_progress progress;
  const struct qcow2_snapshot_options *options;
  struct q2_snapshot s;         /* the new one */
  char id[Q2_SNAPTABLE_ID];
  uint64_t table_off;           /* of the new table */
  bool was_miscounted;          /* by somebody else, earlier */
  bool captured;                /* and writers take care of it */
};

/* Fail if there can be no such snapshot; before anything is changed. */
extern int q2_taking_check (const struct qcow2_image *image,
                            const struct qcow2_snapshot_options *options,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Read what has to be known of the image, and mark it.  After a failure there
 * is nothing to undo.  The caller calls q2_taking_free in any case; 'options'
 * must last until then.
 */
extern int q2_taking_begin (struct q2_taking *taking, struct q2_edit *edit,
                            const struct qcow2_snapshot_options *options,
                            struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* Reads and writes nothing.  The gate is closed; it may be opened after it. */
extern void q2_taking_capture (struct q2_taking *taking)
  __attribute__ ((__nonnull__));
/* After a failure call q2_taking_undo. */
extern int q2_taking_prepare (struct q2_taking *taking,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* All that changes lies in the first sector. */
extern int q2_taking_edit_header (void *taking,
                                  struct q2_header_parts *parts,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* The header has it ... */
extern void q2_taking_finish (struct q2_taking *taking)
  __attribute__ ((__nonnull__));
/* ... or will not have it: all becomes as it was. */
extern void q2_taking_undo (struct q2_taking *taking)
  __attribute__ ((__nonnull__));

/* ---- snapshot_state.c, for snapshot_create.c ---------------------------- */

/* Fail if there is no room for such a state. */
extern int q2_taking_check_state (const struct qcow2_image *image,
                                  const struct qcow2_vm_state *state,
                                  struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* L1 entries that it needs, behind those of the disk, and how much work that
 * is; 0 if there is none.
 */
extern uint64_t q2_taking_state_tables (const struct q2_taking *taking)
  __attribute__ ((__nonnull__));
extern uint64_t q2_taking_state_pieces (const struct q2_taking *taking)
  __attribute__ ((__nonnull__));

/* Write it, and fill in those entries. */
extern int q2_taking_save_state (struct q2_taking *taking,
                                 struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* ------------------------------------------------------------------------ */

/* All zero is allowed. */
extern void q2_taking_free (struct q2_taking *taking)
  __attribute__ ((__nonnull__));

#endif /* QCOW2_EDIT_TAKING_H */
