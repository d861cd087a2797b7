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
extern int served_checkpoint (const struct ctl *ctl, const struct args *args,
                              uint64_t granularity);
struct talk;
struct talk_argument;
struct progress;
/* With -p as a job, whose progress is shown, and which ^C cancels; else as
 * talk_once, for what returns nothing.
 */
extern int served_with_progress (const struct ctl *ctl, const char *command,
                                 const struct talk_argument *arguments);
/* Until it has concluded. */
extern int served_wait_for_job (struct talk *t, const char *id,
                                struct progress *progress);
/* A command about a job. */
extern int served_send_id (struct talk *t, const char *command,
                           const char *id);
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
