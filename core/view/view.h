/* SPDX-License-Identifier: BSD-3-Clause */
/* view.h - code that all kinds of views share. */
#ifndef QCOW2_VIEW_VIEW_H
#define QCOW2_VIEW_VIEW_H

#include "image/image.h"

#include <string.h>

static inline bool
q2_name_is (const struct qcow2_name *name, const void *bytes, size_t len)
{
  return name->len == len &&
    (len == 0 || memcmp (name->bytes, bytes, len) == 0);
}

/* The info of a view is its parent's, with another size, read-only, and
 * without snapshots and bitmaps.
 */
static inline void
q2_view_describe (struct qcow2_image *view, uint64_t virtual_size,
                  const char *why_read_only)
{
  const struct q2_header none = { .version = 0 };
  struct qcow2_info info = q2_image_info (view->parent);

  info.virtual_size = virtual_size;
  info.nr_snapshots = info.nr_bitmaps = 0;
  info.writable = false;
  info.why_read_only = why_read_only;
  q2_superblock_init (&view->superblock, &none, &info);
}

#endif /* QCOW2_VIEW_VIEW_H */
