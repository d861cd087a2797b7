/* SPDX-License-Identifier: BSD-3-Clause */
/* layers.h - the other files that an image refers to, and its passphrase.
 *
 * A chain of backing files in memory, which nobody may write to: that is
 * checked with each call, and once more when they are freed.
 */
#ifndef CRASH_LAYERS_H
#define CRASH_LAYERS_H

#include "memory_io.h"

#define LAYERS_MAX 8

struct layer {
  char name[64];                /* as the image above it says */
  bool raw;
  unsigned char *bytes;         /* owned */
  uint64_t size, hash;
  struct memory_io m;
  struct qcow2_io_ops ops;      /* m's, with those that must not be called */
  struct qcow2_image *image;    /* while one above it is open */
};

struct layers {
  struct layer layer[LAYERS_MAX];       /* the lowest first */
  unsigned nr;
  const char *passphrase;       /* of all that are encrypted; NULL: none are */
};

/* Put a layer on top: these bytes, which become the struct's. */
extern void layers_add (struct layers *l, const char *name, bool raw,
                        unsigned char *bytes, uint64_t size);

/* Close the images that were opened below others. */
extern void layers_close (struct layers *l);

/* Close them, check that nothing has been written, and free. */
extern void layers_free (struct layers *l);

/* Host requests for bytes of any layer. */
extern unsigned long layers_reads (const struct layers *l);

/* For one opening of an image: what it finds when it asks. */
struct attach {
  struct layers *layers;
  const struct qcow2_io *data;  /* the data file; NULL: there is none */
};

/* Make the options such that the image can be opened.  'a' must stay until it
 * is; its layers until the image is closed.
 */
extern void attach_options (struct attach *a, struct qcow2_options *options);

#endif /* CRASH_LAYERS_H */
