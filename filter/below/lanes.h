/* SPDX-License-Identifier: BSD-3-Clause */
/* lanes.h - contexts for background work, below slower thread models.
 *
 * An image owns its lanes.  Their lock is held for a few instructions.
 */
#ifndef BELOW_LANES_H
#define BELOW_LANES_H

#include "qcow2.h"

struct below;
struct lanes;

/* A few contexts of its own that an image uses for background work where
 * one context may only be used by one request at a time.
 */
extern struct lanes *lanes_new (const char *exportname, uint64_t size);
/* All borrowed ones must have been given back. */
extern void lanes_free (struct lanes *lanes);
/* Nobody uses the image for now: close what is open.  NULL is allowed. */
extern void lanes_idle (struct lanes *lanes);
/* From now on background work uses the lanes, and not this context, whose
 * block sizes they have.
 */
extern void lanes_serve (struct lanes *lanes, struct below *below);

/* Whether the server and the plugin allow lanes. */
extern bool lanes_possible (void);

#endif /* BELOW_LANES_H */
