/* SPDX-License-Identifier: BSD-3-Clause */
/* grow.h - making a local file larger, and cutting it back.
 *
 * Sizes and offsets are bytes of the file.  See grow.c for who may call what
 * at the same time.
 */
#ifndef BELOW_GROW_H
#define BELOW_GROW_H

#include "qcow2.h"

struct file_id;

struct growth;

/* 'fd' is open for reading and writing, and stays the caller's.  NULL if
 * there is no memory.
 */
extern struct growth *growth_new (int fd, const struct file_id *id,
                                  const char *exportname, const char *name,
                                  uint64_t size);
extern void growth_free (struct growth *g);
/* Make the file at least min_size bytes long, having made sure that it is
 * what 'io' writes to.  Returns 0 or an errno value.
 */
extern int growth_extend (struct growth *g, const struct qcow2_io *io,
                          uint64_t min_size, uint64_t *ret_size);
/* The last extension is of no use; never extend it again. */
extern void growth_undo (struct growth *g, const char *why);
extern int growth_cut (struct growth *g, uint64_t size);
/* Somebody is going to write up to 'end', which is inside of the file.  Any
 * number of threads may call this.
 */
extern void growth_reserve (struct growth *g, uint64_t end);

/* Where every write needs new blocks: keep some for commits, and give them to
 * one (see reserve.c).  Only once the file is proven to be what is written to.
 */
extern int growth_hold (struct growth *g);
extern bool growth_spend (struct growth *g);

#endif /* BELOW_GROW_H */
