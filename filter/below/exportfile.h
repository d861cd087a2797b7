/* SPDX-License-Identifier: BSD-3-Clause */
/* exportfile.h - the bytes of another export of the plugin.
 */
#ifndef BELOW_EXPORTFILE_H
#define BELOW_EXPORTFILE_H

#include "qcow2.h"

struct found;
struct host_env;
struct other;
struct place;

/* Whether this nbdkit can. */
extern bool exportfile_supported (void);
/* For struct host_env. */
extern int exportfile_find (const struct host_env *env,
                            const struct place *place, struct found *found,
                            struct qcow2_error *err);
extern struct other *exportfile_open (const struct host_env *env,
                                      const struct place *place,
                                      struct qcow2_error *err);

#endif /* BELOW_EXPORTFILE_H */
