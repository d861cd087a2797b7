/* SPDX-License-Identifier: BSD-3-Clause */
/* exportfile.h - the bytes of another export of the plugin.
 */
#ifndef BELOW_EXPORTFILE_H
#define BELOW_EXPORTFILE_H

#include "qcow2.h"

struct other;
struct place;

extern bool exportfile_supported (void);
extern struct other *exportfile_open (const struct place *place,
                                      struct qcow2_error *err);

#endif /* BELOW_EXPORTFILE_H */
