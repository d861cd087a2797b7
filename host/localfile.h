/* SPDX-License-Identifier: BSD-3-Clause */
/* localfile.h - the bytes of another file that is local.
 *
 * Who opens one owns it until its close (other.h); the name must stay.
 */
#ifndef HOST_LOCALFILE_H
#define HOST_LOCALFILE_H

#include "qcow2.h"

struct host_env;
struct other;

/* The descriptor, of a regular file or block device, becomes its own; it is
 * closed on error, too.
 */
extern struct other *localfile_new (const struct host_env *env, int fd,
                                    const char *name, bool writing,
                                    struct qcow2_error *err);

#endif /* HOST_LOCALFILE_H */
