/* SPDX-License-Identifier: BSD-3-Clause */
/* layer_view.h - what one file of a chain has itself of its disk. */
#ifndef QCOW2_VIEW_LAYER_VIEW_H
#define QCOW2_VIEW_LAYER_VIEW_H

#include "image/image.h"

/* Open a view of layer 'name', a decimal number; 0 is the image. */
extern struct qcow2_image *
q2_layer_open (struct qcow2_image *image, const struct qcow2_name *name,
               struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_VIEW_LAYER_VIEW_H */
