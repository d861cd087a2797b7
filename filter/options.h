/* SPDX-License-Identifier: BSD-3-Clause */
/* options.h - what all images are opened with. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "qcow2.h"

/* As the parameters say; the name, for messages, must stay. */
extern struct qcow2_options image_options (const char *name);

#endif /* OPTIONS_H */
