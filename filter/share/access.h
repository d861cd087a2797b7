/* SPDX-License-Identifier: BSD-3-Clause */
/* access.h - how a connection gets at an image.
 *
 * A connection, or a peek, owns its access.  One thread sets it up and ends
 * it; in between it is constant but for what below.lock guards.
 */
#ifndef SHARE_ACCESS_H
#define SHARE_ACCESS_H

#include "nbdkit_api.h"
#include "qcow2.h"
#include "host/fileid.h"
#include "below/nbdkit_io.h"

struct disk;

/* An image, and the way to its file, of a connection or of who only looks. */
struct access {
  char *exportname;             /* of the image */
  struct file_id id;            /* of the file, before it was opened */
  struct below below;
  bool readonly;                /* whatever the image allows */
  bool alone;                   /* the image will do without its backing file,
                                   if that is not to be had; before
                                   access_open */
  bool impatient;               /* the same: it does not wait for who has
                                   claimed the image */
  bool claimed;                 /* for that reason it failed, which is not
                                   logged */
  struct state *state;          /* NULL before access_prepare, which see, and
                                   after access_end */
  struct disk *disk;            /* the state's */
  const struct qcow2_io *io;    /* the way to the file */
};

/* A context of the layer below, for access_prepare. */
enum access_needs {
  ACCESS_FAILED,                /* has been logged */
  ACCESS_NEEDS_NOTHING,
  ACCESS_NEEDS_READER,
  ACCESS_NEEDS_WRITER,
};

/* 'exportname' has 'len' bytes.  Returns -1 and logs on error. */
extern int access_init (struct access *a, const char *exportname, size_t len,
                        bool readonly);
extern enum access_needs access_open (struct access *a);
/* 'next' is what was needed, or NULL.  Returns -1 and logs on error. */
extern int access_prepare (struct access *a, nbdkit_next *next);
/* Make durable what was written through the context, unless 'own' is NULL, and
 * wait for background work that uses it.
 */
extern void access_drain (struct access *a, const struct qcow2_io *own);
/* 'own' is &a->below.io, or NULL if the context cannot be used any more. */
extern void access_end (struct access *a, const struct qcow2_io *own);
/* At any time after access_init. */
extern void access_destroy (struct access *a);

#endif /* SHARE_ACCESS_H */
