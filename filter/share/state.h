/* SPDX-License-Identifier: BSD-3-Clause */
/* state.h - which connections share one image.
 *
 * States are owned by their list; who acquires one must release it.  No lock
 * may be held: images are opened, ended and closed here.
 */
#ifndef SHARE_STATE_H
#define SHARE_STATE_H

#include "qcow2.h"

struct below;
struct disk;
struct file_id;

struct state;

/* The image behind an export, opening it if nobody has it open.  'id' is
 * the file the connection is known to have opened, and 'own' its way to it;
 * or it has none yet: see disk_open.  If 'ret_claimed' is not NULL who has
 * claimed the image is not waited for: *ret_claimed is true then, and nothing
 * is logged.  Else returns NULL and logs on error.  Every state acquired must
 * be released.
 */
enum {
  STATE_READONLY = 1,           /* whatever the image allows */
  STATE_ALONE = 2,              /* it may lack its backing file */
};
extern struct state *state_acquire (const char *exportname,
                                    const struct file_id *id,
                                    const struct below *own, unsigned flags,
                                    bool *ret_claimed);
/* Whether a state that was acquired without 'own' is what 'own' reaches. */
extern bool state_fits (const struct state *state, const struct file_id *id,
                        const struct below *own);
/* From here on only the caller, who has acquired it, uses it: who comes
 * meanwhile waits until he has released it, and then opens it anew.  False:
 * others use it, or it is not written to.
 */
extern bool state_claim (struct state *state);
/* 'own' as above, or NULL if it cannot be used any more. */
extern void state_release (struct state *state, const struct qcow2_io *own);
extern struct disk *state_disk (struct state *state);

/* Call the function for each image that somebody uses, with the number of its
 * users.  states.lock is held: it must not wait, nor call what is in here.
 */
extern void state_each (void (*fn) (void *opaque, const struct disk *disk,
                                    unsigned users), void *opaque);
/* An image that clients write to through ways of their own (disk.c): lend one
 * of these.  The image stays open until it is given back (qcow2.h).  NULL if
 * nobody has it open, or none can be lent.
 */
extern struct disk *state_borrow (const char *exportname,
                                  struct qcow2_io *ret_io);

/* Write out and free what is left. */
extern void state_cleanup (void);

#endif /* SHARE_STATE_H */
