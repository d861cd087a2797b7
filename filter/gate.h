/* SPDX-License-Identifier: BSD-3-Clause */
/* gate.h - every reference of an image to another file comes through here.
 *
 * A gate belongs to one thread.
 */
#ifndef GATE_H
#define GATE_H

#include "qcow2.h"

struct gate;
struct identity;

/* For qcow2_options; opaque is the gate. */
extern int gate_open_file (void *opaque,
                           const struct qcow2_reference *reference,
                           struct qcow2_file *ret_file,
                           struct qcow2_error *err);
/* Whether the file is one of the image's, or of the chain that leads to it. */
extern bool gate_contains (const struct gate *gate,
                           const struct identity *id);
/* The image was opened: were all parameters used?  Only for those of
 * exports.
 */
extern int gate_check_unused (const struct gate *gate,
                              const struct qcow2_image *image,
                              struct qcow2_error *err);

#endif /* GATE_H */
