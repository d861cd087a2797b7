/* SPDX-License-Identifier: BSD-3-Clause */
/* disk.h - one open image with all that belongs to it.
 *
 * A state owns its disk.  Callers see to it that one thread at a time opens,
 * ends, puts to sleep and closes it; in between any thread may use it.
 */
#ifndef SHARE_DISK_H
#define SHARE_DISK_H

#include "qcow2.h"
#include "host/chain.h"
#include "host/claims.h"
#include "host/durable.h"
#include "host/fileid.h"
#include "below/members.h"
#include "share/corrupt.h"
#include "share/views.h"

struct abilities;
struct below;

/* An open image. */
struct disk {
  char *exportname;             /* as it was when the image was opened */
  char *name;                   /* for messages */
  struct file_id id;
  uint64_t size;                /* of the file, when it was opened */
  int fd;                       /* the local file, or -1; holds our locks */
  struct claim claim;
  struct layers layers;
  struct qcow2_image *image;
  struct lanes *lanes;          /* or NULL */
  struct writer *writer;        /* or NULL: connections use their own way */
  struct members members;       /* if there is no writer */
  struct durable durable;       /* of these */
  struct ticker *ticker;        /* or NULL */
  _Atomic uint64_t last_tick_ms; /* ticker.c; 0: never */
  struct views views;
  bool writable;
  bool ended;                   /* the image, by who had it for himself */
  bool kept;                    /* the same has made durable, before anything
                                   else, what clients have written */
  bool alone;                   /* as asked for */
  bool unlocked;                /* asleep: nothing is claimed */
  bool had_fd;                  /* and locked before */
  const char *why_read_only;    /* or NULL; constant once it is open */
  enum qcow2_advice read_only_advice;   /* what to do about that; constant */
  struct corrupt corrupt;
  _Atomic bool said_read_only;
  _Atomic bool explained;       /* why there is no space */
};

/* Open the image.  With 'own' it is reached by a connection's way; without,
 * by a shared one, which is kept if the image can be written to, and which
 * must be possible.  With 'alone' a backing file that is not to be had is left
 * out (see struct qcow2_file).  Returns NULL and logs on error.
 */
extern struct disk *disk_open (const char *exportname,
                               const struct file_id *id,
                               const struct below *own, bool readonly,
                               bool alone);

extern void disk_close (struct disk *d);
/* To be called for each connection that would like to write: log why it
 * cannot, once for each time that the image is opened.
 */
extern void disk_say_read_only (struct disk *d);
/* A connection comes which may be used for writing; disk_leave ends that. */
extern void disk_join (struct disk *d, struct below *own);
/* Nobody uses the image for now.  It may be in use all the same. */
extern void disk_idle (struct disk *d);
/* The way to the file for a request of a connection, and what is known
 * about it.
 */
extern const struct qcow2_io *disk_io (const struct disk *d,
                                       const struct below *own);
extern const struct abilities *disk_abilities (const struct disk *d,
                                               const struct below *own);
/* Through which what is written to the image's file is flushed. */
extern struct durable *disk_durable (struct disk *d);
/* Log the error of a request; returns the errno value. */
extern int disk_report (struct disk *d, const struct qcow2_error *error);

#endif /* SHARE_DISK_H */
