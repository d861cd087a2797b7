/* SPDX-License-Identifier: BSD-3-Clause */
/* views.h - what an image has inside, opened as images.
 *
 * A disk owns its views; who acquires one must release it.  views.lock guards
 * the list and is never held over I/O.
 */
#ifndef SHARE_VIEWS_H
#define SHARE_VIEWS_H

#include "qcow2.h"
#include "exports.h"

#include <pthread.h>

struct disk;

/* The views of a disk, which is open. */
struct views {
  pthread_mutex_t lock;
  pthread_cond_t changed;       /* one became ready, or is gone */
  struct view *first;
};
struct view;

extern void views_init (struct views *v);
extern void views_destroy (struct views *v);
/* Nobody uses any of them any more. */
extern void views_close (struct views *v);

/* The view that the name means, opening it if nobody has it open.  'io' is
 * the connection's way to the file.  Returns NULL and logs on error.  Must be
 * released before the disk's state is.
 */
extern struct view *view_acquire (struct disk *d, const struct qcow2_io *io,
                                  const struct export_name *name);
extern void view_release (struct disk *d, struct view *view);
extern struct qcow2_image *view_image (const struct view *view);
/* Those that are kept for nobody in particular. */
extern void views_close_idle (struct disk *d);
/* For people; empty if that is not to be had. */
extern void view_describe (const struct view *view, struct disk *d,
                           const struct qcow2_io *io,
                           char ret[EXPORT_DESCRIPTION_SIZE]);
/* What to call it in messages. */
extern const char *view_label (const struct view *view);

#endif /* SHARE_VIEWS_H */
