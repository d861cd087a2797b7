/* SPDX-License-Identifier: BSD-3-Clause */
/* below.h - the files that an image stands on, one by one, to inspect them. */
#ifndef BELOW_H
#define BELOW_H

#include "image.h"
#include "info.h"

/* Returns 0 to go on, or -1 with *err filled in.  The subject is there only
 * during the call.
 */
typedef int (*below_fn) (void *opaque, const struct subject *subject,
                         struct qcow2_error *err);

/* Call fn for the backing file of the image, for that one's, and so on.
 * Returns -1 with *err filled in.
 */
extern int below_walk (const struct image *image, below_fn fn, void *opaque,
                       struct qcow2_error *err);

#endif /* BELOW_H */
