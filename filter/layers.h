/* SPDX-License-Identifier: BSD-3-Clause */
/* layers.h - what the files about other files share: backing files and data
 * files, which an image does not hold itself.
 *
 * From the bottom up:
 * places.c      the parameters that say which other files may be opened
 * secrets.c     passphrases
 * names.c       what a name and a format in a header mean
 * follow.c      files beneath the folder of qcow2-follow
 * localfile.c   the way to the bytes of another file: a local one,
 * nbdfile.c     one on an NBD server, over the connections of nbdpool.c,
 * exportfile.c  another export of the plugin
 * find.c        from a name in a header to the file that it may open
 * layer.c       one backing file or data file: opening it, closing it
 * layers.c      those that are open, shared by all images that stand on them
 * gate.c        every reference of an image comes through here
 */
#ifndef LAYERS_H
#define LAYERS_H

#include "filter.h"

/* ---- places.c --------------------------------------------------------- */

/* Where another file is, as a parameter says. */
enum place_kind {
  PLACE_FILE,                   /* text is an absolute path */
  PLACE_URI,
  PLACE_EXPORT,                 /* text is an export name */
};

struct place {
  enum place_kind kind;
  char *text;
  char *name;                   /* for messages: without secrets */
};

enum layer_format { FORMAT_UNKNOWN, FORMAT_RAW, FORMAT_QCOW2 };

struct passphrase {
  char *bytes;                  /* pages of its own; a NUL byte at the end */
  size_t len;
};

/* Constant after after_fork. */
struct places {
  struct place *backing;        /* from the top of the chain downwards */
  size_t nr_backing;
  enum layer_format *formats;   /* of these, or of what follow finds */
  size_t nr_formats;
  struct place *data_file;      /* or NULL */
  char *follow;                 /* absolute, without links; or NULL */
  char *follow_given;           /* absolute, as it was given */
  int follow_fd;                /* O_PATH, or -1 */
  struct passphrase *passphrases;
  size_t nr_passphrases;
  struct qcow2_keyring *keyring; /* of images they open; or NULL */
};
extern struct places places;

/* Returns 1 if the key is one of these, 0 if not, -1 and logs on error. */
extern int places_parse (const char *key, const char *value);
/* Whether they go together with what config knows by now; -1 and logs if
 * not.
 */
extern int places_complete (void);
/* Keeps secrets out of the swap. */
extern void places_after_fork (void);
/* Secrets are wiped. */
extern void places_unload (void);
/* The folder that a path is in, absolute and without links; NULL if there is
 * none.
 */
extern char *folder_of (const char *path);
/* The passphrase of the n-th encrypted image of a chain, counted from 0;
 * bytes is NULL if there is none.
 */
extern struct passphrase places_passphrase (size_t n);

/* ---- secrets.c -------------------------------------------------------- */

/* What a parameter says: '+FILE', '-', '-FD', or the passphrase itself.
 * Returns -1 and logs on error.
 */
extern int passphrase_read (struct passphrase *ret, const char *value);
/* Keep it out of the swap. */
extern void passphrase_lock (struct passphrase *p);
extern void passphrase_wipe (struct passphrase *p);

/* ---- names.c ---------------------------------------------------------- */

/* Make an error; always returns -1. */
extern int fail_with (struct qcow2_error *err, enum qcow2_error_kind kind,
                      int errnum, const char *fmt, ...)
  __attribute__ ((__format__ (__printf__, 4, 5)));
/* Put words in front of its text; always returns -1. */
extern int fail_in (struct qcow2_error *err, const char *fmt, ...)
  __attribute__ ((__format__ (__printf__, 2, 3)));

/* Bytes from an image as text for messages: in quotes, everything unusual
 * escaped, cut short if it is long.
 */
#define PRINTABLE_SIZE 160
extern const char *printable (char out[PRINTABLE_SIZE], const char *bytes,
                              size_t len);

/* The path that a name in a header stands for, in *path.  Returns NULL, or
 * why it stands for none: the rest of the sentence "the name ...".
 */
#define NAME_SIZE 1024
extern const char *name_to_path (const struct qcow2_reference *reference,
                                 char path[NAME_SIZE]);
/* FORMAT_UNKNOWN if it is none that is served. */
extern enum layer_format name_to_format (const char *name, size_t len);
/* "backing file" or "data file" */
extern const char *reference_kind (const struct qcow2_reference *reference);

/* ---- follow.c --------------------------------------------------------- */

/* Look up a path, relative to the folder of qcow2-follow, that must not
 * leave it, with nothing opened but for looking.  Returns a descriptor that
 * stands for the regular file, -1 with errno set on error: EXDEV if it would
 * leave the folder, ELOOP because of a link, EINVAL if it is no regular file.
 */
