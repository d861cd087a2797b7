/* SPDX-License-Identifier: BSD-3-Clause */
/* rules.h - which other files may be opened.
 *
 * Values only: the program that host/ is a part of fills them in, owns them,
 * and keeps them as long as anything that was opened by them.
 */
#ifndef HOST_RULES_H
#define HOST_RULES_H

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

/* The files that parameters name, and the folder that may be followed into.
 * The program owns it; constant.
 */
struct rules {
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

/* The passphrase of the n-th encrypted image of a chain, counted from 0: the
 * last one that there is for all that follow.  bytes is NULL if there is none.
 */
extern struct passphrase rules_passphrase (const struct rules *rules,
                                           size_t n);
/* Which one of them that is; 0 if there is none. */
extern size_t rules_nth_passphrase (const struct rules *rules, size_t n);

#endif /* HOST_RULES_H */
