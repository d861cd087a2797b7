/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdpool.h - connections to an NBD server; for nbdfile.c, with libnbd. */
#ifndef HOST_NBDPOOL_H
#define HOST_NBDPOOL_H

#include "qcow2.h"
#include "host/rules.h"

#include <libnbd.h>

struct host_env;

struct connection {
  struct connection *next;
  struct nbd_handle *nbd;
};

struct nbdpool;

/* With one connection.  Returns NULL with *err filled in. */
extern struct nbdpool *nbdpool_new (const struct host_env *env,
                                    const struct place *place,
                                    struct qcow2_error *err);
/* Make what connections there are going to be, for writing; while nobody has
 * taken any.
 */
extern void nbdpool_seal (struct nbdpool *p);
/* The first connection, while nobody has taken any. */
extern struct nbd_handle *nbdpool_first (const struct nbdpool *p);
/* All must have been put back, or dropped.  NULL is allowed. */
extern void nbdpool_free (struct nbdpool *p);

/* A connection for the caller alone.  NULL and logs if there is none to be
 * had.
 */
extern struct connection *nbdpool_take (struct nbdpool *p);
extern void nbdpool_put_back (struct nbdpool *p, struct connection *c);
/* It is broken. */
extern void nbdpool_drop (struct nbdpool *p, struct connection *broken);

/* The last error of libnbd on this thread, without secrets. */
extern const char *nbdpool_message (const struct place *place);

#endif /* HOST_NBDPOOL_H */
