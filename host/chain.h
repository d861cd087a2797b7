/* SPDX-License-Identifier: BSD-3-Clause */
/* chain.h - the parts of a chain of images, while it is open.
 *
 * An image, and a layer, owns the references in its struct layers; layers.c
 * owns the layers; who opens an image owns its gate, on his stack.
 */
#ifndef HOST_CHAIN_H
#define HOST_CHAIN_H

#include "qcow2.h"
#include "host/claims.h"
#include "host/rules.h"

struct host_env;
struct other;

/* What the references of an image led to. */
struct layer;
struct layers {
  struct layer *backing;        /* or NULL */
  struct layer *data_file;      /* or NULL */
};

/* Backing files below one image: unless the program says otherwise, and at
 * most.  Each is open, with a descriptor, and a read that none of them answers
 * uses some stack for each.
 */
#define MAX_LAYERS 64
#define MOST_LAYERS 512

/* What must be the same for a layer to be shared. */
struct layer_key {
  struct identity id;
  const char *folder;           /* or NULL */
  enum layer_format format;     /* FORMAT_UNKNOWN: a data file */
  bool writing;
  size_t depth;                 /* 0 where it makes no difference */
  size_t passphrase;            /* likewise */
};

/* (L): guarded by layers.lock. */
struct layer {
  struct layer *next;           /* (L) */
  unsigned users;               /* (L) */
  bool ready;                   /* (L) false: being opened */
  const struct layer *needs;    /* (L) what its opening waits for */
  const struct host_env *env;
  struct layer_key key;         /* constant, as all else once it is ready */
  char *name, *folder;
  struct claim claim;
  struct other *other;
  struct qcow2_image *image;    /* NULL: a data file */
  struct layers layers;
};

/* What an image that is being opened may open, and has opened. */
struct gate {
  const struct host_env *env;
  /* gate_open_file, for whoever opens an image below this one. */
  int (*open_file) (void *gate, const struct qcow2_reference *reference,
                    struct qcow2_file *ret_file, struct qcow2_error *err);
  const struct gate *above;     /* the image that refers to it, or NULL */
  struct layer *layer;          /* that it is, or NULL: an export's image */
  struct identity id;
  const char *folder;           /* that it is in, or NULL */
  unsigned depth;               /* 0: an export's image, 1: below it ... */
  size_t nr_encrypted;          /* images above that are encrypted */
  bool write_below;             /* the file right below it is written to */
  const struct identity *write_to;      /* or that one, however far below; or
                                   NULL */
  bool blamed;                  /* the error names the layer it is about */
  struct layers layers;
};

#endif /* HOST_CHAIN_H */
