/* SPDX-License-Identifier: BSD-3-Clause */
/* served.h - commands on an image that a server has open (-S).
 *
 * The first operand is the name of an export.  All return an exit code.
 */
#ifndef SERVED_H
#define SERVED_H

#include "ctl.h"

extern int served_snapshot_create (const struct ctl *ctl,
                                   const struct args *args);
extern int served_snapshot_apply (const struct ctl *ctl,
                                  const struct args *args);
extern int served_snapshot_delete (const struct ctl *ctl,
                                   const struct args *args);
extern int served_snapshot_list (const struct ctl *ctl,
                                 const struct args *args);
extern int served_bitmap_add (const struct ctl *ctl, const struct args *args,
                              uint64_t granularity, bool disabled);
/* "remove", "clear", "enable" or "disable". */
extern int served_bitmap_change (const struct ctl *ctl,
                                 const struct args *args, const char *verb);
extern int served_bitmap_merge (const struct ctl *ctl,
                                const struct args *args);
extern int served_bitmap_list (const struct ctl *ctl,
                               const struct args *args);
struct check_job;
/* Fills in job->r, and prints it. */
extern int served_check (struct check_job *job, const struct args *args);
/* The size of the disk, in bytes. */
extern int served_size (const struct ctl *ctl, const char *name,
                        uint64_t *ret_size);
/* Make it that large, or the next size that is possible, *ret_size; smaller
 * only with 'shrink'.
 */
extern int served_resize (const struct ctl *ctl, const char *name,
                          uint64_t size, bool shrink, uint64_t *ret_size);
extern int served_empty (const struct ctl *ctl, const struct args *args);
extern int served_info (const struct ctl *ctl, const struct args *args);

#endif /* SERVED_H */
