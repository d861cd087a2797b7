/* SPDX-License-Identifier: BSD-3-Clause */
/* durable.h - every flush of a file; a failed one is not forgotten.
 *
 * Whoever has the file open owns the struct durable.  Its lock is held over
 * the flush.
 */
#ifndef HOST_DURABLE_H
#define HOST_DURABLE_H

#include "qcow2.h"

#include <pthread.h>

struct host_env;

/* Of one file that is written to. */
struct durable {
  pthread_mutex_t lock;
  const struct host_env *env;   /* constant */
  const char *name;             /* for messages; constant */
  struct qcow2_image *_Atomic image;    /* that is told, or NULL */
  _Atomic bool lost;            /* once */
};

/* The name must stay, and the env. */
extern void durable_init (struct durable *d, const struct host_env *env,
                          const char *name);
extern void durable_destroy (struct durable *d);
/* Whether what was written may be lost: then nothing must be written. */
extern bool durable_is_lost (const struct durable *d);
/* It may; logs, once. */
extern void durable_lose (struct durable *d, const char *why);
/* Every flush of the file; 'flush' does it.  Returns 0 or an errno value. */
extern int durable_flush (struct durable *d, int (*flush) (void *opaque),
                          void *opaque);
/* To be called before the file, a descriptor of it or -1, is closed: if a
 * flush has failed, what is read from it next is what is on the disk.
 */
extern void durable_forget (const struct durable *d, int fd);

#endif /* HOST_DURABLE_H */
