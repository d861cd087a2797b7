/* SPDX-License-Identifier: BSD-3-Clause */
/* writer.h - the one I/O handle of a file that is written to.
 *
 * An image owns its writer, and the writer its growth.  What is returned stays
 * the writer's.
 */
#ifndef BELOW_WRITER_H
#define BELOW_WRITER_H

#include "qcow2.h"

struct abilities;
struct durable;

struct growth;
struct host_env;
struct writer;

/* Whether an image can be reached by one shared way. */
extern bool writer_possible (void);
/* Returns NULL and logs on error.  The growth becomes the writer's. */
extern struct writer *writer_new (const struct host_env *env,
                                  const char *exportname, const char *name);
extern void writer_free (struct writer *w);
extern void writer_use_growth (struct writer *w, struct growth *growth);
extern const struct qcow2_io *writer_io (const struct writer *w);
extern const struct abilities *writer_abilities (const struct writer *w);
/* What is below may have become larger without us, to 'size' bytes.  Returns
 * how many can be reached now; 0 if it grows by us only (grow.c).
 */
extern uint64_t writer_look_again (struct writer *w, uint64_t size);
extern struct durable *writer_durable (struct writer *w);

#endif /* BELOW_WRITER_H */
