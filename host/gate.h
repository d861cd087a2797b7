/* SPDX-License-Identifier: BSD-3-Clause */
/* gate.h - every reference of an image to another file comes through here.
 *
 * A gate belongs to one thread.
 */
#ifndef HOST_GATE_H
#define HOST_GATE_H

#include "qcow2.h"

struct gate;
struct host_env;
struct identity;

/* The gate of an image that is no layer of another one.  The folder that it is
 * in, or NULL, the text of the identity and the env must stay as long as the
 * gate.  What its references have led to is in gate->layers after the image
 * has been opened, and must be released (layers.h).
 */
extern void gate_init (struct gate *gate, const struct host_env *env,
                       const struct identity *id, const char *folder);
/* For qcow2_options; opaque is the gate. */
extern int gate_open_file (void *opaque,
                           const struct qcow2_reference *reference,
                           struct qcow2_file *ret_file,
                           struct qcow2_error *err);
/* The image was opened: were all parameters used?  Only for those of
 * exports.
 */
extern int gate_check_unused (const struct gate *gate,
                              const struct qcow2_image *image,
                              struct qcow2_error *err);

#endif /* HOST_GATE_H */
