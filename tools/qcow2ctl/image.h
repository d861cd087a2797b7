/* SPDX-License-Identifier: BSD-3-Clause */
/* image.h - opening the image that a command is about.
 *
 * Who opens one owns it until image_close.
 */
#ifndef IMAGE_H
#define IMAGE_H

#include "ctl.h"

#include "host/chain.h"
#include "host/claims.h"

struct other;
struct rehearsal;

enum opening {
  OPEN_TO_INSPECT,              /* header, snapshots and bitmaps: no other file
                                   is opened, no passphrase is needed */
  OPEN_TO_CHANGE_KEYS,          /* the same, and the file can be written to */
  OPEN_TO_CHECK,                /* for qcow2_check */
  OPEN_TO_REPAIR,
  OPEN_TO_READ,                 /* the disk, with all files below it */
  OPEN_TO_READ_RAW,             /* it is a raw disk, no image */
  OPEN_TO_MAP,                  /* where the disk is; if no option says which
                                   file is below, without that */
  OPEN_TO_MAP_ALONE,            /* what the image itself has: no file below it
                                   is opened */
  OPEN_TO_CHANGE,
  OPEN_TO_CHANGE_HEADER,        /* the same, but no data is looked at: files
                                   that no option names need not be there */
  OPEN_TO_COMMIT,               /* the same as OPEN_TO_CHANGE, and a file below
                                   can be written to, too */
};

struct image {
  struct ctl *ctl;
  const char *name;             /* for messages: without secrets */
  struct qcow2_image *image;
  const struct qcow2_io *io;    /* for calls of the engine */
  bool changing;
  const struct identity *write_to;      /* OPEN_TO_COMMIT: which one; NULL: the
                                   backing file */
  int failed;                   /* the kind of the engine's error if the image
                                   could not be opened, or -1 */

  const char *unknown;          /* "backing file", if that was not given and
                                   need not be; else NULL */
  bool no_data;                 /* the same of the data file */

  struct place place;           /* the rest is image.c's own */
  char *folder;
  struct identity id;
  struct claim claim;
  struct other *other;
  struct rehearsal *rehearsal;  /* rehearsal.h; or NULL */
  struct qcow2_image *nothing;  /* in the place of a backing file, or NULL */
  struct layers layers;         /* files that it stands on, host/chain.h */
};

/* A path, a block device, or an NBD URI.  Returns CODE_OK, or another exit
 * code, having said what is wrong; then there is nothing to close.
 */
extern int image_open (struct ctl *ctl, struct image *i, const char *name,
                       enum opening opening);
/* For OPEN_TO_COMMIT; the identity must stay. */
extern int image_open_to_commit (struct ctl *ctl, struct image *i,
                                 const char *name,
                                 const struct identity *write_to);
/* 'code' is what came of the command.  Changes are made durable, and the image
 * is marked as closed cleanly, if it can be.  Returns the exit code:
 * CODE_CHANGED if only that has failed.  image_end leaves the image open.
 */
extern int image_close (struct image *i, int code);
extern int image_end (struct image *i, int code);

/* Without an image in it: a way to the bytes, which are locked.  For creating
 * one.  The image may be opened afterwards.
 */
extern int image_open_bytes (struct ctl *ctl, struct image *i,
                             const char *name, bool writing);
extern int image_open_inside (struct image *i, enum opening opening);

/* Open an image that is open for a check once more, to repair it as if it
 * could be written to: what is written takes 'memory' bytes at most, and is
 * gone after image_close.
 */
extern int image_rehearse (struct image *i, uint64_t memory);

/* qcow2_snapshots_complete, on an image that is open for something else, and
 * then, if this returns CODE_OK, for a check; else it is closed.
 */
extern int image_complete_snapshots (struct image *i, const char *name);

#endif /* IMAGE_H */
