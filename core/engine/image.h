/* SPDX-License-Identifier: BSD-3-Clause */
/* image.h - what an open image consists of.  Private to open.c, attach.c and
 * image.c, and to feature/.
 */
#ifndef QCOW2_ENGINE_IMAGE_H
#define QCOW2_ENGINE_IMAGE_H

#include "engine/reader.h"
#include "engine/writer.h"

/* Everything is constant after q2_image_init, or guards itself. */
struct qcow2_image {
  struct q2_geometry geo;
  struct qcow2_info info;
  uint64_t file_size;
  struct q2_io_shared shared;
  struct q2_store store;
  struct q2_reader reader;
  struct q2_writer writer;      /* used if info.writable */
};

static inline struct q2_io
q2_image_io (struct qcow2_image *image, const struct qcow2_io *host)
{
  return (struct q2_io) { host, image->file_size, &image->shared };
}

/* attach.c: open what the header refers to, and unlock the image. */
extern int q2_attach (struct q2_store *store, const struct q2_io *io,
                      const struct q2_header *header,
                      const struct qcow2_options *options,
                      struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

/* Fill in an image, of which only file_size and counting are set, from the
 * file.  On error what was made so far stays in it for qcow2_close.
 */
extern int q2_image_init (struct qcow2_image *image,
                          const struct qcow2_io *host,
                          const struct qcow2_options *options,
                          struct qcow2_error *err)
  __attribute__ ((__nonnull__, __warn_unused_result__));

#endif /* QCOW2_ENGINE_IMAGE_H */
