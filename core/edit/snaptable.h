/* SPDX-License-Identifier: BSD-3-Clause */
/* snaptable.h - the snapshot table of an image, in memory, to be changed.
 *
 * Entries that are kept keep every byte, also of extra data that nobody here
 * knows.
 */
#ifndef QCOW2_EDIT_SNAPTABLE_H
#define QCOW2_EDIT_SNAPTABLE_H

#include "edit/edit.h"
#include "format/snapshot.h"

struct q2_snaptable {
  unsigned char *bytes;         /* entries, each padded */
  size_t len;
  uint32_t nr;                  /* of them */
  uint64_t host_off, host_len;  /* where the image has it, 0: nowhere */
  uint64_t disk_size;           /* of the image: for entries without one */
};

/* Bytes of a decimal number, with a 0. */
#define Q2_SNAPTABLE_ID 21

/* Read all of it.  On success the caller frees the table. */
extern int q2_snaptable_load (struct q2_snaptable *table, struct q2_edit *edit,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_snaptable_free (struct q2_snaptable *table)
  __attribute__ ((__nonnull__));

/* The first entry with that id (any if NULL) and that name (any if NULL);
 * *ret_pos is its place in table->bytes, which id and name of *ret point into.
 */
extern bool q2_snaptable_find (const struct q2_snaptable *table,
                               const struct q2_geometry *geo,
                               const struct qcow2_name *id,
                               const struct qcow2_name *name,
                               struct q2_snapshot *ret, size_t *ret_pos)
  __attribute__ ((__nonnull__ (1, 2, 5, 6), __warn_unused_result__));

/* The id that QEMU would give to the next snapshot: one more than the largest
 * number among the ids.  Returns its length, 0 if there is no larger number.
 */
extern size_t q2_snaptable_next_id (const struct q2_snaptable *table,
                                    const struct q2_geometry *geo,
                                    char ret_id[Q2_SNAPTABLE_ID])
  __attribute__ ((__nonnull__));

/* Add an entry at the end; fails if the format has no room for it, as the
 * first one does without adding it.
 */
extern int q2_snaptable_check_room (struct q2_snaptable *table,
                                    const struct q2_snapshot *snapshot,
                                    struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern int q2_snaptable_add (struct q2_snaptable *table,
                             const struct q2_snapshot *snapshot,
                             struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
/* The same with an entry as it is, of a table that was loaded. */
extern int q2_snaptable_copy (struct q2_snaptable *table,
                              const unsigned char *entry,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void q2_snaptable_remove (struct q2_snaptable *table, size_t pos)
  __attribute__ ((__nonnull__));

/* Write it to new clusters; *ret_host_off is 0 if it has no entries. */
extern int q2_snaptable_write (const struct q2_snaptable *table,
                               struct q2_edit *edit, uint64_t *ret_host_off,
                               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_EDIT_SNAPTABLE_H */
