/* SPDX-License-Identifier: BSD-3-Clause */
/* slot.h - making key slots of LUKS headers. */
#ifndef QCOW2_EDIT_SLOT_H
#define QCOW2_EDIT_SLOT_H

#include "format/luks.h"
#include "io/io.h"

/* What cryptsetup and QEMU take for a guess, in milliseconds. */
#define Q2_SLOT_ITER_TIME 2000

/* A header of its own key, in locked memory that is wiped. */
struct q2_slot_secrets {
  unsigned char key[Q2_MAX_KEY_BYTES];          /* of the disk */
  unsigned char slot_key[Q2_MAX_KEY_BYTES];
};

/* Fill in 'luks' from the words of the options; no slot is active. */
extern int q2_luks_choose (const struct qcow2_luks_options *options,
                           struct q2_luks *ret_luks, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make slot->salt and slot->iterations, so many that a guess takes
 * 'iter_time' milliseconds (0: the usual time) of this processor, and the
 * encrypted stripes of secrets->key, slot->material_bytes long.  The stripes
 * are set.
 */
extern int q2_slot_make (const struct q2_luks *luks,
                         struct q2_slot_secrets *secrets,
                         const char *passphrase, size_t len,
                         unsigned iter_time, struct q2_luks_slot *slot,
                         unsigned char *ret_material, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Make a key for the disk, its digest, and slot 0 for the passphrase: a whole
 * header with the material of its slots, q2_luks_bytes long.
 */
extern int q2_luks_make (const struct qcow2_luks_options *options,
                         const char *passphrase, size_t len,
                         unsigned char *ret_bytes, struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_EDIT_SLOT_H */
