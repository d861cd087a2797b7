/* SPDX-License-Identifier: BSD-3-Clause */
/* newimage.h - the options of a new image: -o, -b, -F and SIZE. */
#ifndef NEWIMAGE_H
#define NEWIMAGE_H

#include "ctl.h"

#include "host/newimage.h"

struct request {
  const struct command *command;
  struct new_image image;       /* host/newimage.h */
};

/* What the options of the command say; request_free whatever it returns.
 * Returns an exit code, having said what is wrong.
 */
extern int request_parse (struct request *r, const struct args *args);
extern int request_set_size (struct request *r, const char *text);
extern void request_free (struct request *r);

/* For the options of commands. */
#define NEW_IMAGE_OPTIONS                                                     \
  { "options", 'o', "KEY=VALUE,...",                                          \
    "what kind of image, see below" }

/* A list of the keys, for --help. */
extern const char new_image_help[];

#endif /* NEWIMAGE_H */
