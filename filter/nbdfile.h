/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdfile.h - the bytes of another file that is on an NBD server.
 */
#ifndef NBDFILE_H
#define NBDFILE_H

#include "qcow2.h"

struct other;
struct place;

extern bool nbdfile_supported (void);
/* If it cannot be written to, io.ops->pwrite is NULL.  The place must
 * stay.
 */
extern struct other *nbdfile_open (const struct place *place, bool writing,
                                   struct qcow2_error *err);

#endif /* NBDFILE_H */
