/* SPDX-License-Identifier: BSD-3-Clause */
/* info.h - what one file is, printed. */
#ifndef INFO_H
#define INFO_H

#include "ctl.h"

struct value;

/* One file. */
struct subject {
  const char *name;
  const char *path;             /* of a local file, or NULL */
  struct qcow2_image *image;    /* to inspect; NULL: a raw file */
  const struct qcow2_io *io;
};

/* With qemu-img's fields.  Both return -1 with *err filled in; then there is
 * no *ret.
 */
extern int info_json (const struct subject *s, struct value **ret,
                      struct qcow2_error *err);
extern int info_print (const struct subject *s, struct qcow2_error *err);

#endif /* INFO_H */
