/* SPDX-License-Identifier: BSD-3-Clause */
/* newimage.h - the options of a new image, as people write them.
 *
 *      SIZE,compat=1.1,cluster_size=64K,backing_file=a,,b.raw,backing_fmt=raw
 *
 * The names are those of qemu-img's -o.  A comma in a value is written twice.
 */
#ifndef HOST_NEWIMAGE_H
#define HOST_NEWIMAGE_H

#include "qcow2.h"

struct new_image {
  struct qcow2_create_options options;  /* names point to: */
  char *backing_file, *backing_format, *data_file;
  char *luks_words[5];          /* those of options.luks */
  bool has_size;
};

/* Take one option; 'value' NULL: it has none, which means "on".  Which options
 * go together is qcow2_create's business.
 */
extern int new_image_option (struct new_image *image, const char *key,
                             const char *value, struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 4), __warn_unused_result__));

/* Called for words that are no option of an image.  1: it is one of the
 * caller's, 0: it is not, -1 with *err.
 */
typedef int (*new_image_other_fn) (void *opaque, const char *key,
                                   const char *value,
                                   struct qcow2_error *err);

/* Take a list of options.  'other' may be NULL. */
extern int new_image_options (struct new_image *image, const char *list,
                              new_image_other_fn other, void *opaque,
                              struct qcow2_error *err)
  __attribute__ ((__nonnull__ (1, 2, 5), __warn_unused_result__));

extern void new_image_free (struct new_image *image)
  __attribute__ ((__nonnull__));

#endif /* HOST_NEWIMAGE_H */
