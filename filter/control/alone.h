/* SPDX-License-Identifier: BSD-3-Clause */
/* alone.h - images that are changed while nobody else uses them. */
#ifndef CONTROL_ALONE_H
#define CONTROL_ALONE_H

#include "control/call.h"
#include "control/target.h"

#include <stdbool.h>

/* The target is open for a change: nobody else uses it, or gets at it before
 * it is closed, when its image ends; who comes meanwhile waits for that.  What
 * clients have written is durable.
 * Returns false having called call_fail, and leaves the target open.
 */
extern bool alone_begin (struct target *t, struct call *call);

/* Once the engine has changed it: 'r' is what that returned, and 'err' what it
 * said.  Returns whether the image is changed, which call_fail may have been
 * called after.
 */
extern bool alone_is_done (struct target *t, struct call *call, int r,
                           const struct qcow2_error *err);

#endif /* CONTROL_ALONE_H */
