/* SPDX-License-Identifier: BSD-3-Clause */
/* layers.h - the other files that an image refers to, and its passphrase.
 *
 * A chain of backing files in memory.  Writing to them fails a check, at each
 * call and once more when they are freed.
 */
#ifndef CRASH_LAYERS_H
#define CRASH_LAYERS_H

#include "memory_io.h"

#define LAYERS_MAX 8

struct layer {
  char name[64];                /* in the header of the overlay */
  bool raw;
  unsigned char *bytes;         /* owned */
  uint64_t size, hash;
  struct memory_io m;
  struct qcow2_io_ops ops;      /* m's, and ones that must not be called */
  struct qcow2_image *image;    /* while an overlay is open */
};

struct layers {
  struct layer layer[LAYERS_MAX];       /* the lowest first */
  unsigned nr;
  const char *passphrase;       /* of all encrypted ones; NULL: none is
                                   encrypted */
};

/* Add a layer on top; takes ownership of 'bytes'. */
extern void layers_add (struct layers *l, const char *name, bool raw,
                        unsigned char *bytes, uint64_t size);

/* Close the backing images. */
extern void layers_close (struct layers *l);

/* Close them, check that nothing was written, and free them. */
extern void layers_free (struct layers *l);

/* The number of reads of all layers. */
extern unsigned long layers_reads (const struct layers *l);

/* The other files, for one opening of an image. */
struct attach {
  struct layers *layers;
  const struct qcow2_io *data;  /* the data file; NULL: there is none */
};

/* Set the options with which the image can be opened.  'a' must live until it
 * is open, its layers until it is closed.
 */
extern void attach_options (struct attach *a, struct qcow2_options *options);

#endif /* CRASH_LAYERS_H */
