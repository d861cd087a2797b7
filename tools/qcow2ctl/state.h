/* SPDX-License-Identifier: BSD-3-Clause */
/* state.h - the file with a VM state that is saved with a snapshot. */
#ifndef STATE_H
#define STATE_H

#include "qcow2.h"

struct state {
  const char *path;
  int fd;
  struct qcow2_vm_state state;  /* for the engine */
};

/* Open a file, not a pipe: how long it is has to be known first.  After
 * success, close it in the end.
 */
extern int state_open (struct state *s, const char *path,
                       struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));
extern void state_close (struct state *s) __attribute__ ((__nonnull__));

#endif /* STATE_H */
