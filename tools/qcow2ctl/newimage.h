/* SPDX-License-Identifier: BSD-3-Clause */
/* newimage.h - the options of a new image: -o, -b, -F and SIZE. */
#ifndef NEWIMAGE_H
#define NEWIMAGE_H

#include "ctl.h"

struct new_image {
  const struct command *command;
  struct qcow2_create_options options;
  bool has_size;                /* options.virtual_size was given */
  const char *backing_file, *backing_format, *data_file;        /* or NULL */
};

/* What the options of the command say; the strings last as long as args.
 * Returns an exit code, having said what is wrong.
 */
extern int new_image_parse (struct new_image *n, const struct args *args);
extern int new_image_set_size (struct new_image *n, const char *text);

/* For the options of commands. */
#define NEW_IMAGE_OPTIONS                                                     \
  { "options", 'o', "KEY=VALUE,...",                                          \
    "what kind of image, see below" }

/* A list of the keys, for --help. */
extern const char new_image_help[];

#endif /* NEWIMAGE_H */
