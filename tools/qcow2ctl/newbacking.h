/* SPDX-License-Identifier: BSD-3-Clause */
/* newbacking.h - the backing file that an image is going to have.
 *
 * The format is what option -F of the command says.  All return an exit code,
 * having said what is wrong.
 */
#ifndef NEWBACKING_H
#define NEWBACKING_H

#include "image.h"

#include "host/rules.h"

/* Who opens one owns it until new_backing_close; it must not move. */
struct new_backing {
  struct qcow2_file file;       /* image NULL: there is to be none */

  struct rules rules;           /* the rest is newbacking.c's own */
  struct host_words words;
  struct host_env env;
  struct layers layers;
};

/* 'file' NULL or "": none.  Whether it goes together with -F, and is not the
 * image itself.
 */
extern int new_backing_check (const struct args *args, const char *file);

/* What the header is to say; pointers into 'args'. */
struct backing_header {
  struct qcow2_name file, format;
  unsigned flags;               /* QCOW2_SET_BACKING_... */
};
extern struct backing_header new_backing_header (const struct args *args,
                                                 const char *file);

/* Open it, with all that it stands on; or find it below the image, which is
 * open and stays so.
 */
extern int new_backing_open (struct new_backing *b, const struct image *i,
                             const struct args *args, const char *file);
extern void new_backing_close (struct new_backing *b);

/* Let the header of the command's image name it, whatever it has. */
extern int new_backing_in_header (struct ctl *ctl, const struct args *args,
                                  const char *file);

#endif /* NEWBACKING_H */