extern int follow_find (const char *path);
/* Open what such a descriptor stands for. */
extern int follow_open (int path_fd, int flags);
/* The part of an absolute path that lies in the folder, "" for the folder
 * itself; NULL if it lies elsewhere.
 */
extern const char *follow_beneath (const char *path);

/* ---- localfile.c, nbdfile.c, exportfile.c ------------------------------- */

/* A way to the bytes of another file, for any thread. */
struct other {
  struct qcow2_io io;           /* concurrent */
  struct qcow2_io_ops ops;
  void (*close) (struct other *other);
};

/* The descriptor, of a regular file or block device, becomes its own; it is
 * closed on error, too.
 */
extern struct other *localfile_new (int fd, const char *name, bool writing,
                                    struct qcow2_error *err);

extern bool nbdfile_supported (void);
/* If it cannot be written to, io.ops->pwrite is NULL.  The place must
 * stay.
 */
extern struct other *nbdfile_open (const struct place *place, bool writing,
                                   struct qcow2_error *err);

extern bool exportfile_supported (void);
extern struct other *exportfile_open (const struct place *place,
                                      struct qcow2_error *err);

/* ---- find.c ----------------------------------------------------------- */

/* The file that a reference may open. */
struct found {
  struct identity id;
  enum layer_format format;     /* of a backing file */
  const struct place *place;    /* from a parameter; or NULL: followed */
  int fd;                       /* O_PATH, or -1: not a local file */
  char *name;                   /* for messages */
  char *folder;                 /* that it is in, or NULL */
};

struct gate;
/* Returns 0, or -1 with *err filled in, and nothing opened but for looking:
 * it may be a file that must not be used.
 */
extern int find_file (const struct gate *gate,
                      const struct qcow2_reference *reference,
                      struct found *found, struct qcow2_error *err);
extern void found_free (struct found *found);

/* ---- layer.c ---------------------------------------------------------- */

/* Backing files below one image. */
#define MAX_LAYERS 64

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
  struct layer_key key;         /* constant, as all else once it is ready */
  char *name, *folder;
  struct claim claim;
  int lock_fd;                  /* of another export's local file, or -1 */
  struct other *other;
  struct qcow2_image *image;    /* NULL: a data file */
  struct layers layers;
};

/* Open one that layers.c has made.  On error it must be closed, too. */
extern int layer_open (struct layer *l, struct gate *gate,
                       const struct found *found,
                       const struct qcow2_reference *reference,
                       struct qcow2_error *err);
extern void layer_close (struct layer *l);

extern void layer_get_file (const struct layer *layer,
                            struct qcow2_file *ret_file);
/* Whether it is that file, or stands on it. */
extern bool layer_contains (const struct layer *layer,
                            const struct identity *id);
/* Whether it, or what it stands on, is one of these images or their other
 * files.
 */
extern bool layer_clashes (const struct layer *layer,
                           const struct gate *gate);
extern unsigned layer_depth (const struct layer *layer);
/* How many backing files are below each other. */
extern unsigned layers_depth (const struct layers *layers);

/* ---- layers.c --------------------------------------------------------- */

/* To be called after the image was closed. */
extern void layers_release (struct layers *layers);
/* The layer for a file that a gate has found; it must be released.  Returns
 * NULL with *err filled in.
 */
extern struct layer *layer_acquire (struct gate *gate,
                                    const struct found *found,
                                    const struct qcow2_reference *reference,
                                    struct qcow2_error *err);
extern void layer_release (struct layer *layer);

/* ---- gate.c ----------------------------------------------------------- */

/* What an image that is being opened may open, and has opened. */
struct gate {
  const struct gate *above;     /* the image that refers to it, or NULL */
  struct layer *layer;          /* that it is, or NULL: an export's image */
  struct identity id;
  const char *folder;           /* that it is in, or NULL */
  unsigned depth;               /* 0: an export's image, 1: below it ... */
  size_t nr_encrypted;          /* images above that are encrypted */
  bool blamed;                  /* the error names the layer it is about */
  struct layers layers;
};

/* For qcow2_options; opaque is the gate. */
extern int gate_open_file (void *opaque,
                           const struct qcow2_reference *reference,
                           struct qcow2_file *ret_file,
                           struct qcow2_error *err);
/* Whether the file is one of the image's, or of the chain that leads to it. */
extern bool gate_contains (const struct gate *gate,
                           const struct identity *id);
/* The image was opened: were all parameters used?  Only for those of
 * exports.
 */
extern int gate_check_unused (const struct gate *gate,
                              const struct qcow2_image *image,
                              struct qcow2_error *err);

#endif /* LAYERS_H */
