/* SPDX-License-Identifier: BSD-3-Clause */
/* alone.h - images that are changed while nobody else uses them. */
#ifndef CONTROL_ALONE_H
#define CONTROL_ALONE_H

#include "control/call.h"
#include "control/target.h"

#include <stdbool.h>

/* The target is open for a change: nobody else uses it, or gets at it before
 * it is closed, when its image ends; who comes meanwhile waits for that.
 * Returns false having called call_fail, and leaves the target open.
 */
extern bool alone_begin (struct target *t, struct call *call);

/* Its image is ended already, as by qcow2_end. */
extern void alone_set_ended (struct target *t);

#endif /* CONTROL_ALONE_H */
