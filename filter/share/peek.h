/* SPDX-License-Identifier: BSD-3-Clause */
/* peek.h - an image that is opened only to be looked into.
 *
 * One thread owns a peek.
 */
#ifndef SHARE_PEEK_H
#define SHARE_PEEK_H

#include "nbdkit_api.h"
#include "qcow2.h"
#include "share/access.h"

/* An image that somebody looks into, without a connection to it. */
struct other;
struct peek {
  struct access access;
  nbdkit_next *next;            /* a context of our own, or NULL */
  struct other *file;           /* the file itself, or NULL; see other.h */
  char *path;                   /* of that file */
  const char *name;             /* for messages */
  struct qcow2_image *inspected; /* ours, or NULL */
  struct qcow2_image *image;    /* only for what options.inspect allows */
  bool no_image;                /* after a failure: it is something else */
  const struct qcow2_io *io;
};

/* Returns -1 if the image cannot be opened. */
extern int peek_open (struct peek *p, const char *exportname, bool readonly);
/* The same, but the image may lack its backing file. */
extern int peek_open_alone (struct peek *p, const char *exportname,
                            bool readonly);
/* The same for an export of a plugin that ignores names, for its header
 * alone: no other file is opened.  Logs on error.
 */
extern int peek_header (struct peek *p, const char *exportname);
/* As a client would open it, even where there are many: only if
 * writer_possible (below/writer.h), or 'readonly' and names are ignored.  But
 * who has claimed the image is not waited for: p->access.claimed.
 */
extern int peek_open_as_client (struct peek *p, const char *exportname,
                                bool readonly);
extern void peek_close (struct peek *p);

#endif /* SHARE_PEEK_H */
