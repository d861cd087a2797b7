/* SPDX-License-Identifier: BSD-3-Clause */
/* handle.h - a connection.
 *
 * It owns its handle, which is constant from .prepare to .finalize, or .close.
 */
#ifndef HANDLE_H
#define HANDLE_H

#include "qcow2.h"
#include "exports.h"
#include "share/access.h"

struct rawfile;
struct view;

/* One per connection. */
struct handle {
  struct access access;
  char *name;                   /* of the export */
  struct export_name parsed;    /* points into it */
  struct view *view;            /* or NULL: the active disk */
  bool raw;                     /* a raw disk (raw.c): no disk, view, image */
  struct rawfile *rawfile;      /* of that; NULL before .open */
  struct qcow2_image *image;    /* the disk's, or the view's */
  bool late;                    /* .close is to give them back, as .finalize
                                   has left that to it */
  bool over;                    /* it has been given back */
  char description[EXPORT_DESCRIPTION_SIZE];
};

#endif /* HANDLE_H */
