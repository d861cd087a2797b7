/* SPDX-License-Identifier: BSD-3-Clause */
/* localfile.h - the bytes of another file that is local.
 */
#ifndef LOCALFILE_H
#define LOCALFILE_H

#include "qcow2.h"

struct other;

/* The descriptor, of a regular file or block device, becomes its own; it is
 * closed on error, too.
 */
extern struct other *localfile_new (int fd, const char *name, bool writing,
                                    struct qcow2_error *err);

#endif /* LOCALFILE_H */
