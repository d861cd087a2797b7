/* SPDX-License-Identifier: BSD-3-Clause */
/* layer.h - one backing file or data file.
 *
 * layers.c owns layers, and says which thread opens or closes one; in between
 * it is constant.
 */
#ifndef HOST_LAYER_H
#define HOST_LAYER_H

#include "qcow2.h"

struct found;
struct gate;
struct identity;
struct layer;
struct layers;

/* Open one that layers.c has made; found->fd may be closed.  On error it must
 * be closed, too.
 */
extern int layer_open (struct layer *l, struct gate *gate,
                       struct found *found,
                       const struct qcow2_reference *reference,
                       struct qcow2_error *err);
/* Two steps to close one: its image; then, once what that stood on has been
 * released, all the rest.
 */
extern void layer_close_image (struct layer *l);
extern void layer_free (struct layer *l);

extern void layer_get_file (const struct layer *layer,
                            struct qcow2_file *ret_file);
/* Whether it is that file, or stands on it. */
extern bool layer_contains (const struct layer *layer,
                            const struct identity *id);
extern unsigned layer_depth (const struct layer *layer);
/* How many backing files are below each other. */
extern unsigned layers_depth (const struct layers *layers);

#endif /* HOST_LAYER_H */
