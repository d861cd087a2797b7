/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdfile.h - the bytes of another file that is on an NBD server.
 *
 * Who opens one owns it until its close (other.h).
 */
#ifndef HOST_NBDFILE_H
#define HOST_NBDFILE_H

#include "qcow2.h"

struct host_env;
struct other;
struct place;

/* Whether this was built with libnbd. */
extern bool nbdfile_supported (void);
/* If it cannot be written to, io.ops->pwrite is NULL.  The place must stay.
 * NULL with *err filled in.
 */
extern struct other *nbdfile_open (const struct host_env *env,
                                   const struct place *place, bool writing,
                                   struct qcow2_error *err);

#endif /* HOST_NBDFILE_H */
