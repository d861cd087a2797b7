/* SPDX-License-Identifier: BSD-3-Clause */
/* layers.h - layers that are open, shared by all images that need them.
 *
 * Who acquires a layer must release it.  No lock may be held: files are opened
 * and closed here.
 */
#ifndef HOST_LAYERS_H
#define HOST_LAYERS_H

#include "qcow2.h"

struct found;
struct gate;
struct layer;
struct layers;

/* To be called after the image was closed. */
extern void layers_release (struct layers *layers);
/* The layer for a file that a gate has found, whose descriptor may be closed;
 * it must be released.  Returns NULL with *err filled in.
 */
extern struct layer *layer_acquire (struct gate *gate,
                                    struct found *found,
                                    const struct qcow2_reference *reference,
                                    struct qcow2_error *err);
extern void layer_release (struct layer *layer);

#endif /* HOST_LAYERS_H */
