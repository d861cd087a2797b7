/* SPDX-License-Identifier: BSD-3-Clause */
/* places.h - which other files may be opened.
 *
 * 'places' belongs to the main thread until .after_fork has run; from then on
 * it is constant, and any thread may read it.
 */
#ifndef PLACES_H
#define PLACES_H

#include "qcow2.h"

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

#endif /* PLACES_H */
